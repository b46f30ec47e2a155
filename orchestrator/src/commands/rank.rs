//! `rocket rank`: what `srun` starts on every node, not people.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use rocket_common::error::Result;
use rocket_common::run_dir::RunDir;

use crate::slurm;

/// Start one rank of an attempt and tell how it ended (started by srun)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The attempt
    #[arg(long)]
    attempt: u32,
    /// The run directory
    run_dir: PathBuf,
    /// The rank's program
    #[arg(last = true)]
    argv: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let run = RunDir::open(&args.run_dir)?;
    slurm::rank::run(&run, args.attempt, &args.argv).map(ExitCode::from)
}
