//! `rocket drill`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use rocket_common::error::{Error, Result};
use rocket_common::experiment::BackendKind;

use crate::drill::{self, Request, Subject};
use crate::output::{self, Format};
use crate::runs::Runs;

/// Rehearse an experiment small, interrupt it in every way, and certify that it resumes step-exact
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The experiment file
    #[arg(required_unless_present = "strike")]
    experiment: Option<PathBuf>,
    /// Override a key of the experiment, as in train.batch_size=32
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Where to rehearse
    #[arg(long, value_enum, default_value_t = Where::Local)]
    backend: Where,
    /// Ranks, all on one node
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    ranks: u32,
    /// Optimiser steps of each run [default: as many as take some seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10..))]
    steps: Option<u64>,
    /// Take the changes of the work tree along
    #[arg(long)]
    snapshot: bool,
    /// Keep the runs of the drill
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    format: Format,
    /// Kill the writer of this run in the middle of a save (started by drill itself, on its node)
    #[arg(long, hide = true, value_name = "RUN_DIR")]
    strike: Option<PathBuf>,
}

/// Where to rehearse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    /// On this machine
    Local,
    /// On one node of the cluster
    Slurm,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    if let Some(dir) = &args.strike {
        let struck = drill::strike_writer(&Subject::open(dir)?, args.ranks, drill::PATIENCE)?;
        let text = serde_json::to_string(&struck).unwrap_or_default();
        output::print(&format!("{text}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rocket = std::env::current_exe()
        .map_err(|error| Error::io("find", Path::new("/proc/self/exe"), error))?;
    let request = Request {
        // clap demands it where nothing is to be struck.
        experiment: args.experiment.clone().unwrap_or_default(),
        sets: args.sets.clone(),
        backend: match args.backend {
            Where::Local => BackendKind::Local,
            Where::Slurm => BackendKind::Slurm,
        },
        ranks: args.ranks,
        steps: args.steps,
        snapshot: args.snapshot,
        keep: args.keep,
    };
    let certificate = drill::drill(&request, &runs.root()?, &rocket)?;
    args.format.print(&certificate)?;
    Ok(if certificate.certified {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
