//! The training loop: a rank's way from its start to the end of the run, an agreed stop, or an error.

mod accumulate;
mod address;
pub mod agree;
pub mod device;
pub mod evaluate;
pub mod events;
pub mod forensics;
pub mod guard;
pub mod heartbeat;
pub mod plan;
pub mod precision;
pub mod progress;
pub mod ranks;
pub mod rendezvous;
mod restore;
mod save;
mod session;
pub mod step;
pub mod stop;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rocket_common::error::Error;
use rocket_common::events::{Event, EventKind};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use rocket_common::protocol::{EndRecord, Outcome, Phase, StopReason};
use rocket_common::run_dir::RunDir;
use serde_json::{Map, Value};
use tch_distributed::Store;

use agree::{Agreed, Say};
use forensics::Forensics;
use session::Session;
use step::Backward;

use crate::model::Batch;
use crate::rank::{Place, RankContext};
use crate::track::{Ending, RecordKind, Tracker, Trackers};

/// How far a rank is, as seen from outside of its loop.
#[derive(Debug, Default)]
pub struct Progress {
    step: AtomicU64,
    begun: AtomicBool,
}

impl Progress {
    /// Optimiser steps done.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step.load(Ordering::Relaxed)
    }

    /// Notes that the work begins.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Notes how far it is.
    pub fn reach(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
    }

    /// Whether this process has tried to make a step, or to evaluate.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }
}

/// How long a collective waits for the other ranks.
#[must_use]
pub fn collective_timeout(experiment: &Experiment) -> Duration {
    let minutes = experiment.train.collective_timeout_minutes;
    // Longer ones overflow in libtorch, which counts nanoseconds.
    let longest = Duration::from_secs(365 * 24 * 3600);
    Duration::try_from_secs_f64(minutes * 60.0).map_or(longest, |time| time.min(longest))
}

/// Trains until the run is complete or all ranks agree to stop. `store` is where the ranks have met
/// already, if they have.
///
/// # Errors
/// Whatever keeps this rank from going on, with the kind that decides about a relaunch.
pub fn run(
    place: &Place,
    context: &RankContext,
    run: &RunDir,
    store: Option<Store>,
    progress: &Progress,
) -> Result<EndRecord> {
    let session = Session::start(place, context, run, store)?;
    // From here on the metrics are this attempt's. The trackers follow them and nobody follows the trackers.
    let trackers = context
        .is_lead()
        .then(|| Trackers::start(run, context.attempt, &session.experiment.track));
    let result = drive(session, progress);
    if let Some(trackers) = trackers {
        trackers.finish(Ending::of(&result));
    }
    result
}

/// Makes step after step.
fn drive(mut session: Session<'_>, progress: &Progress) -> Result<EndRecord> {
    progress.reach(session.state.step);
    // Some rank may have been told to stop while all were starting.
    let mut stop = session.agree_to_stop()?;
    progress.begin();
    let mut save = false;
    loop {
        let step = session.state.step;
        if stop.is_none() && session.eval_left() {
            stop = session.evaluate()?;
        }
        if step >= session.plan.total_steps && !session.eval_left() {
            session.save()?;
            return session.end(Outcome::Finished, None);
        }
        if stop.is_none() && (save || session.plan.checkpoint_due(step, 0.0)) && session.save()? {
            // A save can take most of the time that a scheduler leaves after its signal.
            stop = session.agree_to_stop()?;
        }
        if let Some(reason) = stop {
            session.save()?;
            return session.end(Outcome::Stopped, Some(reason));
        }
        let agreed = session.step()?;
        (stop, save) = (agreed.stop, agreed.save);
        progress.reach(session.state.step);
    }
}

