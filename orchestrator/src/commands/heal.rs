//! `rocket heal`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use rocket_common::error::Result;
use rocket_common::events::{self, Event, EventKind, EventWriter, RunState, Status};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{BackendKind, Experiment};
use rocket_common::run_dir::{self, Manifest, RunDir};
use serde::Serialize;

use crate::backend::{Backend, Backends, Handover, Liveness, Outlook};
use crate::notify::{Notifier, Patience};
use crate::output::{Format, Report};
use crate::requests;
use crate::runs::Runs;
use crate::slurm::job::Over;
use crate::supervisor::history_of;

/// How long one run's hand-over may wait for a controller: the next visit comes soon.
const PATIENCE: Duration = Duration::from_secs(20);

/// Start runs again that Slurm let fall: preempted for good, out of time, without a supervisor
///
/// Looks at every run of yours, or at the named ones, with one question to Slurm. It can be called as
/// often as you like and by any number of people at once, from cron for example: each run is handed
/// over once. What was finished, failed or cancelled stays so.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs, by id, beginning of an id, or experiment name; all of yours if none is named
    #[arg(value_name = "RUN")]
    queries: Vec<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: Format,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let backends = Backends::default();
    let named = !args.queries.is_empty();
    let found = if named {
        args.queries
            .iter()
            .map(|query| runs.find(query))
            .collect::<Result<Vec<_>>>()?
    } else {
        run_dir::list(&runs.root()?)?
    };
    let me = crate::submit::user();
    let mut report = Healed {
        dry_run: args.dry_run,
        ..Healed::default()
    };
    for run in found {
        match visit(&run, &backends, args, named, &me) {
            Ok(Some(line)) => report.runs.push(line),
            Ok(None) => report.in_order += 1,
            // One damaged run must not keep the others from being healed.
            Err(error) => {
                report.troubled = true;
                report.runs.push(Line {
                    run: run.id(),
                    deed: Deed::Trouble,
                    job: None,
                    words: error.to_string(),
                });
            }
        }
    }
    let code = if report.troubled {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    };
    args.format.print(&report)?;
    Ok(code)
}

/// One run: judged by what is on the disk before the look at the scheduler, so that whoever starts it
/// between the two takes the number of the next submission away.
fn visit(
    run: &RunDir,
    backends: &Backends,
    args: &Args,
    named: bool,
    me: &str,
) -> Result<Option<Line>> {
    let manifest = run.manifest()?;
    let elsewhere = manifest.imported.is_some() || manifest.backend != BackendKind::Slurm;
    if elsewhere || !named && manifest.user != me {
        return Ok(None);
    }
    let number = run.highest_submission()?.map_or(0, |highest| highest + 1);
    let before = events::derive(&events::read(run)?);
    if run.is_done() || is_over(before.status) {
        return Ok(None);
    }
    let backend = backends.of(manifest.backend);
    let outlook = backend.outlook(run, &manifest)?;
    // The job may have come to its end between the two looks.
    let events = events::read(run)?;
    let state = events::derive(&events);
    let epitaph = || outlook.job.as_deref().and_then(|job| backend.epitaph(job));
    let cancelled = requests::cancelled(run).is_some();
    let finding = judge(
        &state,
        &outlook,
        cancelled,
        run.job_of(number.saturating_sub(1))?.is_some(),
        epitaph,
    );
    let line = |deed, job, words: String| {
        Ok(Some(Line {
            run: run.id(),
            deed,
            job,
            words,
        }))
    };
    match finding {
        Finding::InOrder => Ok(None),
        Finding::Held(words) => line(Deed::Held, outlook.job, words),
        Finding::Unclear(words) => line(Deed::Unclear, outlook.job, words),
        Finding::Cancelled(words) if args.dry_run => line(Deed::Cancelled, None, words),
        Finding::Cancelled(words) => {
            let mut writer = EventWriter::new(run, &format!("heal-{number:03}"));
            writer.append(Event::new(EventKind::Cancelled).cause(&words))?;
            line(Deed::Cancelled, None, words)
        }
        Finding::Fallen { words, excused } => {
            let limit = Experiment::read(&run.experiment_path())?
                .cluster
                .max_crashes;
            let crashes = history_of(&events).crashes;
            if !excused && state.status != Status::Lost && crashes >= limit.max(1) {
                let words = format!(
                    "{words}; given up after {crashes} failures without progress (cluster.max_crashes)"
                );
                if !args.dry_run {
                    let exit = ExitKind::Internal;
                    let event = Event::new(EventKind::Failed { exit }).cause(&words);
                    EventWriter::new(run, &format!("heal-{number:03}")).append(event.clone())?;
                    let mut notifier = Notifier::of(run, &manifest);
                    notifier.tell(&event);
                    notifier.finish(Patience::Long);
                }
                return line(Deed::GivenUp, None, words);
            }
            if args.dry_run {
                return line(Deed::Restarted, None, words);
            }
            let lost = Event::new(EventKind::SupervisorLost)
                .cause(&words)
                .excused(excused);
            match restart(run, &manifest, backend, number, &state, &lost) {
                Ok(job) => line(Deed::Restarted, job, words),
                // Somebody else was quicker.
                Err(error) if error.kind() == ExitKind::Fenced => Ok(None),
                Err(error) => Err(error),
            }
        }
    }
}

