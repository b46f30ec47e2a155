//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};
use rocket_common::error::Result;

use crate::bundle::Identity;
use crate::commands;
use crate::complete;
use crate::runs::Runs;

/// `-V` is one line; `--version` also says which sources the program was built from.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut text = env!("CARGO_PKG_VERSION").to_owned();
    let identity = Identity::own();
    if !identity.is_known() {
        text.push_str("\nsources: unknown (not built from a git checkout)");
    }
    for (path, id) in identity.sources {
        text.push_str(&format!("\n{id} {path}"));
    }
    text
});

/// Runs vision-language pre-training experiments, pinned to a git commit, until they are done.
#[derive(Debug, Parser)]
#[command(name = "rocket", version, long_version = LONG_VERSION.as_str(), max_term_width = 100)]
pub struct Cli {
    /// Folder of all runs [default: $ROCKET_RUNS, else the settings', else 'runs' at the top of the repository]
    #[arg(long, global = true, value_name = "DIR")]
    runs: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Submit(commands::submit::Args),
    Status(commands::status::Args),
    Top(commands::top::Args),
    Logs(commands::logs::Args),
    Show(commands::show::Args),
    Plot(commands::plot::Args),
    Compare(commands::compare::Args),
    Report(commands::report::Args),
    Reproduce(commands::reproduce::Args),
    Export(commands::export::Args),
    ImportRun(commands::import_run::Args),
    Gc(commands::gc::Args),
    Eval(commands::eval::Args),
    Cancel(commands::cancel::Args),
    Preempt(commands::preempt::Args),
    Resume(commands::resume::Args),
    Heal(commands::heal::Args),
    Sweep(commands::sweep::Args),
    Repro(commands::repro::Args),
    Import(commands::import::Args),
    Doctor(commands::doctor::Args),
    Drill(commands::drill::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
    #[command(hide = true)]
    Share(commands::share::Args),
    #[command(hide = true)]
    Supervise(commands::supervise::Args),
    #[command(hide = true)]
    Rank(commands::rank::Args),
}

pub(crate) fn run() -> Result<ExitCode> {
    complete::answer();
    let cli = Cli::parse();
    let runs = Runs::new(cli.runs);
    match &cli.command {
        Command::Submit(args) => commands::submit::run(args, &runs),
        Command::Status(args) => commands::status::run(args, &runs),
        Command::Top(args) => commands::top::run(args, &runs),
        Command::Logs(args) => commands::logs::run(args, &runs),
        Command::Show(args) => commands::show::run(args, &runs),
        Command::Plot(args) => commands::plot::run(args, &runs),
        Command::Compare(args) => commands::compare::run(args, &runs),
        Command::Report(args) => commands::report::run(args, &runs),
        Command::Reproduce(args) => commands::reproduce::run(args, &runs),
        Command::Export(args) => commands::export::run(args, &runs),
        Command::ImportRun(args) => commands::import_run::run(args, &runs),
        Command::Gc(args) => commands::gc::run(args, &runs),
        Command::Eval(args) => commands::eval::run(args, &runs),
        Command::Cancel(args) => commands::cancel::run(args, &runs),
        Command::Preempt(args) => commands::preempt::run(args, &runs),
        Command::Resume(args) => commands::resume::run(args, &runs),
        Command::Repro(args) => commands::repro::run(args, &runs),
        Command::Import(args) => commands::import::run(args),
        Command::Doctor(args) => commands::doctor::run(args, &runs),
        Command::Drill(args) => commands::drill::run(args, &runs),
        Command::Heal(args) => commands::heal::run(args, &runs),
        Command::Sweep(args) => commands::sweep::run(args, &runs),
        Command::Completions(args) => commands::completions::run(args),
        Command::Man(args) => commands::man::run(args),
        Command::Share(args) => commands::share::run(args),
        Command::Supervise(args) => commands::supervise::run(args),
        Command::Rank(args) => commands::rank::run(args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
