//! `rocket-worker data check`.

use anyhow::Result;
use rocket_common::exit::ExitKind;

use super::check_catalog;

/// What to check.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    catalog: check_catalog::Args,
}

/// Checks, and says what was found.
///
/// # Errors
/// The files that describe the data cannot be read.
pub fn run(args: &Args) -> Result<ExitKind> {
    check_catalog::run(&args.catalog)
}
