//! Everything a rank holds while it trains, and how it comes to hold it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use rocket_common::error::Error;
use rocket_common::events::EventWriter;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use rocket_common::protocol::Phase;
use rocket_common::run_dir::RunDir;
use tch::Device;
use tch_distributed::{ProcessGroup, Store};

use super::collective_timeout;
use super::device;
use super::evaluate::EvalSets;
use super::heartbeat::Pulse;
use super::plan::Plan;
use super::progress::Pace;
use super::rendezvous;
use super::restore::{Begin, Start, restore};
use super::step::Trainer;
use crate::checkpoint::TrainState;
use crate::data::{self, Loader, LoaderOptions, Order};
use crate::optim::Schedule;
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
        device::prepare(experiment.cluster.device)?;
        let threads = i32::try_from(experiment.train.threads).unwrap_or(1).max(1);
        tch::set_num_threads(threads);
        let device = device::choose(&experiment, context.local_rank)?;

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
        let group = Arc::new(rendezvous::join(
            place, context, run, store, device, timeout,
        )?);
        let mut trainer = Trainer::build(&experiment, device, &group)?;
        let mut events = context.is_lead().then(|| EventWriter::new(run, "rank-0"));

        let fresh = TrainState {
            samples_per_step: order.step_samples(),
            recipe_hash: experiment.recipe_hash(),
            ..TrainState::default()
        };
        let start = Start {
            context,
            run,
            group: &group,
            experiment: &experiment,
            steps_per_epoch: plan.steps_per_epoch,
        };
        let Begin { state, own } = restore(&start, &mut trainer, events.as_mut(), fresh)?;
        if !own {
            refuse_to_begin_at_the_end(&experiment, state.step, &plan)?;
        }
        let schedule = Schedule::new(&experiment.optim, plan.steps_per_epoch, plan.total_steps);
        let metrics = context
            .is_lead()
            .then(|| {
                let fence = || Ok(run.fence_check(context.attempt)?);
                MetricsFile::resume(&run.metrics_path(), state.step, fence)
            })
            .transpose()?;
        if context.is_lead() {
            introduce(&experiment, &trainer, &plan, &order, &schedule);
        }
        let options = LoaderOptions::of(&experiment, source, order, u64::from(context.rank))?;
        let loader = Loader::new(options, order.at_step(state.step))?;
        pulse.phase(Phase::Training);
        Ok(Self {
            context,
            run: run.clone(),
            trainer,
            pace: Pace::new(state.step, order.step_samples()),
            saved_step: own.then_some(state.step),
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

/// A run that is told to start where another has ended would finish at once, with nothing to show.
fn refuse_to_begin_at_the_end(experiment: &Experiment, step: u64, plan: &Plan) -> Result<()> {
    let Some(path) = &experiment.train.resume else {
        return Ok(());
    };
    if step < plan.total_steps {
        return Ok(());
    }
    Err(Error::new(
        ExitKind::Experiment,
        format!(
            "train.resume: '{}' is at step {step}, and this run ends at step {}",
            path.display(),
            plan.total_steps
        ),
    )
    .hint("raise train.epochs or train.max_steps to train it further")
    .hint("to begin at step 0 with its weights, resume from a file of 'rocket-worker convert CHECKPOINT weights.safetensors'")
    .into())
}

/// The lead's first lines: what is going to happen.
fn introduce(
    experiment: &Experiment,
    trainer: &Trainer,
    plan: &Plan,
    order: &Order,
    schedule: &Schedule,
) {
    let buckets = trainer.ddp.buckets().len();
    tracing::info!(
        "{}: {:.1} M parameters, {} samples, {} steps ({} per epoch), {} ranks x batch {} x update_freq {}, {buckets} gradient buckets",
        experiment.name,
        trainer.model.registry().total_params() as f64 / 1e6,
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
