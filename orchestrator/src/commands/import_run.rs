//! `rocket import-run`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rocket_common::error::Result;
use rocket_common::experiment::Bytes;

use crate::archive;
use crate::output;
use crate::pin::Source;
use crate::runs::Runs;

/// Take in a run that somebody has exported
///
/// Everything in the file is checked before the run appears, whole, in the folder of runs. It can be looked
/// at, compared and reproduced; nothing starts it here.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file
    #[arg(value_name = "FILE")]
    archive: PathBuf,
    /// Refuse what unpacks to more than this, such as '20 GB'
    #[arg(long, value_name = "SIZE", default_value_t = Bytes(archive::MOST))]
    max_size: Bytes,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    // A folder of runs that is named needs no repository around.
    let source = Source::discover(&[Path::new(".")]).ok();
    let root = match &source {
        Some(source) => runs.of(source)?,
        None => runs.root()?,
    };
    let taken = archive::take_in(&args.archive, &root, source.as_ref(), args.max_size.0)?;
    for note in &taken.notes {
        eprintln!("note: {note}");
    }
    let id = taken.run.id();
    let checkpoint = match taken.checkpoint {
        Some(step) => format!("the checkpoint of step {step}"),
        None => "no checkpoint".into(),
    };
    output::print(&format!(
        "run {id}\n  directory  {}\n  holds      {} files, {checkpoint}\n  next       rocket show {id} | rocket reproduce {id}\n",
        taken.run.path().display(),
        taken.files,
    ))?;
    Ok(ExitCode::SUCCESS)
}
