//! What every rank does around its work, whether it trains or evaluates.

use std::time::Duration;

use anyhow::Result;
use rocket_common::exit::ExitKind;
use rocket_common::protocol::{EndRecord, Outcome};
use rocket_common::run_dir::RunDir;
use tch_distributed::Store;

use crate::rank::{Meeting, Place, RankContext};
use crate::train::rendezvous::{self, Entered};
use crate::train::{Progress, guard, stop};
use crate::{failure, train::events};

/// Finds this process's attempt, watches over it, does the work, and leaves an end record that tells the
/// supervisor how it went. `timeout` is asked where there is no supervisor: how long the ranks wait for
/// each other, or why they should not have been started.
///
/// # Errors
/// Only while there is no attempt to leave an end record in.
pub(super) fn run(
    place: &Place,
    timeout: impl FnOnce(&RunDir) -> Result<Duration>,
    work: impl FnOnce(&Place, &RankContext, &RunDir, Option<Store>, &Progress) -> Result<EndRecord>,
) -> Result<ExitKind> {
    stop::catch_signals()?;
    start_log(place.rank);
    for note in &place.notes {
        tracing::warn!("{note}");
    }
    let run = RunDir::open(&place.run_dir)?;
    let mut patience = Duration::MAX;
    if matches!(place.meeting, Meeting::Unsupervised { .. }) {
        guard::watch_signal()?;
        run.manifest()?.refuse_imported()?;
        patience = timeout(&run)?;
    }
    let (context, store) = match rendezvous::enter(place, &run, patience)? {
        Entered::Attempt(context, store) => (context, store),
        Entered::Done => {
            tracing::info!("run {} is complete: there is nothing to do", run.id());
            return Ok(ExitKind::Ok);
        }
    };
    guard::watch(&context, &run)?;
    let progress = Progress::default();
    let record = work(place, &context, &run, store, &progress)
        .unwrap_or_else(|error| last_words(&error, &context, &run, &progress));
    events::ended(&run, &context, &record);
    guard::leave(Some((&run.attempt(context.attempt), context.rank)), &record)
}

/// What an error means, in view of what else is known.
fn last_words(
    error: &anyhow::Error,
    context: &RankContext,
    run: &RunDir,
    progress: &Progress,
) -> EndRecord {
    // Peers that leave since they were superseded are the first that the others notice.
    if let Err(fenced) = run.fence_check(context.attempt)
        && fenced.kind() == ExitKind::Fenced
    {
        let fenced = anyhow::Error::new(fenced);
        eprintln!("{}", failure::describe(&fenced));
        return failure::end_record(&fenced, progress.step());
    }
    eprintln!("{}", failure::describe(error));
    let record = failure::end_record(error, progress.step());
    // Told to stop while it started, as were its peers, some of which left before they had met.
    if record.kind == ExitKind::Distributed
        && !progress.has_begun()
        && let Some(reason) = stop::wish()
    {
        return EndRecord {
            outcome: Outcome::Stopped,
            kind: ExitKind::Ok,
            stop: Some(reason),
            ..record
        };
    }
    record
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
