//! One rank of an evaluation that `rocket eval` submitted. It is supervised as a rank that trains is:
//! heartbeats, an agreed stop between batches, last words. Sets that have a result are passed over, so an
//! evaluation that was preempted goes on with those that are left.

use std::ops::ControlFlow;

use anyhow::Result;
use rocket_common::atomic;
use rocket_common::checkpoint::{self as store, Checkpoint};
use rocket_common::error::Error;
use rocket_common::events::{Event, EventKind, EventWriter};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use rocket_common::protocol::{EndRecord, Outcome, Phase, StopReason};
use rocket_common::run_dir::{Evaluation, RunDir};
use tch::Tensor;
use tch_distributed::{ProcessGroup, ReduceOp, Store};

use super::{sets, weights};
use crate::commands::rank;
use crate::eval::{
    self, Autocast, ClassifierCache, Details, EvalSet, Scorer, Settings, Shard, Stage, ZeroShot,
};
use crate::rank::{Place, RankContext};
use crate::train::heartbeat::Pulse;
use crate::train::{self, Progress, device, evaluate, rendezvous, stop};

/// Takes this process's place among the ranks.
///
/// # Errors
/// Only while there is no attempt to leave an end record in.
pub(super) fn run() -> Result<ExitKind> {
    let place = Place::from_env(None)?;
    rank::run(
        &place,
        |run| Ok(train::collective_timeout(&read(run)?.1)),
        work,
    )
}

fn read(run: &RunDir) -> Result<(Evaluation, Experiment)> {
    let evaluation = run.manifest()?.evaluation.ok_or_else(|| {
        Error::new(
            ExitKind::Usage,
            format!("run {} is no evaluation", run.id()),
        )
        .hint("'rocket eval RUN' makes one; 'rocket-worker eval --run DIR' scores without a job")
    })?;
    Ok((evaluation, Experiment::read(&run.experiment_path())?))
}

/// Scores what is left.
fn work(
    place: &Place,
    context: &RankContext,
    run: &RunDir,
    store: Option<Store>,
    progress: &Progress,
) -> Result<EndRecord> {
    let mut pulse = Pulse::new(run.attempt(context.attempt), context.rank);
    let (evaluation, experiment) = read(run)?;
    device::prepare(experiment.cluster.device)?;
    let threads = i32::try_from(experiment.train.threads).unwrap_or(1).max(1);
    tch::set_num_threads(threads);
    let device = device::choose(&experiment, context.local_rank)?;

    // What only this rank can find out comes before the meeting, so that it is told at once and not as a
    // lost peer.
    let scored = RunDir::open(&evaluation.run)?;
    let repo = run.manifest()?.repo;
    let files = sets::Files::of(&experiment.eval, &context.pin_dir, &repo);
    let opened = sets::open(&files, &evaluation.datasets, evaluation.ready_only)?;
    let checkpoint = find_checkpoint(run, &scored, evaluation.step)?;
    let timeout = train::collective_timeout(&experiment);
    let group = rendezvous::join(place, context, run, store, device, timeout)?;

    let mut job = Job {
        context,
        run,
        scored: &scored,
        evaluation: &evaluation,
        checkpoint: &checkpoint,
        events: context.is_lead().then(|| EventWriter::new(run, "rank-0")),
    };
    job.agree_on_sets(&group, &opened.sets)?;
    if let Some(note) = opened.left_out() {
        tracing::warn!("{note}");
    }
    if !opened.left_out.is_empty() {
        let names: Vec<&str> = opened
            .left_out
            .iter()
            .map(|(set, _)| set.as_str())
            .collect();
        let said = format!("left out, since they are not there: {}", names.join(", "));
        job.tell(Event::new(EventKind::Note).cause(said))?;
    }
    let model = weights::of_checkpoint(&experiment, &checkpoint, device)?;
    let encoder = Autocast {
        model: &model,
        kind: eval::kind(experiment.eval.precision, device),
    };
    let cache = ClassifierCache::new(
        scored.eval_dir().join("classifiers"),
        &model.registry().hash()?,
        &encoder.word(),
    );
    let batch = usize::try_from(experiment.eval.batch_size)
        .unwrap_or(1)
        .max(1);
    let sum = evaluate::summing(&group);
    let shard = Shard::new(group.rank(), group.world_size(), &sum);
    let tokenize = eval::tokenizer();
    let scorer = Scorer {
        encoder: &encoder,
        tokenize: &tokenize,
        settings: Settings {
            image_batch: batch,
            text_batch: batch,
            threads: experiment.data.workers.max(1),
            details: evaluation.details,
        },
        shard: &shard,
        cache: Some(&cache),
    };
    let total = opened.sets.len() as u64;
    pulse.total_steps(total);
    pulse.phase(Phase::Evaluating);
    progress.begin();
    for (set, done) in opened.sets.iter().zip(0_u64..) {
        pulse.step(done, 0.0, None);
        progress.reach(done);
        if let Some(reason) = stop::agree(&group)? {
            return end(&group, &mut pulse, done, Outcome::Stopped, Some(reason));
        }
        // The lead says it for all: others may see its files later.
        let left = context.is_lead() && job.is_left(set);
        if all_hear(&group, left)? == 0 {
            tracing::info!("{}: scored already", set.name);
            continue;
        }
        let started = std::time::Instant::now();
        let world = group.world_size() as f64;
        let scores = scorer.score(set, |stage| {
            match stage {
                Stage::Classes => pulse.alive(),
                Stage::Images(images, _) => {
                    let speed = images as f64 / started.elapsed().as_secs_f64().max(1e-9);
                    pulse.step(done, 0.0, Some(speed * world));
                }
            }
            match stop::wish() {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        });
        let scores = match scores {
            Err(error) if eval::was_interrupted(&error) => match stop::agree(&group)? {
                Some(reason) => {
                    return end(&group, &mut pulse, done, Outcome::Stopped, Some(reason));
                }
                None => return Err(error.into()),
            },
            scores => scores?,
        };
        if context.is_lead() {
            let seconds = started.elapsed().as_secs_f64();
            tracing::info!(
                "{}: {:.0} images/s",
                set.name,
                set.samples.len() as f64 / seconds
            );
            let result = ZeroShot::new(set, evaluation.step, &checkpoint.name(), &scores);
            let details = Details::new(set, evaluation.step, &scores);
            job.publish(&result, details.as_ref())?;
        }
    }
    progress.reach(total);
    pulse.step(total, 0.0, None);
    end(&group, &mut pulse, total, Outcome::Finished, None)
}

/// The checkpoint that the evaluation holds by links, or, where the file system has none, the run's own.
fn find_checkpoint(run: &RunDir, scored: &RunDir, step: u64) -> Result<Checkpoint> {
    let name = store::dir_name(step);
    let linked = run.checkpoints_dir().join(&name);
    if linked.is_dir() {
        return Ok(store::verify(&linked)?);
    }
    let own = scored.checkpoints_dir().join(&name);
    if !own.is_dir() {
        return Err(Error::new(
            ExitKind::Checkpoint,
            format!("checkpoint {name} of run {} is gone", scored.id()),
        )
        .hint(format!(
            "evaluate one that is there: rocket eval {}",
            scored.id()
        ))
        .into());
    }
    Ok(store::verify(&own)?)
}

struct Job<'a> {
    context: &'a RankContext,
    run: &'a RunDir,
    scored: &'a RunDir,
    evaluation: &'a Evaluation,
    checkpoint: &'a Checkpoint,
    /// On the lead only.
    events: Option<EventWriter>,
}

