//! Everything a rank holds while it trains, and how it comes to hold it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use rocket_common::checkpoint::latest_good;
use rocket_common::error::Error;
use rocket_common::events::{Event, EventKind, EventWriter};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use rocket_common::protocol::Phase;
use rocket_common::run_dir::RunDir;
use tch::{Device, Tensor};
use tch_distributed::{Ddp, DdpOptions, ProcessGroup, Store};

use super::collective_timeout;
use super::evaluate::EvalSets;
use super::heartbeat::Pulse;
use super::plan::Plan;
use super::progress::Pace;
use super::rendezvous;
use super::step::Trainer;
use crate::checkpoint::{self, TrainState};
use crate::data::{self, Loader, LoaderOptions, Order};
use crate::model::{Model, Options};
use crate::optim::{NamedAdamW, Schedule};
use crate::rank::{Place, RankContext};
use crate::track::MetricsFile;

/// A rank that trains.
pub(super) struct Session<'a> {
    pub context: &'a RankContext,
    pub run: RunDir,
    pub experiment: Experiment,
    pub group: Arc<ProcessGroup>,
    pub device: Device,
    pub trainer: Trainer,
    pub schedule: Schedule,
    pub plan: Plan,
    pub loader: Loader,
    pub eval_sets: EvalSets,
    pub state: TrainState,
    pub pulse: Pulse,
    pub pace: Pace,
    /// On the lead only.
    pub metrics: Option<MetricsFile>,
    /// On the lead only.
    pub events: Option<EventWriter>,
    pub saved_at: Instant,
    pub saved_step: Option<u64>,
    /// Step and score of the last evaluation.
    pub last_score: Option<(u64, f64)>,
}

impl<'a> Session<'a> {
    /// Meets the other ranks, opens the data, builds the model, and goes on from the last good
    /// checkpoint.
    pub(super) fn start(
        place: &Place,
        context: &'a RankContext,
        run: &RunDir,
        store: Option<Store>,
    ) -> Result<Self> {
        let attempt = run.attempt(context.attempt);
        let mut pulse = Pulse::new(attempt, context.rank);
        let experiment = Experiment::read(&run.experiment_path())?;
        let threads = i32::try_from(experiment.train.threads).unwrap_or(1).max(1);
        tch::set_num_threads(threads);
        let device = Device::Cpu;

        // What only this rank can find out comes before the meeting, so that a wrong path is told at
        // once and not as a lost peer.
        let source = data::source::open(&experiment.data)?;
        let eval_sets = EvalSets::open(&experiment, &context.pin_dir, &run.manifest()?.repo)?;
        let order = Order {
            seed: experiment.seed,
            samples: source.len() as u64,
            world_size: u64::from(context.world_size),
            batch_size: experiment.train.batch_size as u64,
            update_freq: experiment.train.update_freq,
        };
        let plan = plan_of(&experiment, &order)?;
        pulse.total_steps(plan.total_steps);

        let timeout = collective_timeout(&experiment);
        let group = Arc::new(rendezvous::join(place, context, run, store, timeout)?);
        let sync = (context.world_size > 1).then(|| Arc::clone(&group));
        let model = Model::new(&experiment.model, &Options::of(&experiment, device, sync))?;
        let parameters: Vec<Tensor> = model
            .registry()
            .trainable()
            .map(|entry| entry.tensor.shallow_clone())
            .collect();
        let bucket_bytes = (experiment.train.bucket_cap_mb * 1024.0 * 1024.0) as usize;
        let options = DdpOptions {
            bucket_bytes,
            ..DdpOptions::default()
        };
        let ddp = Ddp::new(&group, &parameters, &options)?;
        let mut optimizer = NamedAdamW::new(model.registry(), &experiment.optim)?;
        let mut events = context.is_lead().then(|| EventWriter::new(run, "rank-0"));

        let fresh = TrainState {
            samples_per_step: order.step_samples(),
            recipe_hash: experiment.recipe_hash(),
            ..TrainState::default()
        };
        let state = restore(
            context,
            run,
            &group,
            &model,
            &mut optimizer,
            events.as_mut(),
            fresh,
        )?;
        let schedule = Schedule::new(&experiment.optim, plan.steps_per_epoch, plan.total_steps);
        let metrics = context
            .is_lead()
            .then(|| {
                let fence = || Ok(run.fence_check(context.attempt)?);
                MetricsFile::resume(&run.metrics_path(), state.step, fence)
            })
            .transpose()?;
        if context.is_lead() {
            introduce(
                &experiment,
                &model,
                &plan,
                &order,
                &schedule,
                ddp.buckets().len(),
            );
        }
        let options = LoaderOptions::of(&experiment, source, order, u64::from(context.rank))?;
        let loader = Loader::new(options, order.at_step(state.step))?;
        pulse.phase(Phase::Training);
        Ok(Self {
            context,
            run: run.clone(),
            trainer: Trainer::new(model, ddp, optimizer, &experiment, device),
            pace: Pace::new(state.step, order.step_samples()),
            saved_step: (state.step > 0).then_some(state.step),
            saved_at: Instant::now(),
            last_score: None,
            experiment,
            group,
            device,
            schedule,
            plan,
            loader,
            eval_sets,
            state,
            pulse,
            metrics,
            events,
        })
    }
}

