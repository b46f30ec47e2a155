//! The model that is scored: a run's, or any that can be read from a file.

use std::path::Path;

use anyhow::{Context, Result};
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{self, Experiment};
use tch::Device;

use crate::checkpoint;
use crate::exchange::Source;
use crate::model::{Model, Options};

/// A model for evaluation, with the weights of a run's checkpoint.
///
/// # Errors
/// The checkpoint cannot be read, or is of another model: which names differ.
pub(super) fn of_checkpoint(
    experiment: &Experiment,
    checkpoint: &rocket_common::checkpoint::Checkpoint,
    device: Device,
) -> Result<Model> {
    let model = Model::new(&experiment.model, &Options::of(experiment, device, None))?;
    let values = checkpoint::load_model(checkpoint)?;
    model
        .registry()
        .load(values.iter().map(|(name, value)| (name.as_str(), value)))
        .map_err(|error| Error::new(ExitKind::Checkpoint, error.to_string()))
        .with_context(|| format!("checkpoint {} is of another model", checkpoint.name()))?;
    Ok(model)
}

/// A model for evaluation, with the weights of a file that was opened.
///
/// # Errors
/// The weights are of another model: which names differ.
pub(super) fn of_source(
    experiment: &Experiment,
    source: &Source,
    path: &Path,
    device: Device,
) -> Result<Model> {
    let model = Model::new(&experiment.model, &Options::of(experiment, device, None))?;
    let weights = source.model().iter();
    model
        .registry()
        .load(weights.map(|(name, value)| (name.as_str(), value)))
        .map_err(|error| Error::new(ExitKind::Checkpoint, error.to_string()))
        .with_context(|| format!("'{}' is of another model", path.display()))?;
    Ok(model)
}

/// What is known of a file's model: given by the person, or by the file itself.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Described {
    /// Name of the model in '--weights', where the file does not say it: CL2L_R50_CL2L, ...
    #[arg(
        long,
        value_name = "NAME",
        requires = "weights",
        conflicts_with = "experiment"
    )]
    model: Option<String>,
    /// Experiment of the model in '--weights', where the file does not say it
    #[arg(long, value_name = "FILE", requires = "weights")]
    experiment: Option<std::path::PathBuf>,
    /// Override of that experiment, as in model.separate_proj=true
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "weights")]
    sets: Vec<String>,
}

impl Described {
    /// The experiment of a file's model: what is given goes before what the file says.
    ///
    /// # Errors
    /// Nobody says which model it is, or what is given is wrong.
    pub(super) fn experiment(&self, source: &Source, path: &Path) -> Result<Experiment> {
        let (shown, text) = match (&self.experiment, &self.model) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    Error::io("read", file, error).with_kind(ExitKind::Experiment)
                })?;
                (file.display().to_string(), text)
            }
            // Nothing is trained: the data are never looked at.
            (None, Some(name)) => (
                format!("--model {name}"),
                format!(
                    "{{name: weights, model: {{name: '{name}'}}, data: {{root: /, metadata: /}}}}"
                ),
            ),
            (None, None) => {
                let known = match (&source.experiment, source.args()) {
                    (Some(experiment), _) => experiment.clone(),
                    (None, Some(args)) => crate::exchange::experiment_of(args)?,
                    (None, None) => {
                        return Err(Error::new(
                            ExitKind::Usage,
                            format!("'{}' does not say which model it holds", path.display()),
                        )
                        .hint("name it with --model, with --set model.separate_proj=true and the like where it is not the default")
                        .hint("or give its experiment with --experiment")
                        .into());
                    }
                };
                (path.display().to_string(), known.to_yaml())
            }
        };
        experiment::parse(&shown, &text, &self.sets).map_err(|wrong| {
            let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
            Error::new(ExitKind::Experiment, lines.join("\nerror: ")).into()
        })
    }
}
