//! `rocket`: runs vision-language pre-training experiments, pinned to a git commit, until they are done.

mod archive;
pub mod backend;
mod build;
pub mod bundle;
mod cli;
mod commands;
mod complete;
pub mod doctor;
pub mod drill;
mod evaluation;
mod experiment;
mod gc;
mod goodput;
mod machine;
mod notify;
pub mod output;
pub mod pin;
mod report;
mod repro;
mod reproduce;
pub mod requests;
mod runs;
mod screen;
mod settings;
pub mod slurm;
mod submit;
pub mod supervisor;
mod sweep;
mod tail;
mod top;
mod view;

use std::io;
use std::process::ExitCode;

use rocket_common::error::{Error, Result};

pub use cli::Cli;

/// Runs the command line of this process.
///
/// # Errors
/// What went wrong, for people; see [`report`].
pub fn run() -> Result<ExitCode> {
    cli::run()
}

/// Prints an error and what to do about it, and gives the exit code. Whoever closed the pipe that we
/// write to has seen enough: that is no error.
#[must_use]
pub fn report(error: &Error) -> ExitCode {
    if error
        .io_error()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error}");
    for hint in error.hints() {
        eprintln!("hint: {hint}");
    }
    ExitCode::FAILURE
}
