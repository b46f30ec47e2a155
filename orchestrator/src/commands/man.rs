//! `rocket man`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::suggest;

use crate::cli::Cli;
use crate::output;

/// Print the manual page of rocket or of one of its commands, or write all of them
///
/// 'rocket man submit | man -l -' shows one; 'rocket man --dir ~/.local/share/man/man1' lets 'man
/// rocket-submit' find all of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command, such as submit or sweep status; rocket itself if none is named
    #[arg(conflicts_with = "dir")]
    command: Vec<String>,
    /// Write the pages of rocket and of each command to this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut top = Cli::command();
    // Gives each command its full name, and hides what is hidden.
    top.build();
    if let Some(dir) = &args.dir {
        std::fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
        let count = write(&top, dir)?;
        output::print(&format!("{count} pages are in '{}'\n", dir.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut command = &top;
    for name in &args.command {
        command = command
            .find_subcommand(name)
            .ok_or_else(|| unknown(command, name))?;
    }
    output::print(&page(command)?)?;
    Ok(ExitCode::SUCCESS)
}

fn write(command: &Command, dir: &Path) -> Result<usize> {
    let path = dir.join(format!("{}.1", dashed(command)));
    std::fs::write(&path, page(command)?).map_err(|error| Error::io("write", &path, error))?;
    let mut count = 1;
    for inner in command.get_subcommands().filter(|inner| is_shown(inner)) {
        count += write(inner, dir)?;
    }
    Ok(count)
}

fn is_shown(command: &Command) -> bool {
    !command.is_hide_set() && command.get_name() != "help"
}

/// `rocket-sweep-status`.
fn dashed(command: &Command) -> String {
    let name = command.get_display_name();
    name.unwrap_or_else(|| command.get_name()).to_owned()
}

fn page(command: &Command) -> Result<String> {
    let man = Man::new(command.clone())
        .title(dashed(command))
        .source(concat!("rocket ", env!("CARGO_PKG_VERSION")))
        .manual("rocket")
        // No date: the same program writes the same page. Nothing at all would shift what follows.
        .date(" ");
    let mut text = Vec::new();
    man.render(&mut text)
        .map_err(|error| Error::io("write the page of", dashed(command).as_ref(), error))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn unknown(command: &Command, name: &str) -> Error {
    let known: Vec<&str> = command
        .get_subcommands()
        .filter(|inner| is_shown(inner))
        .map(Command::get_name)
        .collect();
    let message = format!("{} has no command '{name}'", dashed(command));
    let error = Error::new(ExitKind::Usage, message);
    match suggest(name, known.iter().copied()) {
        Some(meant) => error.hint(format!("did you mean '{meant}'?")),
        None if known.is_empty() => error,
        None => error.hint(format!("its commands are {}", known.join(", "))),
    }
}
