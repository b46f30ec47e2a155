//! The supervisor: one process from the first attempt to the end of the run, or of the allocation.
//! It claims an attempt, verifies what would run, starts the ranks, watches them, and decides what
//! their ending means. Each start of the ranks is an attempt of its own, with its own logs and its
//! own fence.

mod attempt;
mod decide;
mod ending;
mod log;
mod scheduled;
mod signals;
pub mod stacks;
mod turn;
mod verify;
mod watchdog;

pub use decide::{Action, Ending, History, Place, Policy, backoff, decide};
pub use ending::{Exit, Interventions, RankEnd, ending};
pub use verify::{pin_dir, pin_store, verify};
pub use watchdog::Watchdog;

use std::path::Path;
use std::time::Duration;

use rocket_common::error::{Error, Result};
use rocket_common::events::{self, Event, EventKind, EventWriter, Status};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{Cluster, Experiment};
use rocket_common::protocol::StopReason;
use rocket_common::run_dir::{Attempt, Claim, Manifest, RunDir};

use crate::backend::{Backend, Backends};
use crate::evaluation;
use crate::notify::{self, Notifier, Patience};
use crate::requests;
use crate::slurm::secrets;
use attempt::{Context, Report, at_step};
use log::Log;
use signals::{Asked, Signals};

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
    /// To the scheduler, which starts the next supervisor.
    Queued,
}

/// Runs a run until it is finished, given up or cancelled, or the scheduler takes the nodes.
/// `submission`: which hand-over to the scheduler this is.
///
/// # Errors
/// The run directory cannot be read or written. Failures of the run itself are no errors here: they
/// are events.
pub fn supervise(path: &Path, submission: Option<u32>) -> Result<Left> {
    let path = path
        .canonicalize()
        .map_err(|error| Error::io("open", path, error))?;
    let run = RunDir::open(path)?;
    let manifest = run.manifest()?;
    manifest.refuse_imported()?;
    let backends = Backends::default();
    let backend = backends.of(manifest.backend);
    if let Err(error) = backend.enter(&run, submission) {
        if error.kind() == ExitKind::Fenced {
            eprintln!("{error}; this one leaves");
            return Ok(Left::Fenced);
        }
        return Err(error);
    }
    let mut events = Events {
        writer: EventWriter::new(&run, &backend.writer()),
        job: backend.job(),
        notifier: Notifier::of(&run, &manifest),
    };
    // The event comes before the marker: killed between the two, a run is complete all the same.
    if run.is_done() || events::derive(&events::read(&run)?).status == Status::Finished {
        if !run.is_done() {
            run.mark_done()?;
        }
        evaluate_after(&run, &manifest, &backends, &mut events);
        return Ok(Left::Finished);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::io("supervise", run.path(), error))?;
    let result = runtime.block_on(async {
        let mut supervisor = Supervisor {
            run: &run,
            manifest: &manifest,
            backend,
            backends: &backends,
            log: Log::install(),
            leaving: None,
        };
        supervisor.run(&mut events).await
    });
    if let Err(error) = &result {
        if error.kind() == ExitKind::Fenced {
            events.notifier.finish(Patience::Short);
            return Ok(Left::Fenced);
        }
        let mut event =
            Event::new(EventKind::Failed { exit: error.kind() }).cause(error.to_string());
        event.hint = (!error.hints().is_empty()).then(|| error.hints().join("; "));
        events.add(event);
    }
    events.notifier.finish(match result {
        Ok(Left::Queued | Left::Fenced) => Patience::Short,
        _ => Patience::Long,
    });
    result
}

/// Writes events; one that cannot be written is logged, and ends no run.
struct Events {
    writer: EventWriter,
    job: Option<String>,
    notifier: Notifier,
}

impl Events {
    fn add(&mut self, mut event: Event) {
        event.job = event.job.or_else(|| self.job.clone());
        tracing::info!(
            "event {}: {}",
            event.kind.name(),
            event.cause.as_deref().unwrap_or("-")
        );
        let stored = self.writer.append(event.clone());
        if let Err(error) = stored {
            tracing::error!("{error}");
        }
        self.notifier.tell(&event);
    }
}

struct Supervisor<'a> {
    run: &'a RunDir,
    manifest: &'a Manifest,
    backend: &'a dyn Backend,
    backends: &'a Backends,
    log: Log,
    /// The scheduler wants the nodes soon. It says so once, whether ranks run at that moment or not.
    leaving: Option<StopReason>,
}

