//! Completion in shells: the shell asks this program, which knows the runs.
//!
//! What an argument is told by its name: `RUN`, `SWEEP`, `EXPERIMENT`. A new command is completed
//! without another word.

use std::ffi::OsStr;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use clap_complete::CompleteEnv;
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use rocket_common::run_dir::{self, RunDir, name_of_run_id};

use crate::cli::Cli;
use crate::runs::Runs;
use crate::sweep;

/// The variable by which a shell asks.
pub(crate) const ENV: &str = "COMPLETE";

/// Answers a shell that asks, and ends. Does nothing for whoever else calls.
pub(crate) fn answer() {
    if std::env::var_os(ENV).is_some() {
        CompleteEnv::with_factory(command).var(ENV).complete();
    }
}

/// The command line with what its values can be.
pub(crate) fn command() -> Command {
    with_values(Cli::command())
}

fn with_values(command: Command) -> Command {
    let command = command.mut_args(with_value);
    let names: Vec<String> = command
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, with_values)
    })
}

fn with_value(arg: Arg) -> Arg {
    let named = arg.get_value_names().and_then(|names| names.first());
    let name = named.map_or_else(|| arg.get_id().as_str().to_uppercase(), ToString::to_string);
    match name.as_str() {
        "RUN" | "RUNS" => arg.add(ArgValueCompleter::new(runs)),
        "SWEEP" => arg.add(ArgValueCompleter::new(sweeps)),
        "RUN|SWEEP" => arg.add(ArgValueCompleter::new(runs_and_sweeps)),
        "EXPERIMENT" => arg.add(ArgValueCompleter::new(experiments)),
        _ => arg,
    }
}

/// Ids of runs, and names of experiments that have one run; with a slash, folders.
fn runs(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(text) = current.to_str() else {
        return Vec::new();
    };
    if text.contains('/') {
        return PathCompleter::dir().complete(current);
    }
    // The folder's names alone: no run is opened, and no scheduler is asked.
    let found = Runs::new(None).root().and_then(|root| run_dir::list(&root));
    let ids: Vec<String> = found.unwrap_or_default().iter().map(RunDir::id).collect();
    let names: Vec<&str> = ids.iter().filter_map(|id| name_of_run_id(id)).collect();
    let alone = |name: &&&str| names.iter().filter(|other| other == name).count() == 1;
    let names = names
        .iter()
        .filter(|name| name.starts_with(text))
        .filter(alone)
        .copied();
    let ids = ids.iter().map(String::as_str);
    ids.filter(|id| id.starts_with(text))
        .chain(names)
        .map(CompletionCandidate::new)
        .collect()
}

fn sweeps(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(text) = current.to_str() else {
        return Vec::new();
    };
    let found = Runs::new(None).root().map(|root| sweep::ids(&root));
    found
        .unwrap_or_default()
        .into_iter()
        .filter(|id| id.starts_with(text))
        .map(CompletionCandidate::new)
        .collect()
}

fn runs_and_sweeps(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut all = sweeps(current);
    all.extend(runs(current));
    all
}

/// YAML files, and folders on the way to them.
fn experiments(current: &OsStr) -> Vec<CompletionCandidate> {
    let is_yaml = |path: &Path| {
        let ending = path.extension().and_then(OsStr::to_str);
        ending.is_some_and(|ending| matches!(ending, "yaml" | "yml"))
    };
    PathCompleter::file().filter(is_yaml).complete(current)
}
