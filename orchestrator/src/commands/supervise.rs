//! `rocket supervise`: what a batch script or `rocket submit` starts, not people.

use std::path::PathBuf;
use std::process::ExitCode;

use rocket_common::error::Result;

use crate::supervisor::{self, Left};

/// Run a run's ranks until it is finished, given up or cancelled (started by submit and resume)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run directory
    run_dir: PathBuf,
    /// Which hand-over to the scheduler this is
    #[arg(long, value_name = "N")]
    submission: Option<u32>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    Ok(
        match supervisor::supervise(&args.run_dir, args.submission)? {
            Left::Finished | Left::Cancelled | Left::Fenced | Left::Queued => ExitCode::SUCCESS,
            Left::Failed => ExitCode::FAILURE,
        },
    )
}
