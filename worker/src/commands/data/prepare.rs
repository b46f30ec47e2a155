//! `rocket-worker data prepare`: makes the index of a data set.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use rocket_common::exit::ExitKind;

use super::subject;
use crate::data::index::Index;
use crate::data::source::{
    Built, Prepared, Preparing, Progress, SourceError, Unit, index_path, prepare, verify,
};
use crate::progress::{Progress as Shown, duration};

/// Reads an experiment's list of samples once, and writes an index beside it: names, captions, and where each
/// image lies in its archive. Training uses it when it is there and up to date.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The experiment whose data are prepared
    experiment: PathBuf,
    /// Overrides, as for `rocket submit`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Write the index here; experiments then need it as data.index
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Make it again even if it is up to date
    #[arg(long)]
    force: bool,
    /// Make nothing: compare all of the index with its checksums
    #[arg(long, conflicts_with = "force")]
    verify: bool,
    /// Archives that are looked into at a time
    #[arg(long, default_value_t = 16)]
    threads: usize,
}

/// Makes the index, or says that it is there.
///
/// # Errors
/// If the experiment or its data cannot be read, or the index cannot be written.
pub(super) fn run(args: &Args) -> Result<ExitKind> {
    let experiment = subject::read(&args.experiment, &args.set)?;
    let data = &experiment.data;
    let parts = data.lists().map_err(SourceError::Parts)?;
    let path = match &args.output {
        Some(path) => path.clone(),
        None => index_path(data, &parts),
    };
    let mut shown = Shown::new();
    let mut stage = "";
    let mut show = |progress: Progress| {
        if stage != progress.what {
            shown.clear();
            stage = progress.what;
        }
        shown.update(progress.done, progress.total, |_| line(&progress));
    };
    if args.verify {
        let index = verify(&parts, &path, data.read_timeout(), &mut show);
        shown.clear();
        let whole = counted(&path, "whole and up to date", &index?);
        println!("{whole}");
        return Ok(ExitKind::Ok);
    }
    let how = Preparing {
        force: args.force,
        threads: args.threads,
        limit: data.read_timeout(),
    };
    let began = Instant::now();
    let prepared = prepare(&parts, &path, how, &mut show);
    shown.clear();
    let (index, built) = match prepared? {
        Prepared::Before(index) => {
            println!("{}", counted(&path, "up to date", &index));
            return Ok(ExitKind::Ok);
        }
        Prepared::Now(index, built) => (index, built),
    };
    said(&path, &index, &built, began.elapsed().as_secs_f64());
    // It is found by itself in its own place alone.
    if let Some(output) = args
        .output
        .as_ref()
        .filter(|_| data.index.as_ref() != Some(&path))
    {
        println!("experiments use it with data.index: {}", output.display());
    }
    Ok(ExitKind::Ok)
}

fn line(progress: &Progress) -> String {
    let samples = match progress.samples {
        0 => String::new(),
        samples => format!("{samples} samples, "),
    };
    let done = match (progress.unit, progress.total) {
        (Unit::Bytes, 0) => {
            return format!("{}: {samples}", progress.what)
                .trim_end_matches(", ")
                .to_owned();
        }
        (Unit::Bytes, total) => format!(
            "{:.0} % of {:.1} MB",
            100.0 * progress.done as f64 / total as f64,
            total as f64 / 1e6
        ),
        (Unit::Archives, total) => format!("{} of {total} archives", progress.done),
    };
    format!("{}: {samples}{done}", progress.what)
}

fn counted(path: &Path, state: &str, index: &Index) -> String {
    format!(
        "{} is {state}: {} samples, {} captions",
        path.display(),
        index.len(),
        index.captions()
    )
}

fn said(path: &Path, index: &Index, built: &Built, seconds: f64) {
    println!(
        "{}: {} samples, {} captions, {:.1} MB, in {} ({:.0} samples/s)",
        path.display(),
        index.len(),
        index.captions(),
        index.size() as f64 / 1e6,
        duration(seconds),
        index.len() as f64 / seconds.max(1e-9)
    );
    if built.known > 0 {
        println!(
            "{} archives were known from an interrupted attempt",
            built.known
        );
    }
    if built.faults > 0 {
        println!("{} archives cannot be read:", built.faults);
        for fault in &built.faulty {
            println!("  {fault}");
        }
        if built.faults > built.faulty.len() as u64 {
            println!("  and {} more", built.faults - built.faulty.len() as u64);
        }
    }
    if built.absent > 0 {
        println!(
            "{} samples have no image ({:.3} %); training replaces them, and fails over data.max_bad",
            built.absent,
            100.0 * built.absent as f64 / built.samples.max(1) as f64
        );
    }
}