fn plan_of(experiment: &Experiment, order: &Order) -> Result<Plan> {
    let steps_per_epoch = order.steps_per_epoch();
    if steps_per_epoch == 0 {
        return Err(Error::new(
            ExitKind::Experiment,
            format!(
                "an optimiser step takes {} samples ({} ranks x batch_size {} x update_freq {}), but the data set has {}",
                order.step_samples(),
                order.world_size,
                order.batch_size,
                order.update_freq,
                order.samples
            ),
        )
        .hint("lower train.batch_size or train.update_freq, or use fewer ranks")
        .into());
    }
    Ok(Plan::new(experiment, steps_per_epoch))
}

/// Goes on from the last good checkpoint, which the lead chooses for all, or from nothing.
fn restore(
    context: &RankContext,
    run: &RunDir,
    group: &ProcessGroup,
    model: &Model,
    optimizer: &mut NamedAdamW,
    mut events: Option<&mut EventWriter>,
    fresh: TrainState,
) -> Result<TrainState> {
    let dir = run.checkpoints_dir();
    // Steps are small integers; -1 says that there is none.
    let chosen = Tensor::from(-1i64);
    let mut tell = |kind: EventKind, step: u64, cause: Option<String>| -> Result<()> {
        if let Some(events) = events.as_deref_mut() {
            run.fence_check(context.attempt)?;
            let event = Event::new(kind).attempt(context.attempt).step(step);
            events.append(match cause {
                Some(cause) => event.cause(cause),
                None => event,
            })?;
        }
        Ok(())
    };
    if context.is_lead() {
        let found = latest_good(&dir)?;
        for damaged in found.damaged {
            tracing::warn!(
                "checkpoint {} is passed over: {}",
                damaged.name,
                damaged.reason
            );
            let kind = EventKind::CheckpointSkipped { name: damaged.name };
            tell(kind, damaged.step, Some(damaged.reason))?;
        }
        if let Some(checkpoint) = found.checkpoint {
            let _ = chosen.shallow_clone().fill_(checkpoint.step() as i64);
        }
    }
    group.broadcast(&chosen, 0)?;
    let Ok(step) = u64::try_from(i64::try_from(chosen)?) else {
        if context.is_lead() {
            tell(EventKind::Restored { name: None }, 0, None)?;
        }
        return Ok(fresh);
    };
    let checkpoint =
        rocket_common::checkpoint::open(&dir.join(rocket_common::checkpoint::dir_name(step)))?;
    let restored = checkpoint::load(&checkpoint)?;
    load_model(model, &restored.model)
        .with_context(|| format!("checkpoint {} does not fit this model", checkpoint.name()))?;
    optimizer.load_state(&restored.optim)?;
    if restored.state.samples_per_step != fresh.samples_per_step {
        return Err(Error::new(
            ExitKind::Experiment,
            format!(
                "checkpoint {} was made with {} samples per step, this run takes {}",
                checkpoint.name(),
                restored.state.samples_per_step,
                fresh.samples_per_step
            ),
        )
        .hint("ranks x train.batch_size x train.update_freq must stay what it was")
        .into());
    }
    if context.is_lead() {
        tracing::info!("going on from {} (step {step})", checkpoint.name());
        let info = &checkpoint.manifest().info;
        if info.world_size != context.world_size {
            tracing::warn!(
                "the checkpoint was made by {} ranks, now there are {}: sums are rounded in another order",
                info.world_size,
                context.world_size
            );
        }
        tell(
            EventKind::Restored {
                name: Some(checkpoint.name()),
            },
            step,
            None,
        )?;
    }
    Ok(TrainState {
        recipe_hash: fresh.recipe_hash,
        ..restored.state
    })
}

/// Copies saved values into a model.
pub(crate) fn load_model(model: &Model, values: &BTreeMap<String, Tensor>) -> Result<()> {
    let values = values.iter().map(|(name, tensor)| (name.as_str(), tensor));
    model
        .registry()
        .load(values)
        .map_err(|error| Error::new(ExitKind::Checkpoint, error.to_string()).into())
}

/// The lead's first lines: what is going to happen.
fn introduce(
    experiment: &Experiment,
    model: &Model,
    plan: &Plan,
    order: &Order,
    schedule: &Schedule,
    buckets: usize,
) {
    tracing::info!(
        "{}: {:.1} M parameters, {} samples, {} steps ({} per epoch), {} ranks x batch {} x update_freq {}, {buckets} gradient buckets",
        experiment.name,
        model.registry().total_params() as f64 / 1e6,
        order.samples,
        plan.total_steps,
        plan.steps_per_epoch,
        order.world_size,
        order.batch_size,
        order.update_freq,
    );
    if order.dropped() > 0 {
        tracing::info!(
            "the last {} samples of each epoch fill no step and are not seen in it",
            order.dropped()
        );
    }
    if !schedule.reaches_peak() {
        tracing::warn!(
            "the run ends before its warm-up does: the learning rate never reaches optim.lr"
        );
    }
}
