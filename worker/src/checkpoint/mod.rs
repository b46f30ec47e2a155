//! What a checkpoint of a training run holds. How it gets to the disk safely is
//! [`rocket_common::checkpoint`]'s business.
//!
//! | section | file | content |
//! |---|---|---|
//! | `model` | `model.safetensors` | parameters and buffers under the reference's names |
//! | `optim` | `optim.safetensors` | `<parameter>.exp_avg`, `.exp_avg_sq`, `.step` |
//! | `momentum` | `momentum.safetensors` | the momentum encoder under the model's names, if there is one |
//! | `state` | `state.json` | [`TrainState`] |

pub mod tensors;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use rocket_common::checkpoint::{Checkpoint, Draft, Info, Published};
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::RunDir;
use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch_distributed::ScalerState;

use crate::model::Registry;

const MODEL: (&str, u32, &str) = ("model", 1, "model.safetensors");
const OPTIM: (&str, u32, &str) = ("optim", 1, "optim.safetensors");
const MOMENTUM: (&str, u32, &str) = ("momentum", 1, "momentum.safetensors");
const STATE: (&str, u32, &str) = ("state", 1, "state.json");

/// The part of a run's state that is no tensor. Everything random is a function of the seed and of
/// `step`, so no generator is stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    /// Optimiser steps done.
    pub step: u64,
    /// Samples of one optimiser step over all ranks: the data position counts in them.
    pub samples_per_step: u64,
    /// Step of the last evaluation that was completed.
    pub last_eval_step: u64,
    /// Best score so far, a fraction of 1.
    pub best_score: Option<f64>,
    /// Unreadable samples met so far.
    pub bad_samples: u64,
    /// Hash of the experiment's recipe.
    pub recipe_hash: String,
    /// Scale of the loss in float16, and its history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaler: Option<ScalerState>,
}

/// Everything that is saved, borrowed from the run.
#[derive(Debug)]
pub struct Snapshot<'a> {
    /// Parameters and buffers by name.
    pub model: &'a [(String, Tensor)],
    /// Optimiser state by name.
    pub optim: &'a [(String, Tensor)],
    /// The momentum encoder's parameters and buffers by name.
    pub momentum: Option<&'a [(String, Tensor)]>,
    /// The rest.
    pub state: &'a TrainState,
}

/// Everything that was saved.
#[derive(Debug)]
pub struct Restored {
    /// Parameters and buffers by name.
    pub model: BTreeMap<String, Tensor>,
    /// Optimiser state by name.
    pub optim: BTreeMap<String, Tensor>,
    /// The momentum encoder's parameters and buffers by name, if there was one.
    pub momentum: Option<BTreeMap<String, Tensor>>,
    /// The rest.
    pub state: TrainState,
}

/// Writes and publishes a checkpoint.
///
/// # Errors
/// Kind [`ExitKind::Checkpoint`] when it could not be written (earlier ones are untouched), kind
/// [`ExitKind::Fenced`] when a newer attempt exists.
pub fn save(run: &RunDir, attempt: u32, snapshot: &Snapshot<'_>, info: Info) -> Result<Published> {
    let write = || -> Result<Published> {
        let mut draft = Draft::begin(run, attempt, info.step)?;
        let momentum = snapshot.momentum.map(|values| (MOMENTUM, values));
        let sections = [(MODEL, snapshot.model), (OPTIM, snapshot.optim)];
        for ((name, version, file), values) in sections.into_iter().chain(momentum) {
            tensors::save(&draft.dir().join(file), values).map_err(as_checkpoint_error)?;
            draft.adopt(name, version, file)?;
        }
        let (name, version, file) = STATE;
        draft.write(
            name,
            version,
            file,
            &serde_json::to_vec_pretty(snapshot.state)?,
        )?;
        Ok(draft.publish(info.clone())?)
    };
    write().with_context(|| format!("the checkpoint of step {} was not saved", info.step))
}

/// Reads a checkpoint.
///
/// # Errors
/// Kind [`ExitKind::Checkpoint`] when a section is missing, newer than this version, or unreadable.
pub fn load(checkpoint: &Checkpoint) -> Result<Restored> {
    let read = || -> Result<Restored> {
        let state_path = checkpoint.section_path(STATE.0, STATE.1)?;
        Ok(Restored {
            model: tensors::load(&checkpoint.section_path(MODEL.0, MODEL.1)?)?,
            optim: tensors::load(&checkpoint.section_path(OPTIM.0, OPTIM.1)?)?,
            momentum: checkpoint
                .has_section(MOMENTUM.0)
                .then(|| tensors::load(&checkpoint.section_path(MOMENTUM.0, MOMENTUM.1)?))
                .transpose()?,
            state: rocket_common::atomic::read_json(&state_path)?,
        })
    };
    read()
        .map_err(as_checkpoint_error)
        .with_context(|| format!("cannot read checkpoint {}", checkpoint.dir().display()))
}

/// Parameters and buffers alone, for evaluation and export.
///
/// # Errors
/// As [`load`].
pub fn load_model(checkpoint: &Checkpoint) -> Result<BTreeMap<String, Tensor>> {
    checkpoint
        .section_path(MODEL.0, MODEL.1)
        .map_err(anyhow::Error::from)
        .and_then(|path| tensors::load(&path))
        .map_err(as_checkpoint_error)
        .with_context(|| format!("cannot read checkpoint {}", checkpoint.dir().display()))
}

/// Copies saved values into a model's tensors.
///
/// # Errors
/// Kind [`ExitKind::Checkpoint`] with every name that differs; nothing is copied then.
pub fn fill<'a>(
    registry: &Registry,
    values: impl IntoIterator<Item = (&'a String, &'a Tensor)>,
) -> Result<()> {
    let values = values.into_iter();
    registry
        .load(values.map(|(name, tensor)| (name.as_str(), tensor)))
        .map_err(|error| Error::new(ExitKind::Checkpoint, error.to_string()).into())
}

/// Gives an error that has no kind yet the kind of checkpoints.
fn as_checkpoint_error(error: anyhow::Error) -> anyhow::Error {
    if error.chain().any(|cause| cause.is::<Error>()) {
        return error;
    }
    let full = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(rocket_common::error::is_disk_full);
    let mut typed = Error::new(ExitKind::Checkpoint, format!("{error:#}"));
    if full {
        typed = typed.hint(
            "the disk is full: free space, then 'rocket resume'; the last checkpoint is intact",
        );
    }
    typed.into()
}