fn restart(
    run: &RunDir,
    manifest: &Manifest,
    backend: &dyn Backend,
    number: u32,
    state: &RunState,
    lost: &Event,
) -> Result<Option<String>> {
    backend.submit(&Handover {
        number: Some(number),
        exclude: &state.excluded,
        lost: (state.status != Status::Lost).then_some(lost),
        patience: PATIENCE,
        ..Handover::new(run, manifest, "started again by heal")
    })
}

fn is_over(status: Status) -> bool {
    matches!(
        status,
        Status::Finished | Status::Failed | Status::Cancelled
    )
}

/// What is the matter with a run.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    /// Nothing.
    InOrder,
    /// Its job waits for somebody to release it.
    Held(String),
    /// It may or may not be in order.
    Unclear(String),
    /// Its user ended it.
    Cancelled(String),
    /// Nobody will start it again.
    Fallen {
        /// What happened.
        words: String,
        /// Slurm took the nodes, or lost them: no failure of the run.
        excused: bool,
    },
}

/// `confirmed`: Slurm has confirmed the last submission. `epitaph`: what Slurm remembers of its job.
fn judge(
    state: &RunState,
    outlook: &Outlook,
    cancelled: bool,
    confirmed: bool,
    epitaph: impl FnOnce() -> Option<Over>,
) -> Finding {
    if is_over(state.status) {
        return Finding::InOrder;
    }
    match outlook.liveness {
        Liveness::Alive if outlook.held => {
            let words = outlook.waiting.clone().unwrap_or_default();
            return Finding::Held(match &outlook.hint {
                Some(hint) => format!("{words}; {hint}"),
                None => words,
            });
        }
        Liveness::Alive => return Finding::InOrder,
        Liveness::Unknown => {
            let words = outlook.trouble.clone();
            return Finding::Unclear(
                words.unwrap_or_else(|| "somebody on another host is handing it over".into()),
            );
        }
        Liveness::Gone => {}
    }
    if cancelled {
        return Finding::Cancelled("cancelled by the user".into());
    }
    let job = outlook.job.as_deref().unwrap_or("?");
    let fallen = |words: String| Finding::Fallen {
        words,
        excused: false,
    };
    match epitaph() {
        Some(Over::Cancelled) => {
            Finding::Cancelled(format!("cancelled by the user, with scancel of job {job}"))
        }
        Some(over) => Finding::Fallen {
            words: format!("job {job} is over ({})", words(over)),
            // A time limit that kills the supervisor is not one of them: its own count is that of stops
            // in time, and without any count it would be met for ever.
            excused: matches!(over, Over::Preempted | Over::NodeFailure),
        },
        None if !confirmed => fallen("it was never handed to Slurm".into()),
        // It never started: that is what a cancelled job looks like once Slurm has forgotten it.
        None if state.status == Status::Pending => Finding::Unclear(format!(
            "job {job} left the queue without having been started: somebody cancelled it, or Slurm lost it; 'rocket resume' starts it again"
        )),
        None => fallen(format!(
            "job {job} is gone, and its supervisor left no word"
        )),
    }
}

fn words(over: Over) -> &'static str {
    match over {
        Over::Cancelled => "cancelled",
        Over::Preempted => "preempted for good",
        Over::TimeLimit => "time limit",
        Over::NodeFailure => "a node was lost",
        Over::Other => "its supervisor left",
    }
}

/// What was done to one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Deed {
    Restarted,
    Cancelled,
    GivenUp,
    Held,
    Unclear,
    Trouble,
}

