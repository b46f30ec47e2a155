//! `rocket-worker data check`: the data of an experiment, or with `--catalog` the evaluation sets.

use anyhow::Result;
use rocket_common::exit::ExitKind;

use super::{check_catalog, check_training};

/// What to check.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    training: check_training::Args,
    #[command(flatten)]
    catalog: check_catalog::Args,
}

/// Checks, and says what was found.
///
/// # Errors
/// Those of either check.
pub(super) fn run(args: &Args) -> Result<ExitKind> {
    match &args.catalog.catalog {
        Some(file) => check_catalog::run(file, &args.catalog, args.training.json),
        None => check_training::run(&args.training),
    }
}
