//! `rocket-worker data`: getting, preparing and checking data sets.

pub mod check_training;
pub mod fetch;
mod subject;

use anyhow::Result;
use clap::Subcommand;
use rocket_common::exit::ExitKind;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look through an experiment's data before it is trained on.
    Check(check_training::Args),
    /// Fetch a data set from where it is published.
    Fetch(fetch::Args),
}

/// Runs the subcommand.
///
/// # Errors
/// Those of the subcommand.
pub fn run(args: &Args) -> Result<ExitKind> {
    match &args.command {
        Command::Check(args) => check_training::run(args),
        Command::Fetch(args) => fetch::run(args),
    }
}
