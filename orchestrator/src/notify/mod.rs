//! Notifications: what becomes of a run is posted to the addresses that its experiment and the settings
//! name. The addresses may be secrets: with their variables filled in they are kept where secrets are,
//! and nowhere else.

mod message;
mod post;

use std::path::Path;

use rocket_common::error::{Error, Result};
use rocket_common::events::Event;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{Experiment, Notify, NotifyEvent};
use rocket_common::run_dir::{Manifest, RunDir};
use serde::{Deserialize, Serialize};

use crate::slurm::secrets;
use post::Poster;

pub(crate) use post::Patience;

/// Where to post, about what.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hook {
    url: String,
    events: Vec<NotifyEvent>,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.shown(), self.events)
    }
}

impl Hook {
    /// The address without what may be secret in it.
    fn shown(&self) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("", &self.url));
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        format!("{scheme}://{host}/...")
    }
}

/// All hooks of a run: those of its experiment and those of the settings.
///
/// # Errors
/// Kind [`ExitKind::Usage`]: a variable is not set, or what it holds is no address.
pub(crate) fn hooks<'a>(all: impl IntoIterator<Item = &'a Notify>) -> Result<Vec<Hook>> {
    let mut hooks: Vec<Hook> = Vec::new();
    for notify in all {
        let addresses = notify.addresses(&|name| std::env::var(name).ok());
        let addresses = addresses.map_err(|wrong| {
            Error::new(ExitKind::Usage, wrong)
                .hint("set the variable where you submit, or take the address out of 'notify'")
        })?;
        for url in addresses {
            match hooks.iter_mut().find(|hook| hook.url == url) {
                Some(hook) => hook.events.extend(&notify.events),
                None => hooks.push(Hook {
                    url,
                    events: notify.events.clone(),
                }),
            }
        }
    }
    Ok(hooks)
}

fn name(run_id: &str) -> String {
    format!("{run_id}.notify.json")
}

/// Keeps the hooks of a run.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(runs: &Path, run_id: &str, hooks: &[Hook]) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_string(hooks)
        .map_err(|error| Error::new(ExitKind::Internal, error.to_string()))?;
    secrets::keep(runs, &name(run_id), &text)
}

/// Has an evaluation tell those whom its run told, while that is known; else whom the experiment names.
/// That nobody can be told ends no evaluation.
pub(crate) fn hand_on(runs: &Path, from: &str, to: &str, experiment: &Experiment) {
    let kept = secrets::kept(runs, &name(from)).ok().flatten();
    let given = match kept {
        Some(text) => secrets::keep(runs, &name(to), &text),
        None => hooks([&experiment.notify]).and_then(|hooks| write(runs, to, &hooks)),
    };
    if let Err(error) = given {
        tracing::warn!("nobody is notified: {error}");
    }
}

/// Forgets them.
pub(crate) fn remove(runs: &Path, run_id: &str) {
    let _ = secrets::forget(runs, &name(run_id));
}

/// Tells what happens to one run.
pub(crate) struct Notifier {
    hooks: Vec<Hook>,
    run: RunDir,
    manifest: Manifest,
    poster: Option<Poster>,
}

impl Notifier {
    /// Of a run; silent if nobody wants to be told, or if that cannot be read, which is logged.
    pub(crate) fn of(run: &RunDir, manifest: &Manifest) -> Self {
        let runs = run.path().parent().unwrap_or(Path::new("/"));
        let text = secrets::kept(runs, &name(&run.id()));
        let hooks = text.and_then(|text| match text {
            None => Ok(Vec::new()),
            Some(text) => serde_json::from_str(&text)
                .map_err(|error| Error::new(ExitKind::Internal, error.to_string())),
        });
        Self {
            hooks: hooks.unwrap_or_else(|error| {
                tracing::warn!("nobody is notified: {error}");
                Vec::new()
            }),
            run: run.clone(),
            manifest: manifest.clone(),
            poster: None,
        }
    }

    /// Posts an event to those who want to know of it, in the background.
    pub(crate) fn tell(&mut self, event: &Event) {
        if let Some(what) = message::kind(event) {
            self.post(what, event);
        }
    }

    /// Posts that the scheduler took the nodes without the grace to stop.
    pub(crate) fn preempted(&mut self, event: &Event) {
        self.post(NotifyEvent::Preempted, event);
    }

    fn post(&mut self, what: NotifyEvent, event: &Event) {
        let wanted = |hook: &&Hook| hook.events.contains(&what);
        let hooks: Vec<Hook> = self.hooks.iter().filter(wanted).cloned().collect();
        if hooks.is_empty() {
            return;
        }
        let body = message::body(what, event, &self.run, &self.manifest);
        let poster = self.poster.get_or_insert_with(Poster::start);
        for hook in hooks {
            poster.post(hook, body.clone());
        }
    }

    /// Waits until everything was posted, or for as long as there is patience.
    pub(crate) fn finish(&mut self, patience: Patience) {
        if let Some(poster) = self.poster.take() {
            poster.finish(patience);
        }
    }
}
