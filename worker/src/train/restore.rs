//! Where a run goes on: its own last good checkpoint, or the one it was told to start from.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use rocket_common::checkpoint::latest_good;
use rocket_common::error::Error;
use rocket_common::events::{Event, EventKind, EventWriter};
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::RunDir;
use tch::Tensor;
use tch_distributed::ProcessGroup;

use super::step::Trainer;
use crate::checkpoint::{self, Restored, TrainState};
use crate::model::{Model, Registry};
use crate::rank::RankContext;

/// Goes on from the last good checkpoint, which the lead chooses for all, or from nothing.
pub(super) fn restore(
    context: &RankContext,
    run: &RunDir,
    group: &ProcessGroup,
    trainer: &mut Trainer,
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
    Ok(TrainState {
        recipe_hash: fresh.recipe_hash,
        ..restored.state
    })
}

/// Hands the saved values to the things that are trained.
fn put_back(trainer: &mut Trainer, restored: &Restored) -> Result<()> {
    load_model(&trainer.model, &restored.model)?;
    match (&trainer.momentum, &restored.momentum) {
        (None, None) => {}
        (Some(momentum), Some(values)) => {
            load(momentum.registry(), values).context("the momentum encoder")?;
        }
        (Some(_), None) => return Err(misfit("it holds no momentum encoder, and model.momentum is on")),
        (None, Some(_)) => return Err(misfit("it holds a momentum encoder, and model.momentum is off")),
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

/// Copies saved values into a model.
pub(crate) fn load_model(model: &Model, values: &BTreeMap<String, Tensor>) -> Result<()> {
    load(model.registry(), values)
}

fn load(registry: &Registry, values: &BTreeMap<String, Tensor>) -> Result<()> {
    let values = values.iter().map(|(name, tensor)| (name.as_str(), tensor));
    registry
        .load(values)
        .map_err(|error| Error::new(ExitKind::Checkpoint, error.to_string()).into())
}
