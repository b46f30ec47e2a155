//! What training takes from a checkpoint, whoever wrote it.

use std::collections::BTreeMap;
use std::path::Path;

use rocket_common::checkpoint as store;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::RunDir;
use tch::Tensor;
use tch_distributed::ScalerState;

use super::pt::read;
use super::{Result, refuse};
use crate::checkpoint;
use crate::model::Registry;

/// How far the checkpoint's training had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Whole epochs, as the original counts.
    Epochs(u64),
    /// Optimiser steps, as a run of ours counts.
    Steps(u64),
    /// Unknown: the file holds weights alone.
    Unknown,
}

/// A checkpoint to go on from.
#[derive(Debug)]
pub struct ForTraining {
    /// Parameters and buffers by name.
    pub model: BTreeMap<String, Tensor>,
    /// Those of the momentum encoder.
    pub momentum: Option<BTreeMap<String, Tensor>>,
    /// AdamW's state as `optim::NamedAdamW::load_state` takes it.
    pub optim: Option<BTreeMap<String, Tensor>>,
    /// The scaler's state.
    pub scaler: Option<ScalerState>,
    /// How far it had come.
    pub progress: Progress,
    /// Best score so far, a fraction of 1.
    pub best_score: Option<f64>,
}

/// Reads a checkpoint to go on from: a run's directory (its last good checkpoint), one checkpoint of a run,
/// a file of the original (`.pt`), or weights alone (`.pt`, `.safetensors`). `registry` is that of the model
/// that goes on: it takes over the weights, and the optimiser's numbers are mapped to names by it.
///
/// # Errors
/// If the checkpoint cannot be read, its weights do not fit (with every name that differs), or its optimiser
/// is of another model.
pub fn load_for_training(path: &Path, registry: &Registry) -> anyhow::Result<ForTraining> {
    if path.is_dir() {
        let restored = checkpoint::load(&checkpoint_of(path)?)?;
        checkpoint::fill(registry, &restored.model)?;
        return Ok(ForTraining {
            model: restored.model,
            momentum: restored.momentum,
            optim: Some(restored.optim),
            scaler: restored.state.scaler,
            progress: Progress::Steps(restored.state.step),
            best_score: restored.state.best_score,
        });
    }
    let read = read(path)?;
    // Before the optimiser's: these names are the ones that a person knows.
    checkpoint::fill(
        registry,
        read.model.iter().map(|(name, tensor)| (name, tensor)),
    )?;
    let optim = read
        .optimizer
        .map(|optimizer| optimizer.by_name(registry))
        .transpose()
        .map_err(|error| error.context(format!("'{}'", path.display())))?;
    Ok(ForTraining {
        model: read.model.into_iter().collect(),
        momentum: read.momentum.map(|tensors| tensors.into_iter().collect()),
        optim,
        scaler: read.scaler,
        progress: read.epoch.map_or(Progress::Unknown, Progress::Epochs),
        best_score: read.best_acc1.map(|percent| percent / 100.0),
    })
}

/// The weights of the text tower's blocks in a checkpoint, whoever wrote it: the tensors whose name holds
/// `transformer`, as the original takes them.
///
/// # Errors
/// If the checkpoint cannot be read or has no such tensor.
pub fn load_text_encoder(path: &Path) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let all: BTreeMap<String, Tensor> = if path.is_dir() {
        checkpoint::load_model(&checkpoint_of(path)?)?
    } else {
        read(path)?.model.into_iter().collect()
    };
    let text: BTreeMap<_, _> = all
        .into_iter()
        .filter(|(name, _)| name.contains("transformer"))
        .collect();
    if text.is_empty() {
        return Err(refuse(
            path,
            "has no text tower: no tensor's name holds 'transformer'",
        )
        .into());
    }
    Ok(text)
}

/// Whether a path is a folder that is no checkpoint itself, such as a run's.
#[must_use]
pub fn is_run(path: &Path) -> bool {
    path.is_dir() && !path.join("manifest.json").is_file()
}

/// The checkpoint that a directory is, or the last good one of the run that it is.
///
/// # Errors
/// If it is neither.
pub fn checkpoint_of(path: &Path) -> Result<store::Checkpoint> {
    let path = std::path::absolute(path).map_err(|error| Error::io("find", path, error))?;
    if path.join("manifest.json").is_file() {
        return store::verify(&path);
    }
    let run = RunDir::open(&path)?;
    store::latest_good(&run.checkpoints_dir())?
        .checkpoint
        .ok_or_else(|| {
            Error::new(
                ExitKind::Checkpoint,
                format!("the run '{}' has no good checkpoint", path.display()),
            )
        })
}
