//! `rocket-worker bench`: measures the parts whose speed is compared with the original's.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{self, Experiment};
use serde_json::json;
use tch::{Device, Kind, Tensor};
use tch_distributed::optim as gradients;

use super::bench_data::{self, LoaderArgs, TokenizerArgs};
use super::bench_eval;
use super::bench_index;
use crate::data::{self, Loader, LoaderOptions, Order};
use crate::loss::{Alone, Objective};
use crate::model::{Batch, Model, Options};
use crate::optim::NamedAdamW;
use crate::train::heartbeat::peak_resident_bytes;

/// Different batches, taken in turn.
const BATCHES: usize = 2;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// A training step of one process: forward, loss, backward, AdamW.
    Step(StepArgs),
    /// The text tower alone: forward and backward of all captions.
    Text(StepArgs),
    /// The data loader alone: files to batches.
    Loader(LoaderArgs),
    /// The tokenizer alone, on one thread.
    Tokenizer(TokenizerArgs),
    /// The index of a data set: time to the first sample, and memory over many processes.
    Index(bench_index::IndexArgs),
    /// The files of a data set's images, read and not decoded.
    Read(bench_index::ReadArgs),
    /// An evaluation of one set, from its prompts to its scores.
    Eval(bench_eval::Args),
}

#[derive(Debug, clap::Args)]
struct StepArgs {
    /// The experiment whose model, batch size and data are taken.
    experiment: PathBuf,
    /// Overrides, as for `rocket submit`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Steps that are timed.
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Steps before them that are not.
    #[arg(long, default_value_t = 3)]
    warmup: usize,
    /// Threads of torch's operators.
    #[arg(long, default_value_t = 2)]
    threads: i32,
    /// Make one step for each line of stdin, and print its seconds, until stdin ends. In this way programs
    /// that are compared take turns step by step, and a machine whose speed drifts slows them alike.
    #[arg(long, conflicts_with_all = ["steps", "warmup"])]
    paced: bool,
    /// Write the batches to this safetensors file, so that a peer can take the same.
    #[arg(long, value_name = "FILE")]
    dump_batch: Option<PathBuf>,
}

/// Prints one JSON object with the seconds of each step, their median, the last loss and the peak of
/// resident memory.
///
/// # Errors
/// A wrong experiment, or data that cannot be read.
pub fn run(args: &Args) -> Result<ExitKind> {
    let (args, text_alone) = match &args.what {
        What::Step(args) => (args, false),
        What::Text(args) => (args, true),
        What::Loader(args) => return bench_data::loader(args),
        What::Tokenizer(args) => return bench_data::tokenizer(args),
        What::Index(args) => return bench_index::run(args),
        What::Read(args) => return bench_index::read(args),
        What::Eval(args) => return bench_eval::run(args),
    };
    let experiment = read_experiment(&args.experiment, &args.set)?;
    tch::set_num_threads(args.threads.max(1));
    let batches = batches(&experiment, text_alone)?;
    if let Some(path) = &args.dump_batch {
        dump(&batches, path)?;
    }
    let options = Options::of(&experiment, Device::Cpu, None);
    let model = Model::new(&experiment.model, &options)?;
    let optimizer = NamedAdamW::new(model.registry(), &experiment.optim)?;
    let mut bench = Bench {
        experiment: &experiment,
        batches: &batches,
        objective: Objective::of(&experiment),
        model: &model,
        optimizer,
        text_alone,
    };
    if args.paced {
        return bench.paced();
    }
    let mut seconds = Vec::new();
    let mut loss = 0.0;
    for number in 0..args.warmup + args.steps {
        let (took, of_step) = bench.step(number)?;
        loss = of_step;
        if number >= args.warmup {
            seconds.push(took);
        }
    }
    let mut sorted = seconds.clone();
    sorted.sort_by(f64::total_cmp);
    println!(
        "{}",
        json!({
            "median_seconds": sorted.get(sorted.len() / 2),
            "seconds": seconds,
            "loss": loss,
            "threads": args.threads,
            "peak_bytes": peak_resident_bytes(),
        })
    );
    Ok(ExitKind::Ok)
}

