//! The parts of `rocket-worker bench` that are about data: the loader and the tokenizer.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use rocket_common::exit::ExitKind;
use serde_json::json;

use super::bench::read_experiment;
use crate::data::source::Source;
use crate::data::{self, Loader, LoaderOptions, Order};
use crate::image::{decode, jpeg_is_vectorised};
use crate::text::{CONTEXT_LENGTH, Tokenizer};
use crate::train::heartbeat::peak_resident_bytes;

#[derive(Debug, clap::Args)]
pub(super) struct LoaderArgs {
    /// The experiment whose data, views and `data.workers` are taken.
    experiment: PathBuf,
    /// Overrides, as for `rocket submit`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Samples that are timed, rounded up to whole batches.
    #[arg(long, default_value_t = 2000)]
    samples: u64,
    /// Batches before them that are not.
    #[arg(long, default_value_t = 2)]
    warmup: u64,
    /// Only read and decode, on as many threads.
    #[arg(long)]
    decode_only: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct TokenizerArgs {
    /// Captions, one per line.
    captions: PathBuf,
    /// How often all of them are tokenized.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
}

/// Prints one JSON object with samples per second, and what they were.
pub(super) fn loader(args: &LoaderArgs) -> Result<ExitKind> {
    let experiment = read_experiment(&args.experiment, &args.set)?;
    let source = data::source::open(&experiment.data)?;
    let workers = experiment.data.workers.max(1);
    let measured = if args.decode_only {
        decode_only(&source, workers, args.samples)?
    } else {
        let order = Order {
            seed: experiment.seed,
            samples: source.len() as u64,
            world_size: 1,
            batch_size: experiment.train.batch_size as u64,
            update_freq: 1,
        };
        let options = LoaderOptions::of(&experiment, source, order, 0)?;
        let mut loader = Loader::new(options, order.at_step(0))?;
        for _ in 0..args.warmup {
            let batch = loader.next_batch()?;
            loader.recycle(batch);
        }
        let before = loader.counters();
        let started = Instant::now();
        let mut samples = 0;
        while samples < args.samples {
            let batch = loader.next_batch()?;
            samples += batch.len() as u64;
            loader.recycle(batch);
        }
        let seconds = started.elapsed().as_secs_f64();
        let counters = loader.counters();
        anyhow::ensure!(
            counters.bad == 0,
            "{} of the images cannot be read",
            counters.bad
        );
        Measured {
            samples,
            bytes: counters.bytes - before.bytes,
            seconds,
        }
    };
    println!(
        "{}",
        json!({
            "samples_per_second": measured.samples as f64 / measured.seconds,
            "samples": measured.samples,
            "bytes": measured.bytes,
            "seconds": measured.seconds,
            "workers": workers,
            "jpeg_is_vectorised": jpeg_is_vectorised(),
            "peak_bytes": peak_resident_bytes(),
        })
    );
    Ok(ExitKind::Ok)
}

struct Measured {
    samples: u64,
    bytes: u64,
    seconds: f64,
}

/// Reads and decodes samples in their order in the data set, again from the first when all are done.
fn decode_only(source: &Arc<dyn Source>, workers: usize, samples: u64) -> Result<Measured> {
    let next = AtomicUsize::new(0);
    let bytes = AtomicU64::new(0);
    let started = Instant::now();
    let work = || -> Result<()> {
        let mut file = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number as u64 >= samples {
                return Ok(());
            }
            let sample = number % source.len();
            source.read(sample, &mut file)?;
            bytes.fetch_add(file.len() as u64, Ordering::Relaxed);
            let picture =
                decode(&file).with_context(|| format!("cannot decode {}", source.name(sample)))?;
            std::hint::black_box(picture);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread gave up")))
        })
    })?;
    Ok(Measured {
        samples,
        bytes: bytes.into_inner(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Prints one JSON object with captions per second and a sum over all tokens, which a peer must come to too.
pub(super) fn tokenizer(args: &TokenizerArgs) -> Result<ExitKind> {
    let text = std::fs::read_to_string(&args.captions)
        .with_context(|| format!("cannot read {}", args.captions.display()))?;
    let captions: Vec<&str> = text.lines().collect();
    let tokenizer = Tokenizer::new();
    let mut row = [0; CONTEXT_LENGTH];
    let mut rounds = Vec::new();
    let mut sum = 0;
    for _ in 0..args.rounds.max(1) {
        sum = 0;
        let started = Instant::now();
        for caption in &captions {
            tokenizer.encode_into(caption, &mut row);
            sum += row.iter().sum::<i64>();
        }
        rounds.push(captions.len() as f64 / started.elapsed().as_secs_f64());
    }
    rounds.sort_by(f64::total_cmp);
    println!(
        "{}",
        json!({
            "captions_per_second": rounds.get(rounds.len() / 2),
            "captions": captions.len(),
            "sum": sum,
        })
    );
    Ok(ExitKind::Ok)
}
