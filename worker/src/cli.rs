//! The command line of `rocket-worker`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rocket_common::exit::ExitKind;

use crate::commands;
use crate::failure;

/// The trainer of rocket: one process per rank.
#[derive(Debug, Parser)]
#[command(name = "rocket-worker", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train as one rank of a run (started by `rocket submit`).
    Train(commands::train::Args),
    /// Score a run's checkpoint zero-shot.
    Eval(commands::eval::Args),
    /// Score a checkpoint by retrieval between images and captions.
    Retrieval(commands::retrieval::Args),
    /// Check this build against numbers recorded from the original.
    Parity(commands::parity::Args),
    /// Write a checkpoint in another program's form.
    Convert(commands::convert::Args),
    /// Prepare and inspect data sets.
    Data(commands::data::Args),
    /// Bring TensorBoard, Weights & Biases and MLflow what they miss of a run.
    Track(commands::track::Args),
    /// Measure a step of an experiment's model.
    Bench(commands::bench::Args),
}

/// Parses the command line, runs it, and says what went wrong in a sentence.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    failure::print_panics_as_sentences();
    let result = match &cli.command {
        Command::Train(args) => commands::train::run(args),
        Command::Eval(args) => commands::eval::run(args),
        Command::Retrieval(args) => commands::retrieval::run(args),
        Command::Parity(args) => commands::parity::run(args),
        Command::Convert(args) => commands::convert::run(args),
        Command::Data(args) => commands::data::run(args),
        Command::Track(args) => commands::track::run(args),
        Command::Bench(args) => commands::bench::run(args),
    };
    let kind = result.unwrap_or_else(|error| {
        if failure::is_broken_pipe(&error) {
            return ExitKind::Ok;
        }
        eprintln!("{}", failure::describe(&error));
        failure::kind_of(&error)
    });
    ExitCode::from(kind.code())
}