/// What is measured.
struct Bench<'a> {
    experiment: &'a Experiment,
    batches: &'a [Batch],
    objective: Objective,
    model: &'a Model,
    optimizer: NamedAdamW,
    text_alone: bool,
}

impl Bench<'_> {
    /// Seconds and loss of a step.
    fn step(&mut self, number: usize) -> Result<(f64, f64)> {
        let batch = &self.batches[number % self.batches.len()];
        let started = Instant::now();
        self.optimizer.zero_grad()?;
        let loss = if self.text_alone {
            let (b, views, context) = batch.tokens.size3()?;
            // Views before samples, as a step has them.
            let tokens = batch.tokens.f_transpose(0, 1)?;
            let tokens = tokens.f_reshape([views * b, context])?;
            let features = self.model.text_features(&tokens)?;
            let total = features.f_square()?.f_sum(Kind::Float)?;
            total.f_backward()?;
            f64::try_from(total)?
        } else {
            let output = self
                .objective
                .compute(&self.model.encode(batch, true)?, &Alone)?;
            output.total.f_backward()?;
            let _norm =
                f64::try_from(gradients::norm(&gradients::grads(&parameters(self.model)))?)?;
            self.optimizer.step(self.experiment.optim.lr)?;
            self.model.clamp_logit_scales()?;
            f64::try_from(&output.total)?
        };
        Ok((started.elapsed().as_secs_f64(), loss))
    }

    fn paced(&mut self) -> Result<ExitKind> {
        for (number, line) in std::io::stdin().lines().enumerate() {
            line?;
            let (seconds, loss) = self.step(number)?;
            let peak = peak_resident_bytes();
            println!(
                "{}",
                json!({ "seconds": seconds, "loss": loss, "peak_bytes": peak })
            );
        }
        Ok(ExitKind::Ok)
    }
}

/// Reads an experiment with overrides.
pub(super) fn read_experiment(file: &Path, set: &[String]) -> Result<Experiment> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    experiment::parse(&file.display().to_string(), &text, set).map_err(|all| {
        let lines: Vec<String> = all.iter().map(ToString::to_string).collect();
        Error::new(ExitKind::Experiment, lines.join("\n")).into()
    })
}

/// The first batches of the data, made before the clock runs: this is about the step, not about the
/// loader.
fn batches(experiment: &Experiment, text_alone: bool) -> Result<Vec<Batch>> {
    let source = data::source::open(&experiment.data)?;
    let order = Order {
        seed: experiment.seed,
        samples: source.len() as u64,
        world_size: 1,
        batch_size: experiment.train.batch_size as u64,
        update_freq: 1,
    };
    let options = LoaderOptions::of(experiment, source, order, 0)?;
    let mut loader = Loader::new(options, order.at_step(0))?;
    let mut made = Vec::new();
    for _ in 0..BATCHES {
        let mut batch = Batch::from_host(&loader.next_batch()?);
        if text_alone {
            batch.image_global = Tensor::zeros([0], (Kind::Float, Device::Cpu));
            batch.images_local.clear();
        }
        made.push(batch);
    }
    Ok(made)
}

fn parameters(model: &Model) -> Vec<Tensor> {
    model
        .registry()
        .trainable()
        .map(|entry| entry.tensor.shallow_clone())
        .collect()
}

fn dump(batches: &[Batch], path: &Path) -> Result<()> {
    let mut tensors = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        tensors.push((format!("{number}.tokens"), batch.tokens.shallow_clone()));
        tensors.push((
            format!("{number}.image_global"),
            batch.image_global.shallow_clone(),
        ));
        for (view, image) in batch.images_local.iter().enumerate() {
            tensors.push((
                format!("{number}.image_local_{view}"),
                image.shallow_clone(),
            ));
        }
    }
    crate::checkpoint::tensors::save(path, &tensors)
}
