//! `rocket-worker data`: what is done to data sets before they are trained on or scored. One subcommand a
//! file.

mod check;
mod check_catalog;
mod check_training;
pub(super) mod fetch;
mod make_yfcc15m;
mod prepare;
mod prepare_eval;
mod subject;

use anyhow::Result;
use rocket_common::exit::ExitKind;

/// What to do with data.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Fetch a data set from where it is published.
    Fetch(fetch::Args),
    /// Look through an experiment's data before it is trained on, or through the evaluation sets of a catalog.
    Check(check::Args),
    /// Make the index of an experiment's data set, which all ranks of a node share.
    Prepare(prepare::Args),
    /// Turn an evaluation set's published archives into folders of classes.
    PrepareEval(prepare_eval::Args),
    /// Make YFCC15M's list of samples from what Flickr and OpenAI published.
    MakeYfcc15m(make_yfcc15m::Args),
}

/// Runs a subcommand.
///
/// # Errors
/// Its own.
pub fn run(args: &Args) -> Result<ExitKind> {
    match &args.command {
        Command::Fetch(args) => fetch::run(args),
        Command::Check(args) => check::run(args),
        Command::Prepare(args) => prepare::run(args),
        Command::PrepareEval(args) => prepare_eval::run(args),
        Command::MakeYfcc15m(args) => make_yfcc15m::run(args),
    }
}
