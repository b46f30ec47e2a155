//! `rocket-worker parity --against CHECKPOINT`: the first layer of a model that differs from a recorded one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment;
use tch::{Device, Kind, Tensor};

use crate::checkpoint::tensors;
use crate::exchange::{self, Source};
use crate::model::{Model, Options};
use crate::parity::against::{Comparison, INPUTS, Layer, Recording, compare, layers};
use crate::parity::{Recipe, hash_values};

/// Layers shown before the first that differs.
const SHOWN: usize = 3;
/// Tokens of the text that stands in where no inputs were recorded.
const WORDS: [i64; 5] = [3, 11, 5, 3, 19];

/// One model's layers.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Against {
    /// Run the model of this checkpoint (.pt or .safetensors, or a run's directory) and name its first layer
    /// whose output differs from the recorded one.
    #[arg(long, value_name = "CHECKPOINT")]
    pub(super) against: Option<PathBuf>,
    /// What to compare with: a .safetensors or .pt file of the inputs 'image' and 'tokens' and of layers'
    /// outputs under their module paths, as tools/record_layers.py writes it. CHECKPOINT with the ending
    /// .layers.safetensors if absent.
    #[arg(long, value_name = "FILE", requires = "against")]
    recorded: Option<PathBuf>,
    /// Write this build's layers to FILE instead of comparing; on the inputs of --recorded, or on made-up
    /// ones.
    #[arg(long, value_name = "FILE", requires = "against")]
    record: Option<PathBuf>,
    /// The experiment of the checkpoint's model, where the checkpoint does not say it.
    #[arg(long, value_name = "FILE", requires = "against")]
    experiment: Option<PathBuf>,
    /// The same as the original's command line: a name and flags, as in 'CL2L_R50_CL2L --separate-proj'.
    #[arg(
        long,
        value_name = "NAME FLAGS",
        requires = "against",
        conflicts_with = "experiment"
    )]
    model: Option<String>,
    /// Norm of a layer's difference, as a share of the recorded norm, from which on it differs.
    #[arg(long, default_value_t = 1e-4, value_name = "SHARE")]
    tolerance: f64,
}

/// Compares, prints what was found, and ends with [`ExitKind::Parity`] if a layer differs.
///
/// # Errors
/// If a file cannot be read, or checkpoint, recording and model do not belong together.
pub(super) fn run(checkpoint: &Path, args: &Against) -> Result<ExitKind> {
    let source = Source::open(checkpoint)?;
    let model = model(&source, checkpoint, args)?;
    let recorded = match (&args.recorded, &args.record) {
        (Some(file), _) => Some(file.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(checkpoint.with_extension("layers.safetensors")),
    };
    let recording = match &recorded {
        Some(file) => exchange::read(file)?.model.into_iter().collect(),
        None => made_up(&model)?,
    };
    if let Some(file) = &args.record {
        return record(&model, recording, file);
    }
    let recorded = recorded.unwrap_or_default();
    let comparison = compare(&model, &recording, args.tolerance)
        .with_context(|| format!("cannot compare with '{}'", recorded.display()))?;
    Ok(report(&comparison))
}

/// Builds the checkpoint's model with its weights.
fn model(source: &Source, checkpoint: &Path, args: &Against) -> Result<Model> {
    let (spec, mut options) = if let Some(line) = &args.model {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let flags: Vec<String> = words.map(str::to_owned).collect();
        let recipe = Recipe::parse(name, &flags, Kind::Float)
            .map_err(|error| Error::new(ExitKind::Usage, error))?;
        (recipe.spec, recipe.options)
    } else {
        let experiment = match (&args.experiment, &source.experiment, source.args()) {
            (Some(path), ..) => read_experiment(path)?,
            (None, Some(experiment), _) => experiment.clone(),
            (None, None, Some(flags)) => exchange::experiment_of(flags)?,
            (None, None, None) => {
                let text = format!(
                    "'{}' does not say which model it holds",
                    checkpoint.display()
                );
                let hint =
                    "give it with --model 'CL2L_R50_CL2L --separate-proj' or with --experiment";
                return Err(Error::new(ExitKind::Usage, text).hint(hint).into());
            }
        };
        let options = Options::of(&experiment, Device::Cpu, None);
        (experiment.model, options)
    };
    // Recorded layers have every position.
    options.truncate = false;
    let model = Model::new(&spec, &options)?;
    let weights = source.model().iter();
    model
        .registry()
        .load(weights.map(|(name, value)| (name.as_str(), value)))
        .map_err(|error| Error::new(ExitKind::Checkpoint, error.to_string()))
        .with_context(|| format!("'{}' is of another model", checkpoint.display()))?;
    Ok(model)
}

fn read_experiment(path: &Path) -> Result<experiment::Experiment> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::io("read", path, error).with_kind(ExitKind::Experiment))?;
    experiment::parse(&path.to_string_lossy(), &text, &[]).map_err(|wrong| {
        let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        Error::new(ExitKind::Experiment, lines.join("\nerror: ")).into()
    })
}

