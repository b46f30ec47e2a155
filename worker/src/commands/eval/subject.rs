//! Which weights are looked at: those of a run, or of a file of any program.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rocket_common::checkpoint::{self as store, Checkpoint};
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{DeviceKind, Experiment, Precision};
use rocket_common::run_dir::RunDir;

use super::sets::Files;
use super::weights;
use crate::eval::{self, Autocast, Settings};
use crate::exchange::Source;
use crate::model::Model;
use crate::train::device;

/// Weights and how they compute, as arguments.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Which {
    /// The run directory.
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Which checkpoint of the run: 'best' by z top-1 on the first set of the experiment, 'last', a step,
    /// or the path of a checkpoint's directory.
    #[arg(long, value_name = "best|last|STEP|PATH", default_value = "best")]
    checkpoint: String,
    /// Weights in place of a run's: a file of torch.save (.pt) or .safetensors under the original's names,
    /// or a folder that open_clip loads.
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    described: weights::Described,
    /// Threads that decode images; all processors if absent.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Threads of torch; the experiment's if absent, since sums, and so near ties, depend on their number.
    #[arg(long, value_name = "N")]
    torch_threads: Option<usize>,
    /// Type that embeddings are computed in; the experiment's if absent.
    #[arg(long, value_name = "auto|float32|bf16|fp16", value_parser = precision)]
    precision: Option<Precision>,
    /// Where to compute; the experiment's if absent.
    #[arg(long, value_name = "auto|cpu|cuda", value_parser = device_kind)]
    device: Option<DeviceKind>,
}

/// A word of the experiment.
fn word<T: serde::de::DeserializeOwned>(text: &str, choices: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|_| format!("choose one of {choices}"))
}

fn precision(text: &str) -> Result<Precision, String> {
    word(text, "auto, float32, bf16, fp16")
}

fn device_kind(text: &str) -> Result<DeviceKind, String> {
    word(text, "auto, cpu, cuda")
}

/// What is known before the weights are read.
pub(in crate::commands) struct About {
    pub(in crate::commands) experiment: Experiment,
    pin: PathBuf,
    repo: PathBuf,
    from: Holder,
}

enum Holder {
    Run(RunDir),
    File(PathBuf, Box<Source>),
}

/// A model, ready, and where its results go.
pub(in crate::commands) struct Subject {
    pub(in crate::commands) model: Model,
    /// Optimiser steps of its checkpoint; 0 if that is not known.
    pub(in crate::commands) step: u64,
    /// The checkpoint, by name or path.
    pub(in crate::commands) name: String,
    /// Folder of results.
    pub(in crate::commands) results: Option<PathBuf>,
    pub(in crate::commands) settings: Settings,
    kind: Option<tch::Kind>,
}

impl Which {
    /// Finds out which model it is.
    ///
    /// # Errors
    /// There is no such run or file, or nobody says which model it holds.
    pub(in crate::commands) fn about(&self) -> Result<About> {
        if let Some(path) = &self.weights {
            let source = Source::open(path)?;
            return Ok(About {
                experiment: self.described.experiment(&source, path)?,
                pin: PathBuf::new(),
                repo: PathBuf::new(),
                from: Holder::File(path.clone(), Box::new(source)),
            });
        }
        let dir = self.run.as_ref().ok_or_else(|| {
            Error::new(
                ExitKind::Usage,
                "it is not said what to score: neither --run nor --weights is given",
            )
        })?;
        let run = RunDir::open(dir)?;
        Ok(About {
            experiment: Experiment::read(&run.experiment_path())?,
            pin: std::env::var_os(rocket_common::protocol::env::PIN_DIR)
                .map_or_else(|| run.path().join("pin"), PathBuf::from),
            repo: run.manifest()?.repo,
            from: Holder::Run(run),
        })
    }
}

impl About {
    /// Where sets are described: as the run's experiment names them, or in the current folder.
    pub(in crate::commands) fn files(&self) -> Files {
        Files::of(&self.experiment.eval, &self.pin, &self.repo)
    }

    /// Reads the weights. `output`: where the results of a file go; those of a run go to its own `eval/`.
    ///
    /// # Errors
    /// There is no such checkpoint, it is of another model, or a GPU is asked for where there is none.
    pub(in crate::commands) fn load(self, which: &Which, output: Option<&Path>) -> Result<Subject> {
        let mut experiment = self.experiment;
        if let Some(device) = which.device {
            experiment.cluster.device = device;
        }
        let checkpoint = match &self.from {
            Holder::Run(run) => Some(choose(run, &which.checkpoint)?),
            Holder::File(..) => None,
        };
        device::prepare(experiment.cluster.device)?;
        let threads = which.torch_threads.unwrap_or(experiment.train.threads);
        tch::set_num_threads(i32::try_from(threads).unwrap_or(1).max(1));
        let device = device::choose(&experiment, 0)?;
        let batch = usize::try_from(experiment.eval.batch_size).unwrap_or(1);
        let settings = Settings {
            image_batch: batch.max(1),
            text_batch: batch.max(1),
            threads: which.threads.unwrap_or_else(available),
            details: false,
        };
        let kind = eval::kind(which.precision.unwrap_or(experiment.eval.precision), device);
        match (&self.from, checkpoint) {
            (Holder::Run(run), Some(checkpoint)) => {
                let ours = checkpoint.dir().parent() == Some(run.checkpoints_dir().as_path());
                Ok(Subject {
                    model: weights::of_checkpoint(&experiment, &checkpoint, device)?,
                    step: checkpoint.step(),
                    name: checkpoint.name(),
                    results: ours.then(|| run.eval_dir()),
                    settings,
                    kind,
                })
            }
            (Holder::File(path, source), _) => Ok(Subject {
                model: weights::of_source(&experiment, source, path, device)?,
                step: 0,
                name: path.display().to_string(),
                results: output.map(Path::to_owned),
                settings,
                kind,
            }),
            (Holder::Run(_), None) => Err(Error::new(ExitKind::Internal, "no checkpoint").into()),
        }
    }
}

impl Subject {
    /// The model in the type that was asked for.
    pub(in crate::commands) fn encoder(&self) -> Autocast<'_> {
        Autocast {
            model: &self.model,
            kind: self.kind,
        }
    }
}

fn choose(run: &RunDir, wish: &str) -> Result<Checkpoint> {
    let mut warn = |said: String| eprintln!("warning: {said}");
    Ok(store::pick(
        &run.checkpoints_dir(),
        wish,
        store::verify,
        &mut warn,
    )?)
}

fn available() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