impl Session<'_> {
    /// Makes one optimiser step, unless it is not finite.
    fn step(&mut self) -> Result<Agreed> {
        let number = self.state.step + 1;
        let lr = self.schedule.lr(self.state.step);
        let mut samples = Vec::new();
        let mut waited = 0.0;
        let mut bad = 0;
        let device = self.device;
        let loader = &mut self.loader;
        let backward = self.trainer.backward(&self.group, self.state.step, || {
            let asked = Instant::now();
            let host = loader.next_batch()?;
            waited += asked.elapsed().as_secs_f64();
            bad += host.bad.len() as u64;
            samples.push(host.samples.clone());
            let batch = Batch::from_host(&host).to_device(device)?;
            // Copied by now: to tensors, and from these to pinned memory where a GPU computes.
            loader.recycle(host);
            Ok(batch)
        })?;
        self.pace.waited(waited);
        let say = Say {
            stop: stop::wish(),
            save: self.context.is_lead()
                && self
                    .plan
                    .checkpoint_due(number, self.saved_at.elapsed().as_secs_f64() / 60.0),
            not_finite: !backward.is_finite(),
            overflow: backward.overflow,
            bad,
            bad_this_epoch: self.loader.counters().bad_this_epoch as u64,
            terms: backward.means(),
        };
        let agreed = say.agree(&self.group)?;
        if agreed.not_finite {
            return Err(self.not_finite(number, lr, samples, &backward));
        }
        self.trainer.update(lr, agreed.overflow)?;
        self.state.step = number;
        self.state.scaler = self.trainer.scaler.state()?;
        if let Some(scaler) = &self.state.scaler {
            precision::judge(number, scaler.skipped_in_a_row, scaler.scale)?;
        }
        self.state.bad_samples += agreed.bad;
        self.loader.judge_bad(agreed.bad_this_epoch as usize)?;
        self.report(&agreed, &backward, lr)?;
        Ok(agreed)
    }

    /// Whether the boundary after the current step still has to be evaluated.
    fn eval_left(&self) -> bool {
        let step = self.state.step;
        self.plan.eval_due(step) && self.state.last_eval_step < step
    }

    /// Whether any rank was asked to stop, found out by all together outside of a step.
    pub(super) fn agree_to_stop(&self) -> Result<Option<StopReason>> {
        stop::agree(&self.group)
    }

    /// Fails if a newer attempt exists. The check comes right before everything that is published.
    pub(super) fn fence(&self) -> Result<()> {
        Ok(self.run.fence_check(self.context.attempt)?)
    }

    /// Heartbeat of every rank; metrics and a line of progress on the lead.
    fn report(&mut self, agreed: &Agreed, backward: &Backward, lr: f64) -> Result<()> {
        let step = self.state.step;
        let speed = self.pace.peek(step).map(|lap| lap.samples_per_second);
        self.pulse.step(step, self.plan.epoch(step), speed);
        if !self.plan.print_due(step) {
            return Ok(());
        }
        let lap = self.pace.lap(step);
        let Some(metrics) = &mut self.metrics else {
            return Ok(());
        };
        let mut values = Map::new();
        values.insert("epoch".to_owned(), self.plan.epoch(step).into());
        for (name, mean) in backward.names.iter().zip(&agreed.terms) {
            values.insert(name.clone(), (*mean).into());
        }
        values.insert("lr".to_owned(), lr.into());
        values.insert("grad_norm".to_owned(), backward.grad_norm.into());
        if let Some(scaler) = &self.state.scaler {
            values.insert("loss_scale".to_owned(), scaler.scale.into());
            values.insert("skipped_steps".to_owned(), scaler.skipped.into());
        }
        // Here so that the curves of two runs can be compared value by value: what follows is
        // about the machine and never the same twice.
        let mut machine = Map::new();
        if let Some(lap) = lap {
            machine.insert(
                "samples_per_second".to_owned(),
                lap.samples_per_second.into(),
            );
            machine.insert("wait_share".to_owned(), lap.wait_share.into());
        }
        let counters = self.loader.counters();
        machine.insert(
            "wait_seconds".to_owned(),
            counters.wait.as_secs_f64().into(),
        );
        machine.insert("bytes_read".to_owned(), counters.bytes.into());
        machine.insert("bad_samples".to_owned(), self.state.bad_samples.into());
        machine.insert(
            "resident_bytes".to_owned(),
            heartbeat::resident_bytes().map_or(Value::Null, Value::from),
        );
        tracing::info!("{}", progress::line(&self.plan, step, &values, lap));
        values.extend(machine);
        self.run.fence_check(self.context.attempt)?;
        metrics.record(RecordKind::Train, step, &values)
    }

    /// Saves what is needed to look into the step, and makes the error of it.
    fn not_finite(
        &self,
        number: u64,
        lr: f64,
        samples: Vec<Vec<u64>>,
        backward: &Backward,
    ) -> anyhow::Error {
        let record = Forensics {
            step: number,
            rank: self.context.rank,
            world_size: self.context.world_size,
            seed: self.experiment.seed,
            epoch: self.state.step / self.plan.steps_per_epoch,
            lr,
            samples,
            terms: backward
                .terms
                .iter()
                .map(|terms| {
                    let text = terms.iter().map(ToString::to_string);
                    backward.names.iter().cloned().zip(text).collect()
                })
                .collect(),
            ..Forensics::of_tensors(self.trainer.model.registry())
        };
        let kept = match self
            .fence()
            .and_then(|()| Ok(record.save(self.run.path())?))
        {
            Ok(path) => format!(
                "samples, seeds, norms and loss terms are in {}",
                path.display()
            ),
            Err(error) => format!("the record of it could not be kept: {error}"),
        };
        Error::new(
            ExitKind::NotFinite,
            format!(
                "the loss or a gradient of step {number} is not finite; the step was not taken"
            ),
        )
        .hint(kept)
        .hint("a lower optim.lr or a longer optim.warmup_epochs often helps")
        .into()
    }

    /// The last words of a rank that ends as planned, together with all others.
    fn end(mut self, outcome: Outcome, stop: Option<StopReason>) -> Result<EndRecord> {
        self.pulse.phase(Phase::Ending);
        if let Some(metrics) = &mut self.metrics {
            metrics.flush()?;
        }
        // No rank leaves before all have: an early end would look like a crash to the launcher.
        self.group.barrier()?;
        Ok(EndRecord {
            outcome,
            kind: ExitKind::Ok,
            step: self.state.step,
            stop,
            cause: None,
            hint: None,
        })
    }

    /// Appends to the run's events, on the lead.
    fn event(&mut self, kind: EventKind, change: impl FnOnce(Event) -> Event) -> Result<()> {
        let Some(events) = &mut self.events else {
            return Ok(());
        };
        self.run.fence_check(self.context.attempt)?;
        let event = Event::new(kind)
            .attempt(self.context.attempt)
            .step(self.state.step);
        Ok(events.append(change(event))?)
    }
}