/// Submits what `eval.after` asks for. What keeps it from being submitted is told, and fails no run.
fn evaluate_after(run: &RunDir, manifest: &Manifest, backends: &Backends, events: &mut Events) {
    match evaluation::submit_after(run, manifest, backends) {
        Ok(None) => {}
        Ok(Some(id)) => tracing::info!("eval.after: {id}"),
        Err(error) => {
            let cause = format!("eval.after could not be submitted: {error}");
            let hint = format!("rocket eval {}", run.id());
            events.add(Event::new(EventKind::Note).cause(cause).hint(hint));
        }
    }
}

impl Supervisor<'_> {
    async fn run(&mut self, events: &mut Events) -> Result<Left> {
        let mut signals = Signals::new()?;
        let mut history = history_of(&events::read(self.run)?);
        if let Some(left) = self.look_around(events, &mut signals).await? {
            return Ok(left);
        }
        // Held until this supervisor leaves, in whatever way.
        let _turn = match self.turn(events, &mut signals).await? {
            turn::Came::End(left) => return Ok(left),
            held => held,
        };
        let mut again = None;
        loop {
            if requests::cancelled(self.run).is_some() {
                events.add(Event::new(EventKind::Cancelled).cause("cancelled by the user"));
                return Ok(Left::Cancelled);
            }
            let (attempt, mut report) = match again.take() {
                Some(ended) => ended,
                None => {
                    let claim = Claim::of_this_process(self.backend.job());
                    let attempt = self.run.claim_attempt(&claim)?;
                    self.log.switch(&attempt.supervisor_log_path())?;
                    let report = self.attempt(&attempt, events, &mut signals).await;
                    (attempt, report)
                }
            };
            if let Some(reason) = report.stop {
                self.heard(reason);
            }
            history.step = report.step;
            let place = self.place(&report, &attempt, &mut signals).await;
            report.explain(&place);
            let action = decide(
                &report.ending,
                &place,
                &history,
                &self.policy().of(&history, self.is_program()),
            );
            tracing::info!("decision: {action:?}");
            let before = history.clone();
            history = history.after(&action);
            let of = |kind| at_step(Event::new(kind).attempt(attempt.number()), report.step);
            let left = |why: String| of(EventKind::Requeued).cause(why).excused(place.excuses());
            if let Ending::Stopped { reason, .. } = report.ending
                && reason != StopReason::Cancelled
            {
                events.add(of(EventKind::Stopped { reason }));
            }
            if report.was_taken(&place) {
                events.notifier.preempted(&of(EventKind::Preempted));
            }
            match action {
                Action::Finish => {
                    // Before the end is noted: who dies in between does it again, and it is done once.
                    evaluate_after(self.run, self.manifest, self.backends, events);
                    events.add(of(EventKind::Finished));
                    self.run.mark_done()?;
                    self.forget_secrets();
                    self.forget_links();
                    return Ok(Left::Finished);
                }
                Action::Leave => return Ok(Left::Fenced),
                Action::Stop { cause, .. } => {
                    events.add(of(EventKind::Cancelled).cause(cause));
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
                    if self.leaving.is_some() {
                        // Heard while it waited: what the ending means is decided anew.
                        history = before;
                        again = Some((attempt, report));
                    }
                }
                Action::Requeue { exclude, why } => {
                    self.exclude(&exclude, &why, events);
                    events.add(left(why));
                    return self
                        .requeue(Some(attempt.number()), events, &mut signals)
                        .await;
                }
                Action::Yield { why } => {
                    self.exclude(&place.sick, &why, events);
                    events.add(left(why));
                    return Ok(Left::Queued);
                }
                Action::Resubmit { exclude, why } => {
                    self.exclude(&exclude, &why, events);
                    events.add(left(why));
                    return self.resubmit(Some(attempt.number()), events);
                }
            }
        }
    }

    /// Nothing needs them any more.
    fn forget_secrets(&self) {
        if let Some(runs) = self.run.path().parent()
            && let Err(error) = secrets::remove(runs, &self.run.id())
        {
            tracing::warn!("{error}");
        }
        if let Some(runs) = self.run.path().parent() {
            notify::remove(runs, &self.run.id());
        }
    }

    /// An evaluation holds the checkpoint by links, which keep its bytes on the disk.
    fn forget_links(&self) {
        let dir = self.run.checkpoints_dir();
        if self.manifest.evaluation.is_some()
            && let Err(error) = std::fs::remove_dir_all(&dir)
        {
            tracing::warn!("{}", Error::io("remove", &dir, error));
        }
    }

    fn policy(&self) -> Policy {
        // An experiment that cannot be read has failed the attempt already.
        let cluster = self
            .experiment()
            .map_or_else(|_| Cluster::default(), |experiment| experiment.cluster);
        Policy {
            max_crashes: cluster.max_crashes,
            max_node_failures: cluster.max_node_failures,
            max_idle_time_limits: cluster.max_idle_time_limits,
            requeue: cluster.requeue,
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
            Err(error) => Report::not_started(&error),
        }
    }

    /// Whether its ranks may say nothing of their steps.
    fn is_program(&self) -> bool {
        matches!(self.experiment(), Ok(experiment) if experiment.command.is_some())
    }

    /// The resolved experiment as it was stored.
    fn experiment(&self) -> Result<Experiment> {
        Experiment::read(&self.run.experiment_path())
            .map_err(|error| error.with_kind(ExitKind::Pin))
    }

    /// Remembers a stop that the scheduler wants. Without one, only the ranks of the moment are meant.
    fn heard(&mut self, reason: StopReason) {
        if self.backend.job().is_some() && reason != StopReason::Cancelled {
            self.leaving.get_or_insert(reason);
        }
    }

    /// Waits before a relaunch, less long if the user cancels or the scheduler wants the nodes. There is
    /// nothing to stop meanwhile.
    async fn wait(&mut self, time: Duration, signals: &mut Signals) {
        let end = tokio::time::Instant::now() + time;
        while requests::cancelled(self.run).is_none() {
            let tick = Duration::from_millis(500);
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                () = tokio::time::sleep(tick) => {}
                asked = signals.next() => match asked {
                    Asked::Interrupt => {
                        let _ = requests::cancel(self.run, requests::Cancel { now: false });
                    }
                    Asked::Stop(_) if self.backend.job().is_none() => {}
                    // A scheduler sends SIGTERM for every reason; which it was, is asked afterwards.
                    Asked::Stop(StopReason::Preempted) => return self.heard(StopReason::Signal),
                    Asked::Stop(reason) => return self.heard(reason),
                },
            }
        }
    }
}

