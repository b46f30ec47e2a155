//! A checkpoint to convert, whoever wrote it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rocket_common::experiment::Experiment;
use serde_json::{Map, Value as Json};
use tch::Tensor;

use super::args::args_of;
use super::open_clip::{CONFIG_FILE, from_open_clip};
use super::optimizer::PtOptimizer;
use super::pt::{PtCheckpoint, read};
use super::training::checkpoint_of;
use super::{Result, Tensors, pt_writer, refuse};
use crate::checkpoint::{self, tensors};
use crate::model::Registry;

/// A checkpoint, and the experiment of its model where that is known.
#[derive(Debug)]
pub struct Source {
    /// The experiment; a run's own, or none yet.
    pub experiment: Option<Experiment>,
    path: PathBuf,
    content: PtCheckpoint,
    /// A run's optimiser state, by name.
    named: Option<BTreeMap<String, Tensor>>,
}

impl Source {
    /// Reads a run's directory, a checkpoint's directory, a folder that open_clip loads, or a file.
    ///
    /// # Errors
    /// If it is none of these, or cannot be read.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if !path.is_dir() {
            return Ok(Self {
                experiment: None,
                path: path.to_owned(),
                content: read(path)?,
                named: None,
            });
        }
        if path.join(CONFIG_FILE).is_file() {
            let (model, experiment) = from_open_clip(path)?;
            return Ok(Self {
                experiment: Some(experiment),
                path: path.to_owned(),
                content: PtCheckpoint {
                    model,
                    ..PtCheckpoint::default()
                },
                named: None,
            });
        }
        let checkpoint = checkpoint_of(path)?;
        // <run>/checkpoints/<checkpoint>
        let run = checkpoint.dir().ancestors().nth(2);
        let experiment = run
            .map(|run| run.join("experiment.yaml"))
            .filter(|file| file.is_file())
            .map(|file| Experiment::read(&file))
            .transpose()?;
        let restored = checkpoint::load(&checkpoint)?;
        let position = &checkpoint.manifest().info.position;
        if position.offset > 0 {
            eprintln!(
                "warning: {} is {} samples into epoch {}; the original counts whole epochs and would begin that \
                 epoch again",
                checkpoint.name(),
                position.offset,
                position.epoch
            );
        }
        Ok(Self {
            experiment,
            path: path.to_owned(),
            content: PtCheckpoint {
                model: restored.model.into_iter().collect(),
                momentum: restored
                    .momentum
                    .map(|tensors| tensors.into_iter().collect()),
                scaler: restored.state.scaler,
                epoch: Some(position.epoch),
                best_acc1: restored.state.best_score.map(|score| score * 100.0),
                ..PtCheckpoint::default()
            },
            named: Some(restored.optim),
        })
    }

    /// Whether a run of ours wrote it: then its form needs the model to become the original's.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.named.is_some()
    }

    /// The original's command line, where the file has it.
    #[must_use]
    pub fn args(&self) -> Option<&Map<String, Json>> {
        self.content.args.as_ref()
    }

    /// Its weights.
    #[must_use]
    pub fn model(&self) -> &Tensors {
        &self.content.model
    }

    /// The original's form, the weights those that `registry` was filled with: every name of a tied tensor,
    /// in the original's order.
    ///
    /// # Errors
    /// If the optimiser's state is of another model.
    pub fn into_checkpoint(
        self,
        registry: &Registry,
        experiment: &Experiment,
    ) -> Result<PtCheckpoint> {
        let mut content = self.content;
        content.model = all_names(registry, |_, tensor| Some(tensor.detach()));
        if let Some(momentum) = &content.momentum {
            let mut known: BTreeMap<&str, &Tensor> = momentum
                .iter()
                .map(|(name, tensor)| (name.as_str(), tensor))
                .collect();
            for (later, first) in registry.aliases() {
                if let Some(&tensor) = known.get(first) {
                    known.entry(later).or_insert(tensor);
                }
            }
            let ordered = all_names(registry, |name, _| {
                known.get(name).map(|tensor| tensor.shallow_clone())
            });
            content.momentum = Some(ordered);
        }
        if let Some(named) = &self.named {
            content.optimizer = Some(PtOptimizer::from_named(registry, named, &experiment.optim)?);
        }
        content.args.get_or_insert_with(|| args_of(experiment));
        Ok(content)
    }

    /// What the file holds, as it is.
    ///
    /// # Errors
    /// If a run of ours wrote it, whose form needs the model.
    pub fn into_original(self) -> Result<PtCheckpoint> {
        if self.is_ours() {
            return Err(refuse(
                &self.path,
                "is a run's checkpoint, and its experiment is not known",
            ));
        }
        Ok(self.content)
    }
}

fn all_names(registry: &Registry, pick: impl Fn(&str, &Tensor) -> Option<Tensor>) -> Tensors {
    registry
        .state_dict()
        .filter_map(|(name, tensor)| Some((name.to_owned(), pick(name, tensor)?)))
        .collect()
}

/// Writes weights as safetensors under their names. The file appears under its name when it is whole.
///
/// # Errors
/// If the file cannot be written, or a tensor's type has no place in it.
pub fn write_safetensors(path: &Path, model: &Tensors) -> Result<()> {
    pt_writer::whole(path, |aside| {
        tensors::save(aside, model).map_err(|error| std::io::Error::other(format!("{error:#}")))
    })
}
