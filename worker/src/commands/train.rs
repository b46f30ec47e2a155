//! `rocket-worker train`: one rank of a run.

use std::path::PathBuf;

use anyhow::Result;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;

use super::rank;
use crate::rank::Place;
use crate::train;

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
    let timeout = |run: &rocket_common::run_dir::RunDir| {
        let experiment = Experiment::read(&run.experiment_path())?;
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
        Ok(train::collective_timeout(&experiment))
    };
    rank::run(&place, timeout, train::run)
}
