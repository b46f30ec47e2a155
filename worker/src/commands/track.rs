//! `rocket-worker track`: the trackers of a run that no longer runs.

use std::path::PathBuf;

use anyhow::Result;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{Experiment, Mlflow, Track};
use rocket_common::run_dir::RunDir;

use crate::failure;
use crate::track::sync::sync;

/// What to do with the trackers.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Bring trackers what they miss of a run.
    Sync(Sync),
}

/// Which trackers get what they miss. Without an option, those that the run's experiment chooses.
#[derive(Debug, clap::Args)]
struct Sync {
    /// The run directory
    run: PathBuf,
    /// TensorBoard, even if the experiment does not choose it
    #[arg(long)]
    tensorboard: bool,
    /// Weights & Biases, even if the experiment does not choose it
    #[arg(long)]
    wandb: bool,
    /// MLflow's server of this address, even if the experiment chooses none or another
    #[arg(long, value_name = "URI")]
    mlflow: Option<String>,
}

/// Brings trackers what they miss, and says how many records that were.
///
/// # Errors
/// When the run is none or still runs. What keeps one tracker from its records does not keep the others.
pub fn run(args: &Args) -> Result<ExitKind> {
    let Command::Sync(args) = &args.command;
    let run = RunDir::open(&args.run)?;
    let experiment = Experiment::read(&run.experiment_path())?;
    let track = chosen(args, experiment.track);
    if !track.is_any() {
        return Err(Error::new(
            ExitKind::Usage,
            format!("the experiment of run '{}' chooses no tracker", run.id()),
        )
        .hint("name one: --tensorboard, --wandb or --mlflow URI")
        .into());
    }
    let mut kind = ExitKind::Ok;
    for synced in sync(&run, &track)? {
        match &synced.result {
            Ok(count) => println!("{}: {count} new records; {}", synced.name, synced.place),
            Err(error) => {
                let error = anyhow::anyhow!("{} could not be synced: {error:#}", synced.name);
                eprintln!("{}", failure::describe(&error));
                kind = ExitKind::Internal;
            }
        }
    }
    Ok(kind)
}

fn chosen(args: &Sync, chosen: Track) -> Track {
    if !args.tensorboard && !args.wandb && args.mlflow.is_none() {
        return chosen;
    }
    let mlflow = args.mlflow.as_ref().map(|uri| Mlflow {
        uri: Some(uri.clone()),
        ..chosen.mlflow.unwrap_or_default()
    });
    Track {
        tensorboard: args.tensorboard,
        wandb: args.wandb.then(|| chosen.wandb.unwrap_or_default()),
        mlflow,
    }
}
