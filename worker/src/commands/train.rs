//! `rocket-worker train`: one rank of a run.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use rocket_common::protocol::{EndRecord, Outcome};
use rocket_common::run_dir::RunDir;

use crate::rank::{Meeting, Place, RankContext};
use crate::train::rendezvous::{self, Entered};
use crate::train::{self, Progress, guard, stop};
use crate::{failure, train::events};

/// Takes its place among the ranks from RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, as
/// torchrun and most launchers set them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run directory, as `rocket submit --no-start` prints it [default: $ROCKET_RUN_DIR]
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
}

/// Trains, and leaves an end record that tells the supervisor how it went.
///
/// # Errors
/// Only while there is no attempt to leave an end record in.
pub fn run(args: &Args) -> Result<ExitKind> {
    let place = Place::from_env(args.run.as_deref())?;
    stop::catch_signals()?;
    start_log(place.rank);
    for note in &place.notes {
        tracing::warn!("{note}");
    }
    let run = RunDir::open(&place.run_dir)?;
    let (context, store) = match enter(&place, &run)? {
        Entered::Attempt(context, store) => (context, store),
        Entered::Done => {
            tracing::info!("run {} is complete: there is nothing to do", run.id());
            return Ok(ExitKind::Ok);
        }
    };
    guard::watch(&context, &run)?;
    let progress = Progress::default();
    let record = train::run(&place, &context, &run, store, &progress)
        .unwrap_or_else(|error| last_words(&error, &context, &run, &progress));
    events::ended(&run, &context, &record);
    guard::leave(Some((&run.attempt(context.attempt), context.rank)), &record)
}

/// Finds out which attempt this is.
fn enter(place: &Place, run: &RunDir) -> Result<Entered> {
    let mut timeout = Duration::MAX;
    if matches!(place.meeting, Meeting::Unsupervised { .. }) {
        guard::watch_signal()?;
        run.manifest()?.refuse_imported()?;
        let experiment = Experiment::read(&run.experiment_path())?;
        timeout = train::collective_timeout(&experiment);
        let ranks = experiment.cluster.world_size();
        if ranks != place.world_size {
            return Err(Error::new(
                ExitKind::Experiment,
                format!(
                    "WORLD_SIZE={} ranks were started, but the run's experiment has {ranks}",
                    place.world_size
                ),
            )
            .hint(format!(
                "start {ranks} ranks, or submit with other cluster.nodes and cluster.tasks_per_node: the number of ranks decides the numbers"
            ))
            .into());
        }
    }
    rendezvous::enter(place, run, timeout)
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
