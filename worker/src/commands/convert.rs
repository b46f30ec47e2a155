//! `rocket-worker convert`: a checkpoint in the form of another program.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use tch::Device;

use crate::checkpoint::tensors;
use crate::exchange::{
    self, CONFIG_FILE, Form, Head, PtCheckpoint, Source, Tensors, WEIGHTS_FILE, write_pt,
};
use crate::model::{Model, Options};

/// What to read, and what to write.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run directory (its last good checkpoint), a checkpoint's directory, or a file: .pt as torch.save
    /// writes it, or .safetensors.
    #[arg(value_name = "SRC")]
    src: PathBuf,
    /// The file to write, .pt or .safetensors; with '--to open_clip' the folder.
    #[arg(value_name = "DST")]
    dst: PathBuf,
    /// Form to write; by DST's ending if absent.
    #[arg(long, value_name = "FORM")]
    to: Option<To>,
    /// The experiment of SRC's model, where SRC does not say it.
    #[arg(long, value_name = "FILE")]
    experiment: Option<PathBuf>,
    /// Which projectors open_clip gets: CLIP's, or those of the augmented views.
    #[arg(long, value_name = "z|h", default_value = "z")]
    head: Head,
    /// Write the state dict alone to a .pt, not the original's checkpoint with its optimiser.
    #[arg(long)]
    weights_only: bool,
    /// Leave out the prefix 'module.' of DistributedDataParallel, which the original's .pt has.
    #[arg(long)]
    no_module: bool,
}

/// Forms that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum To {
    /// A file of torch.save, which the original resumes from.
    Pt,
    /// The weights alone, under the original's names.
    Safetensors,
    /// A folder that open_clip loads as local-dir:DST.
    #[value(name = "open_clip")]
    OpenClip,
}

/// Reads, checks against the model where that is known, and writes.
///
/// # Errors
/// If SRC cannot be read or is of another model, the model has no such form, or DST exists or cannot be
/// written.
pub fn run(args: &Args) -> Result<ExitKind> {
    let to = form(args)?;
    if args.dst.symlink_metadata().is_ok() {
        return Err(Error::new(
            ExitKind::Usage,
            format!("'{}' exists already", args.dst.display()),
        )
        .hint("remove it, or give another name")
        .into());
    }
    let mut source = exchange::Source::open(&args.src)?;
    if let Some(path) = &args.experiment {
        source.experiment = Some(read_experiment(path)?);
    }
    let model = build(&source, to)?;
    if let Some((model, _)) = &model {
        fit(model, &source, &args.src)?;
    }
    let checkpoint = match &model {
        Some((model, experiment)) => source.into_checkpoint(model.registry(), experiment)?,
        None => source.into_original()?,
    };
    let written = match to {
        To::Pt => {
            let form = if args.weights_only {
                Form::StateDict
            } else {
                Form::Checkpoint {
                    module: !args.no_module,
                }
            };
            write_pt(&args.dst, &checkpoint, form)?;
            describe(&checkpoint, args.weights_only)
        }
        To::Safetensors => {
            exchange::write_safetensors(&args.dst, &checkpoint.model)?;
            describe(&checkpoint, true)
        }
        To::OpenClip => {
            let (model, experiment) = model.context("open_clip's form needs the model")?;
            let (weights, config) =
                exchange::to_open_clip(model.registry(), &experiment.model, args.head)?;
            write_open_clip(&args.dst, &weights, &config)?;
            format!(
                "{} tensors, for open_clip as 'local-dir:{}'",
                weights.len(),
                args.dst.display()
            )
        }
    };
    writeln!(
        std::io::stdout(),
        "wrote '{}': {written}",
        args.dst.display()
    )?;
    Ok(ExitKind::Ok)
}

/// The form asked for, by name or by DST's ending.
fn form(args: &Args) -> Result<To> {
    if let Some(to) = args.to {
        return Ok(to);
    }
    match args.dst.extension().and_then(|end| end.to_str()) {
        Some("pt" | "pth" | "bin") => Ok(To::Pt),
        Some("safetensors") => Ok(To::Safetensors),
        _ => Err(Error::new(
            ExitKind::Usage,
            format!(
                "'{}' ends in neither .pt nor .safetensors",
                args.dst.display()
            ),
        )
        .hint("give --to pt, --to safetensors or --to open_clip")
        .into()),
    }
}

fn read_experiment(path: &Path) -> Result<Experiment> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::io("read", path, error).with_kind(ExitKind::Experiment))?;
    rocket_common::experiment::parse(&path.to_string_lossy(), &text, &[]).map_err(|wrong| {
        let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        Error::new(ExitKind::Experiment, lines.join("\nerror: ")).into()
    })
}

/// The model that the source holds, where that is known. Copying one file to another needs none.
fn build(source: &Source, to: To) -> Result<Option<(Model, Experiment)>> {
    let needed = to == To::OpenClip || source.is_ours();
    let experiment = match (&source.experiment, source.args()) {
        (Some(experiment), _) => experiment.clone(),
        (None, Some(args)) => match exchange::experiment_of(args) {
            Ok(experiment) => experiment,
            Err(error) if needed => return Err(error.into()),
            Err(error) => {
                eprintln!("warning: the names are not compared with a model's: {error}");
                return Ok(None);
            }
        },
        (None, None) if needed => {
            return Err(Error::new(
                ExitKind::Usage,
                "the source does not say which model it holds",
            )
            .hint("give the experiment with --experiment")
            .into());
        }
        (None, None) => return Ok(None),
    };
    let options = Options::of(&experiment, Device::Cpu, None);
    let model = Model::new(&experiment.model, &options)?;
    Ok(Some((model, experiment)))
}

/// Puts the source's weights into the model.
fn fit(model: &Model, source: &Source, path: &Path) -> Result<()> {
    model
        .registry()
        .load(
            source
                .model()
                .iter()
                .map(|(name, value)| (name.as_str(), value)),
        )
        .map_err(|error| Error::new(ExitKind::Checkpoint, error.to_string()))
        .with_context(|| format!("'{}' is of another model", path.display()))
}

/// What is in a file, in words.
fn describe(checkpoint: &PtCheckpoint, weights_only: bool) -> String {
    let mut parts = vec![format!("{} tensors", checkpoint.model.len())];
    if !weights_only {
        let others = [
            ("momentum encoder", checkpoint.momentum.is_some()),
            ("optimiser", checkpoint.optimizer.is_some()),
            ("scaler", checkpoint.scaler.is_some()),
            ("arguments", checkpoint.args.is_some()),
        ];
        parts.extend(
            others
                .into_iter()
                .filter(|(_, there)| *there)
                .map(|(name, _)| name.to_owned()),
        );
        parts.push(format!("epoch {}", checkpoint.epoch.unwrap_or(0)));
    }
    parts.join(", ")
}

/// Writes open_clip's folder. The configuration comes last, so that a folder with one is whole.
fn write_open_clip(dir: &Path, weights: &Tensors, config: &serde_json::Value) -> Result<()> {
    std::fs::create_dir_all(dir)
        .map_err(|error| Error::io("create", dir, error).with_kind(ExitKind::Checkpoint))?;
    tensors::save(&dir.join(WEIGHTS_FILE), weights)?;
    rocket_common::atomic::write_json(&dir.join(CONFIG_FILE), config)?;
    Ok(())
}
