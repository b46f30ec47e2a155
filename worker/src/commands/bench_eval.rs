//! `rocket-worker bench eval`: an evaluation, timed, with what another program needs to do the same.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use serde_json::json;
use tch::{Device, Tensor};

use super::bench;
use super::eval::sets;
use crate::checkpoint::tensors;
use crate::eval::{self, Autocast, EvalSet, Scorer, Settings, Shard, Stage};
use crate::model::{Model, Options};
use crate::train::heartbeat::peak_resident_bytes;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The experiment, whose first evaluation set is scored with weights fresh from its seed.
    experiment: PathBuf,
    /// Overrides, as in `rocket submit`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Threads of torch.
    #[arg(long, default_value_t = 2)]
    threads: i32,
    /// Threads that decode.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Write weights.safetensors (under the original's names) and prompts.safetensors (token rows, and
    /// how many of them each class has) to this folder, and score nothing.
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
}

/// Prints images, seconds of the classes and of the images, top-1 of z and h, and peak memory as JSON.
pub(super) fn run(args: &Args) -> Result<ExitKind> {
    let experiment = bench::read_experiment(&args.experiment, &args.set)?;
    tch::set_num_threads(args.threads.max(1));
    let here = Path::new("");
    let files = sets::Files::of(&experiment.eval, here, here);
    let opened = sets::open(&files, &experiment.eval.datasets, false)?;
    let set = opened.sets.first().ok_or_else(|| {
        Error::new(
            ExitKind::Experiment,
            "'eval.datasets' names no set to score",
        )
    })?;
    let model = Model::new(
        &experiment.model,
        &Options::of(&experiment, Device::Cpu, None),
    )?;
    if let Some(dir) = &args.dump {
        dump(&model, set, dir)?;
        return Ok(ExitKind::Ok);
    }
    score(&model, set, &experiment, args)
}

fn score(model: &Model, set: &EvalSet, experiment: &Experiment, args: &Args) -> Result<ExitKind> {
    let encoder = Autocast {
        model,
        kind: eval::kind(experiment.eval.precision, Device::Cpu),
    };
    let batch = usize::try_from(experiment.eval.batch_size)
        .unwrap_or(1)
        .max(1);
    let tokenize = eval::tokenizer();
    let shard = Shard::alone();
    let scorer = Scorer {
        encoder: &encoder,
        tokenize: &tokenize,
        settings: Settings {
            image_batch: batch,
            text_batch: batch,
            threads: args.workers,
            details: false,
        },
        shard: &shard,
        cache: None,
    };
    let started = Instant::now();
    let mut classes = 0.0;
    let scores = scorer.score(set, |stage| {
        if stage == Stage::Classes {
            classes = started.elapsed().as_secs_f64();
        }
        ControlFlow::Continue(())
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let top1: Vec<i64> = scores
        .heads
        .iter()
        .map(|head| head.tally.top1_count())
        .collect();
    println!(
        "{}",
        json!({
            "images": set.samples.len(),
            "classes_seconds": classes,
            "images_seconds": seconds - classes,
            "seconds": seconds,
            "top1": top1,
            "peak_bytes": peak_resident_bytes(),
        })
    );
    Ok(ExitKind::Ok)
}

fn dump(model: &Model, set: &EvalSet, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
    let weights: Vec<(String, Tensor)> = model
        .registry()
        .state_dict()
        .map(|(name, tensor)| (name.to_owned(), tensor.detach()))
        .collect();
    tensors::save(&dir.join("weights.safetensors"), &weights)?;
    let tokenize = eval::tokenizer();
    let by_class = &set.prompts.by_class;
    let rows: Vec<Vec<i64>> = by_class
        .iter()
        .flatten()
        .map(|text| tokenize(text))
        .collect();
    let counts: Vec<i64> = by_class.iter().map(|texts| texts.len() as i64).collect();
    let tokens = Tensor::from_slice(&rows.concat()).view([rows.len() as i64, -1]);
    let prompts = [
        ("tokens".to_owned(), tokens),
        ("counts".to_owned(), Tensor::from_slice(&counts)),
    ];
    tensors::save(&dir.join("prompts.safetensors"), &prompts)
}