/// What the events say about failures since a user last started the run.
#[must_use]
pub fn history_of(events: &[Event]) -> History {
    let mut history = History::default();
    // Crashes and suspect before a failure of which is not known yet what followed.
    let mut before = None;
    for event in events {
        let step = event.step.unwrap_or_default();
        match &event.kind {
            EventKind::Submitted { .. } | EventKind::Resumed { .. } => {
                history = History {
                    best_step: history.best_step,
                    step: history.step,
                    ..History::default()
                };
                before = None;
            }
            EventKind::AttemptStarted { .. } => {
                before = None;
                history.best_step = history.best_step.max(history.step);
                history.step = 0;
            }
            // The budgets are those of the decisions: progress refills them.
            kind => {
                history.step = history.step.max(step);
                match kind {
                    EventKind::RankFailed { .. } => {
                        before = Some((history.crashes, history.blamed.take()));
                        history.crashes = history.one_more(history.crashes);
                        history.blamed = event.nodes.first().cloned();
                    }
                    // The nodes were being taken when it failed.
                    EventKind::Requeued | EventKind::SupervisorLost if event.excused => {
                        if let Some((crashes, blamed)) = before.take() {
                            history.crashes = crashes;
                            history.blamed = blamed;
                        }
                    }
                    EventKind::Requeued => before = None,
                    // Nobody saw what it died of.
                    EventKind::SupervisorLost => {
                        history.crashes = history.one_more(history.crashes)
                    }
                    EventKind::NodeExcluded => {
                        history.node_failures = history.one_more(history.node_failures);
                    }
                    EventKind::Stopped {
                        reason: StopReason::TimeLimit,
                    } => history.time_limits = history.one_more_idle(history.time_limits),
                    _ => {}
                }
            }
        }
    }
    History {
        best_step: history.best_step.max(history.step),
        step: 0,
        ..history
    }
}

#[cfg(test)]
mod tests;
