//! Where a run goes on: its own last good checkpoint, or the one it was told to start from.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rocket_common::checkpoint::{dir_name, latest_good};
use rocket_common::error::Error;
use rocket_common::events::{Event, EventKind, EventWriter};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use rocket_common::run_dir::RunDir;
use tch::Tensor;
use tch_distributed::ProcessGroup;

use super::step::Trainer;
use crate::checkpoint::{self, Restored, TrainState};
use crate::exchange::{self, Progress};
use crate::rank::RankContext;

/// A rank that starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start<'a> {
    pub context: &'a RankContext,
    pub run: &'a RunDir,
    pub group: &'a ProcessGroup,
    pub experiment: &'a Experiment,
    pub steps_per_epoch: u64,
}

/// Where a rank begins.
#[derive(Debug)]
pub(super) struct Begin {
    pub state: TrainState,
    /// From a checkpoint of the run itself.
    pub own: bool,
}

/// Goes on from the last good checkpoint, which the lead chooses for all, or from nothing.
pub(super) fn restore(
    start: &Start<'_>,
    trainer: &mut Trainer,
    mut events: Option<&mut EventWriter>,
    fresh: TrainState,
) -> Result<Begin> {
    let Start {
        context,
        run,
        group,
        experiment,
        ..
    } = *start;
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
        let state = begin(start, trainer, fresh)?;
        if context.is_lead() {
            let name = experiment.train.resume.as_ref();
            let name = name.map(|path| path.display().to_string());
            tell(EventKind::Restored { name }, state.step, None)?;
        }
        return Ok(Begin { state, own: false });
    };
    let checkpoint = rocket_common::checkpoint::open(&dir.join(dir_name(step)))?;
    let restored = checkpoint::load(&checkpoint)?;
    put_back(trainer, &restored)
        .with_context(|| format!("checkpoint {} does not fit this model", checkpoint.name()))?;
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
    let state = TrainState {
        recipe_hash: fresh.recipe_hash,
        ..restored.state
    };
    Ok(Begin { state, own: true })
}

/// The first start of a run: from fresh weights, or from what the experiment names.
fn begin(start: &Start<'_>, trainer: &mut Trainer, fresh: TrainState) -> Result<TrainState> {
    let experiment = start.experiment;
    if let Some(path) = &experiment.model.init_text_encoder {
        let values = exchange::load_text_encoder(&one_for_all(start, path)?)?;
        let named = values.iter().map(|(name, tensor)| (name.as_str(), tensor));
        let taken = trainer
            .model
            .init_text_encoder(named)
            .map_err(|error| misfit(&error.to_string()))
            .with_context(|| format!("model.init_text_encoder: {}", path.display()))?;
        tracing::info!(
            "{} tensors of the text tower are those of {}",
            taken.loaded.len(),
            path.display()
        );
        if let Some(momentum) = &trainer.momentum {
            momentum.follow(&trainer.model)?;
        }
    }
    match &experiment.train.resume {
        Some(path) => one_for_all(start, path)
            .and_then(|found| resume(trainer, &found, start.steps_per_epoch, fresh))
            .with_context(|| format!("train.resume: {}", path.display())),
        None => Ok(fresh),
    }
}

/// What all ranks read at a path: of a run the checkpoint that the lead finds, since one that goes on may
/// have another a moment later.
fn one_for_all(start: &Start<'_>, path: &Path) -> Result<PathBuf> {
    if !exchange::is_run(path) {
        return Ok(path.to_path_buf());
    }
    let found = start
        .context
        .is_lead()
        .then(|| exchange::checkpoint_of(path));
    let chosen = match &found {
        Some(Ok(checkpoint)) => Tensor::from(checkpoint.step() as i64),
        _ => Tensor::from(-1i64),
    };
    start.group.broadcast(&chosen, 0)?;
    if let Some(found) = found {
        return Ok(found?.dir().to_path_buf());
    }
    match u64::try_from(i64::try_from(chosen)?) {
        Ok(step) => {
            let run = RunDir::open(path)?;
            Ok(run.checkpoints_dir().join(dir_name(step)))
        }
        // Why the lead found none, every rank finds too.
        Err(_) => Ok(exchange::checkpoint_of(path)?.dir().to_path_buf()),
    }
}

/// Takes over weights, and what else a checkpoint of another run or of the original holds.
fn resume(
    trainer: &mut Trainer,
    path: &Path,
    steps_per_epoch: u64,
    fresh: TrainState,
) -> Result<TrainState> {
    let found = exchange::load_for_training(path, trainer.model.registry())?;
    if let Some(momentum) = &trainer.momentum {
        match &found.momentum {
            Some(values) => {
                checkpoint::fill(momentum.registry(), values).context("the momentum encoder")?
            }
            None => {
                tracing::warn!("it holds no momentum encoder: that begins with the weights");
                momentum.follow(&trainer.model)?;
            }
        }
    }
    match &found.optim {
        Some(optim) => trainer.optimizer.load_state(optim)?,
        None => tracing::warn!("it holds no optimiser: that begins anew"),
    }
    if let Some(scaler) = &found.scaler {
        trainer.scaler.set_state(scaler)?;
    }
    let step = match found.progress {
        Progress::Epochs(epochs) => epochs * steps_per_epoch,
        Progress::Steps(steps) => steps,
        Progress::Unknown => 0,
    };
    tracing::info!("going on from {} at step {step}", path.display());
    Ok(TrainState {
        step,
        last_eval_step: step,
        best_score: found.best_score,
        scaler: trainer.scaler.state()?,
        ..fresh
    })
}

/// Hands the saved values to the things that are trained.
fn put_back(trainer: &mut Trainer, restored: &Restored) -> Result<()> {
    checkpoint::fill(trainer.model.registry(), &restored.model)?;
    match (&trainer.momentum, &restored.momentum) {
        (None, None) => {}
        (Some(momentum), Some(values)) => {
            checkpoint::fill(momentum.registry(), values).context("the momentum encoder")?;
        }
        (Some(_), None) => {
            return Err(misfit(
                "it holds no momentum encoder, and model.momentum is on",
            ));
        }
        (None, Some(_)) => {
            return Err(misfit(
                "it holds a momentum encoder, and model.momentum is off",
            ));
        }
    }
    trainer.optimizer.load_state(&restored.optim)?;
    if let Some(scaler) = &restored.state.scaler {
        trainer.scaler.set_state(scaler)?;
    }
    Ok(())
}

fn misfit(what: &str) -> anyhow::Error {
    Error::new(ExitKind::Checkpoint, what).into()
}
