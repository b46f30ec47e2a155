//! `rocket-worker train`: one rank of a run.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use rocket_common::exit::ExitKind;
use rocket_common::protocol;
use rocket_common::run_dir::RunDir;

use crate::rank::RankContext;
use crate::{failure, train};

/// Takes no arguments: everything is in the environment and the run directory.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Trains, and leaves an end record that tells the supervisor how it went.
///
/// # Errors
/// Only when there is no run directory to leave an end record in.
pub fn run(_args: &Args) -> Result<ExitKind> {
    let context = RankContext::from_env()?;
    train::stop::catch_signals()?;
    start_log(context.rank);
    let run = RunDir::open(&context.run_dir)?;
    let step = AtomicU64::new(0);
    let record = train::run(&context, &run, &step).unwrap_or_else(|error| {
        eprintln!("{}", failure::describe(&error));
        failure::end_record(&error, step.load(Ordering::Relaxed))
    });
    let kind = record.kind;
    if let Err(error) = protocol::write_end(&run.attempt(context.attempt), context.rank, &record) {
        eprintln!("error: {error}");
    }
    // Left at once: the destructors of a process group whose peers are gone can wait for them.
    std::process::exit(i32::from(kind.code()));
}

/// The rank's log goes to stderr, which the supervisor keeps by attempt and rank.
fn start_log(rank: u32) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ROCKET_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
    tracing::debug!("rank {rank} starts");
}
