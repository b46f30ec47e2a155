//! `rocket export`.

use std::path::PathBuf;
use std::process::ExitCode;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use crate::archive::{self, Choice};
use crate::output;
use crate::runs::Runs;
use crate::view::size;

/// Write a run to one file, for a colleague to look at and to reproduce
///
/// It holds the experiment, the pinned commit with its history, what was submitted, what happened, metrics,
/// evaluations and one checkpoint, each with its checksum. The same run gives the same bytes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run
    run: String,
    /// The file [default: RUN.tar.zst]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Which checkpoint goes along: best, last, none, or a step
    #[arg(long, value_name = "WHICH", default_value = "last")]
    checkpoint: Choice,
    /// The logs of the ranks and of the supervisor, too
    #[arg(long)]
    logs: bool,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let run = runs.find(&args.run)?;
    let to = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{}.tar.zst", run.id())));
    if to.is_dir() || to.file_name().is_none() {
        let message = format!("'{}' (--output) is a folder, not a file", to.display());
        return Err(Error::new(ExitKind::Usage, message));
    }
    if !args.force && to.symlink_metadata().is_ok() {
        return Err(
            Error::new(ExitKind::Usage, format!("'{}' exists", to.display()))
                .hint("name another file with --output, or replace it with --force"),
        );
    }
    let written = archive::write(&run, args.checkpoint, args.logs, &to)?;
    let checkpoint = match written.checkpoint {
        Some(step) => format!("the checkpoint of step {step}"),
        None => "no checkpoint".into(),
    };
    output::print(&format!(
        "{}\n  run        {}\n  holds      {} files, {checkpoint}; {} as {}\n  next       rocket import-run {name} | rocket reproduce {name}\n",
        to.display(),
        run.id(),
        written.files,
        size(written.bytes),
        size(written.archive_bytes),
        name = to.file_name().unwrap_or_default().display(),
    ))?;
    Ok(ExitCode::SUCCESS)
}
