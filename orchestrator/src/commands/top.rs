//! `rocket top`.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use crate::runs::Runs;
use crate::top;

/// Watch runs on a terminal: a list, and the chosen run with its curves, ranks, GPUs and log
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Words of ids, sweeps or states that the list is filtered by; '/' changes them
    #[arg(value_name = "WORD")]
    filter: Vec<String>,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let root = runs.root()?;
    if !io::stdout().is_terminal() {
        return Err(Error::new(
            ExitKind::Usage,
            "rocket top draws on a terminal, and stdout is none",
        )
        .hint("'rocket status --watch' writes one block after the other"));
    }
    top::top(root, args.filter.join(" "))?;
    Ok(ExitCode::SUCCESS)
}
