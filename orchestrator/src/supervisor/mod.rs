//! The supervisor: one process from the first attempt to the end of the run, or of the allocation.
//! It claims an attempt, verifies what would run, starts the ranks, watches them, and decides what
//! their ending means. Each start of the ranks is an attempt of its own, with its own logs and its
//! own fence.

mod attempt;
mod decide;
mod ending;
mod log;
mod signals;
pub mod stacks;
mod verify;
mod watchdog;

pub use decide::{Action, Ending, History, Policy, backoff, decide};
pub use ending::{Exit, Interventions, RankEnd, ending};
pub use verify::{pin_dir, pin_store};
pub use watchdog::Watchdog;

use std::path::Path;
use std::time::Duration;

use rocket_common::error::{Error, Result};
use rocket_common::events::{self, Event, EventKind, EventWriter, Status};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use rocket_common::protocol::StopReason;
use rocket_common::run_dir::{Attempt, Claim, Manifest, RunDir};

use crate::backend::{self, Backend};
use crate::requests;
use attempt::{Context, Report, at_step, not_started};
use log::Log;
use signals::Signals;

/// How a supervisor leaves a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Complete.
    Finished,
    /// Given up.
    Failed,
    /// Ended by a user.
    Cancelled,
    /// To a newer attempt.
    Fenced,
}

/// Runs a run until it is finished, given up or cancelled.
///
/// # Errors
/// The run directory cannot be read or written. Failures of the run itself are no errors here: they
/// are events.
pub fn supervise(path: &Path) -> Result<Left> {
    let path = path
        .canonicalize()
        .map_err(|error| Error::io("open", path, error))?;
    let run = RunDir::open(path)?;
    let manifest = run.manifest()?;
    let mut events = Events {
        writer: EventWriter::new(&run, "supervisor"),
    };
    // The event comes before the marker: killed between the two, a run is complete all the same.
    if run.is_done() || events::derive(&events::read(&run)?).status == Status::Finished {
        if !run.is_done() {
            run.mark_done()?;
        }
        return Ok(Left::Finished);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::io("supervise", run.path(), error))?;
    let result = runtime.block_on(async {
        let backend = backend::of(manifest.backend)?;
        let mut supervisor = Supervisor {
            run: &run,
            manifest: &manifest,
            backend: &*backend,
            log: Log::install(),
        };
        supervisor.run(&mut events).await
    });
    if let Err(error) = &result {
        if error.kind() == ExitKind::Fenced {
            return Ok(Left::Fenced);
        }
        let mut event =
            Event::new(EventKind::Failed { exit: error.kind() }).cause(error.to_string());
        event.hint = (!error.hints().is_empty()).then(|| error.hints().join("; "));
        events.add(event);
    }
    result
}

/// Writes events; one that cannot be written is logged, and ends no run.
struct Events {
    writer: EventWriter,
}

impl Events {
    fn add(&mut self, event: Event) {
        tracing::info!(
            "event {}: {}",
            event.kind.name(),
            event.cause.as_deref().unwrap_or("-")
        );
        if let Err(error) = self.writer.append(event) {
            tracing::error!("{error}");
        }
    }
}

struct Supervisor<'a> {
    run: &'a RunDir,
    manifest: &'a Manifest,
    backend: &'a dyn Backend,
    log: Log,
}

impl Supervisor<'_> {
    async fn run(&mut self, events: &mut Events) -> Result<Left> {
        let mut signals = Signals::new()?;
        let mut history = history_of(&events::read(self.run)?);
        loop {
            if requests::cancelled(self.run).is_some() {
                events.add(Event::new(EventKind::Cancelled).cause("cancelled by the user"));
                return Ok(Left::Cancelled);
            }
            let attempt = self.run.claim_attempt(&Claim::of_this_process(None))?;
            self.log.switch(&attempt.supervisor_log_path())?;
            let report = self.attempt(&attempt, events, &mut signals).await;
            history.step = report.step;
            let experiment = self.experiment().ok();
            let max_crashes = experiment.map_or(0, |experiment| experiment.cluster.max_crashes);
            let action = decide(&report.ending, &history, &Policy { max_crashes });
            tracing::info!("decision: {action:?}");
            history = history.after(&action);
            let of = |kind| at_step(Event::new(kind).attempt(attempt.number()), report.step);
            if let Ending::Stopped { reason, .. } = report.ending
                && reason != StopReason::Cancelled
            {
                events.add(of(EventKind::Stopped { reason }));
            }
            match action {
                Action::Finish => {
                    events.add(of(EventKind::Finished));
                    self.run.mark_done()?;
                    return Ok(Left::Finished);
                }
                Action::Leave => return Ok(Left::Fenced),
                Action::Stop { .. } => {
                    events.add(of(EventKind::Cancelled).cause("cancelled by the user"));
                    return Ok(Left::Cancelled);
                }
                Action::Fail { kind, cause, hint } => {
                    let mut event = of(EventKind::Failed { exit: kind }).cause(cause);
                    event.hint = hint;
                    events.add(event);
                    return Ok(Left::Failed);
                }
                Action::Relaunch { after, why, .. } => {
                    events.add(of(EventKind::Requeued).cause(why));
                    self.wait(after, &mut signals).await;
                }
            }
        }
    }

    async fn attempt(
        &self,
        attempt: &Attempt,
        events: &mut Events,
        signals: &mut Signals,
    ) -> Report {
        let experiment = self.experiment().and_then(|experiment| {
            verify::verify(self.run, self.manifest, &experiment)?;
            Ok(experiment)
        });
        match experiment {
            Ok(experiment) => {
                let context = Context {
                    run: self.run,
                    manifest: self.manifest,
                    experiment: &experiment,
                    backend: self.backend,
                    attempt,
                };
                context.go(events, signals).await
            }
            Err(error) => Report {
                ending: not_started(&error),
                step: 0,
            },
        }
    }

    /// The resolved experiment as it was stored.
    fn experiment(&self) -> Result<Experiment> {
        Experiment::read(&self.run.experiment_path())
            .map_err(|error| error.with_kind(ExitKind::Pin))
    }

    /// Waits before a relaunch, less long if the user cancels. There is nothing to stop meanwhile.
    async fn wait(&self, time: Duration, signals: &mut Signals) {
        let end = tokio::time::Instant::now() + time;
        while requests::cancelled(self.run).is_none() {
            let tick = Duration::from_millis(500);
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                () = tokio::time::sleep(tick) => {}
                asked = signals.next() => {
                    if asked == signals::Asked::Interrupt {
                        let _ = requests::cancel(self.run, requests::Cancel { now: false });
                    }
                }
            }
        }
    }
}

/// What the events say about the crashes since a user last started the run.
#[must_use]
pub fn history_of(events: &[Event]) -> History {
    let mut history = History::default();
    for event in events {
        match event.kind {
            EventKind::Submitted { .. } | EventKind::Resumed { .. } => {
                history = History {
                    crashes: 0,
                    ..history
                };
            }
            EventKind::AttemptStarted { .. } => {
                history.best_step = history.best_step.max(history.step);
                history.step = 0;
            }
            EventKind::RankFailed { .. } => {
                history.step = history.step.max(event.step.unwrap_or_default());
                history.crashes = if history.progressed() {
                    1
                } else {
                    history.crashes + 1
                };
            }
            _ => history.step = history.step.max(event.step.unwrap_or_default()),
        }
    }
    History {
        best_step: history.best_step.max(history.step),
        step: 0,
        crashes: history.crashes,
    }
}
