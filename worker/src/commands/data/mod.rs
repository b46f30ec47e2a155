//! `rocket-worker data`: getting, preparing and checking data sets.

pub mod check;
pub mod check_catalog;
pub mod prepare_eval;

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
    /// Turn an evaluation set's published archives into folders of classes.
    PrepareEval(prepare_eval::Args),
    /// Say which sets are ready, missing or malformed.
    Check(check::Args),
}

/// Runs the subcommand.
///
/// # Errors
/// Those of the subcommand.
pub fn run(args: &Args) -> Result<ExitKind> {
    match &args.command {
        Command::PrepareEval(args) => prepare_eval::run(args),
        Command::Check(args) => check::run(args),
    }
}
