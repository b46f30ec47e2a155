//! `rocket share`: what `rocket submit --node-rank` starts on machines but the first, not people.

use std::path::PathBuf;
use std::process::ExitCode;

use rocket_common::error::{Error, Result};
use rocket_common::run_dir::RunDir;

use crate::backend::share;

/// Run one machine's ranks of a run, as machine 0 announces them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run directory
    run_dir: PathBuf,
    /// Number of this machine
    #[arg(long)]
    node_rank: u32,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let path = args
        .run_dir
        .canonicalize()
        .map_err(|error| Error::io("open", &args.run_dir, error))?;
    share::share(&RunDir::open(path)?, args.node_rank)?;
    Ok(ExitCode::SUCCESS)
}