impl Job<'_> {
    /// Fails if some rank does not see a set that others see: its share would be missing.
    fn agree_on_sets(&self, group: &ProcessGroup, sets: &[EvalSet]) -> Result<()> {
        let sees = |name: &String| sets.iter().any(|set| set.name == *name);
        let names = &self.evaluation.datasets;
        let seen: Vec<i64> = names.iter().map(|name| i64::from(sees(name))).collect();
        let seen = Tensor::from_slice(&seen);
        group.all_reduce(&seen, ReduceOp::Sum)?;
        let world = group.world_size() as i64;
        for (name, ranks) in names.iter().zip(Vec::<i64>::try_from(seen)?) {
            if ranks != 0 && ranks != world {
                return Err(Error::new(
                    ExitKind::Data,
                    format!("only {ranks} of {world} ranks see the set '{name}'"),
                )
                .hint("put it where all nodes see it, or evaluate on one node")
                .into());
            }
        }
        Ok(())
    }

    fn is_left(&self, set: &EvalSet) -> bool {
        let name = eval::report::file_name(&set.name, self.evaluation.step);
        let by_us = self.run.eval_dir().join(&name).is_file();
        let by_others = self.scored.eval_dir().join(&name).is_file();
        !by_us && (self.evaluation.again || !by_others)
    }

    /// Writes a result where both runs are looked at, on the lead.
    fn publish(&mut self, result: &ZeroShot, details: Option<&Details>) -> Result<()> {
        self.run.fence_check(self.context.attempt)?;
        let dir = self.scored.eval_dir();
        std::fs::create_dir_all(&dir).map_err(|error| Error::io("create", &dir, error))?;
        if let Some(details) = details {
            details.write(&dir)?;
        }
        atomic::write_json(&dir.join(result.file_name()), result)?;
        // Last, since it is what keeps the set from being scored again.
        atomic::write_json(&self.run.eval_dir().join(result.file_name()), result)?;
        for line in result.table().lines() {
            tracing::info!("{line}");
        }
        let metrics = result.event_metrics();
        let kind = EventKind::Evaluated {
            metrics: metrics.clone(),
        };
        // Without a step: its own are sets, and who reads it thinks of training's.
        self.tell(Event::new(kind))?;
        // In the other run's history it is nobody's attempt. Who it was is in the cause: an id in the file's
        // name would make it longer than an archive's names may be.
        let mut writer = EventWriter::new(self.scored, "eval");
        let cause = format!("{} of {}", result.checkpoint, self.run.id());
        writer.append(Event::new(EventKind::Evaluated { metrics }).cause(cause))?;
        tracing::debug!("{} is done", self.checkpoint.name());
        Ok(())
    }

    fn tell(&mut self, event: Event) -> Result<()> {
        let Some(events) = &mut self.events else {
            return Ok(());
        };
        self.run.fence_check(self.context.attempt)?;
        Ok(events.append(event.attempt(self.context.attempt))?)
    }
}

/// How many ranks say yes, on every rank.
fn all_hear(group: &ProcessGroup, yes: bool) -> Result<i64> {
    let said = Tensor::from_slice(&[i64::from(yes)]);
    group.all_reduce(&said, ReduceOp::Sum)?;
    Ok(said.int64_value(&[0]))
}

/// The last words of a rank that ends as planned, together with all others.
fn end(
    group: &ProcessGroup,
    pulse: &mut Pulse,
    step: u64,
    outcome: Outcome,
    stop: Option<StopReason>,
) -> Result<EndRecord> {
    pulse.phase(Phase::Ending);
    // No rank leaves before all have: an early end would look like a crash to the launcher.
    group.barrier()?;
    Ok(EndRecord {
        outcome,
        kind: ExitKind::Ok,
        step,
        stop,
        cause: None,
        hint: None,
    })
}