#[derive(Debug, Serialize)]
struct Line {
    run: String,
    deed: Deed,
    job: Option<String>,
    words: String,
}

#[derive(Debug, Default, Serialize)]
struct Healed {
    runs: Vec<Line>,
    in_order: usize,
    troubled: bool,
    dry_run: bool,
}

impl Report for Healed {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for Line {
            run,
            deed,
            job,
            words,
        } in &self.runs
        {
            let deed = match (deed, job) {
                (Deed::Restarted, Some(job)) => format!("started again as job {job}"),
                (Deed::Restarted, None) => "would be started again".into(),
                (Deed::Cancelled, _) => "noted as cancelled".into(),
                (Deed::GivenUp, _) => "given up".into(),
                (Deed::Held, _) => "held".into(),
                (Deed::Unclear, _) => "left alone".into(),
                (Deed::Trouble, _) => "error".into(),
            };
            writeln!(out, "{run}: {deed}: {words}")?;
        }
        // Silence means that all is well: cron mails whatever is said. Who tries it out is told.
        if self.dry_run && self.runs.is_empty() {
            writeln!(out, "nothing to heal: {} runs are in order", self.in_order)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(kinds: Vec<EventKind>) -> RunState {
        events::derive(&kinds.into_iter().map(Event::new).collect::<Vec<_>>())
    }

    fn outlook(liveness: Liveness) -> Outlook {
        Outlook {
            job: Some("7".into()),
            ..Outlook::of(liveness)
        }
    }

    #[test]
    fn only_what_fell_is_picked_up() {
        use EventKind as K;
        let slurm = BackendKind::Slurm;
        let pending = || vec![K::Submitted { backend: slurm }, K::Queued];
        let running = || [pending(), vec![K::AttemptStarted { world_size: 2 }]].concat();
        let with = |kind| [running(), vec![kind]].concat();
        let failed = K::Failed {
            exit: ExitKind::Data,
        };
        let name = |finding: Finding| match finding {
            Finding::InOrder => "in order",
            Finding::Held(_) => "held",
            Finding::Unclear(_) => "unclear",
            Finding::Cancelled(_) => "cancelled",
            Finding::Fallen { excused: false, .. } => "fallen",
            Finding::Fallen { excused: true, .. } => "taken",
        };
        use Liveness::{Alive, Gone, Unknown};
        #[rustfmt::skip]
        let table = [
            (running(),            Alive,   None,                    "in order"),
            (pending(),            Alive,   None,                    "in order"),
            (running(),            Unknown, None,                    "unclear"),
            (running(),            Gone,    None,                    "fallen"),
            (running(),            Gone,    Some(Over::Preempted),   "taken"),
            (running(),            Gone,    Some(Over::TimeLimit),   "fallen"),
            (running(),            Gone,    Some(Over::NodeFailure), "taken"),
            (running(),            Gone,    Some(Over::Other),       "fallen"),
            (running(),            Gone,    Some(Over::Cancelled),   "cancelled"),
            (pending(),            Gone,    Some(Over::Cancelled),   "cancelled"),
            (pending(),            Gone,    Some(Over::Other),       "fallen"),
            (pending(),            Gone,    None,                    "unclear"),
            (with(K::Requeued),    Gone,    None,                    "unclear"),
            (with(K::SupervisorLost), Gone, None,                    "fallen"),
            (with(K::Finished),    Gone,    None,                    "in order"),
            (with(failed),         Gone,    Some(Over::Other),       "in order"),
            (with(K::Cancelled),   Gone,    Some(Over::Cancelled),   "in order"),
        ];
        for (kinds, liveness, over, expected) in table {
            let words = format!("{kinds:?} {liveness:?} {over:?}");
            let found = judge(&state(kinds), &outlook(liveness), false, true, || over);
            assert_eq!(name(found), expected, "{words}");
        }
        let found = judge(&state(pending()), &outlook(Gone), false, false, || None);
        assert_eq!(name(found), "fallen", "a submission that came to nothing");
        let found = judge(&state(running()), &outlook(Gone), true, true, || None);
        assert_eq!(name(found), "cancelled");
        let held = Outlook {
            held: true,
            waiting: Some("is held".into()),
            ..outlook(Alive)
        };
        let found = judge(&state(running()), &held, false, true, || None);
        assert_eq!(found, Finding::Held("is held".into()));
    }
}