/// Inputs where none were recorded: an image by formula, and a short text of tokens that any vocabulary has.
fn made_up(model: &Model) -> Result<Recording> {
    let side = model.vision_size().image_size();
    let pixels = usize::try_from(3 * side * side)?;
    let image: Vec<f32> = hash_values("image", pixels).map(|v| v as f32).collect();
    let size = |name: &str| -> Result<i64> {
        let tensor = model.registry().get(name);
        let tensor = tensor.with_context(|| format!("the model has no {name}"))?;
        Ok(tensor.size()[0])
    };
    let (length, vocabulary) = (
        size("positional_embedding")?,
        size("token_embedding.weight")?,
    );
    let mut tokens = vec![0; usize::try_from(length)?];
    // The last two tokens enclose a text.
    let text = [&[vocabulary - 2], &WORDS[..], &[vocabulary - 1]].concat();
    for (place, token) in tokens.iter_mut().zip(text) {
        *place = token.min(vocabulary - 1);
    }
    Ok(Recording::from([
        (
            "image".to_owned(),
            Tensor::f_from_slice(&image)?.f_view([1, 3, side, side])?,
        ),
        (
            "tokens".to_owned(),
            Tensor::f_from_slice(&tokens)?.f_view([1, length])?,
        ),
    ]))
}

/// Writes this build's layers and their inputs.
fn record(model: &Model, inputs: Recording, file: &Path) -> Result<ExitKind> {
    let _guard = tch::no_grad_guard();
    let mut all: Recording = layers(model, &inputs)?.into_iter().collect();
    for name in INPUTS {
        if let Some(input) = inputs.get(name) {
            all.insert(name.to_owned(), input.shallow_clone());
        }
    }
    let all: Vec<_> = all.into_iter().collect();
    tensors::save(file, &all)?;
    println!("{}: {} tensors", file.display(), all.len());
    Ok(ExitKind::Ok)
}

/// Prints the first layer that differs, what came before it, and how many follow.
fn report(comparison: &Comparison) -> ExitKind {
    let say = |layer: &Layer| {
        let (ours, recorded) = &layer.shapes;
        match layer.deviation {
            Some(share) => println!("  {:<32} {share:.3e}", layer.name),
            None => println!(
                "  {:<32} is {ours:?} here and {recorded:?} there",
                layer.name
            ),
        }
    };
    let count = comparison.layers.len();
    println!(
        "{count} layers compared, {} of the recording have no counterpart",
        comparison.left_out
    );
    let Some(first) = comparison.first() else {
        if let Some(worst) = comparison.worst() {
            println!("all agree; the worst:");
            say(worst);
        }
        return ExitKind::Ok;
    };
    let at = comparison
        .layers
        .iter()
        .position(|layer| layer == first)
        .unwrap_or(0);
    println!("the first layer that differs is {}", first.name);
    comparison.layers[at.saturating_sub(SHOWN)..=at]
        .iter()
        .for_each(say);
    let later = comparison.layers[at + 1..]
        .iter()
        .filter(|layer| comparison.differs(layer))
        .count();
    println!("  and {later} of the {} after it", count - at - 1);
    ExitKind::Parity
}
