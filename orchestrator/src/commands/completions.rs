//! `rocket completions`.

use std::process::ExitCode;

use clap_complete::env::Shells;
use rocket_common::error::{Error, Result};

use crate::{complete, output};

/// Print what makes a shell complete runs, experiments, commands and options
///
/// bash: add 'source <(rocket completions bash)' to ~/.bashrc.
/// zsh: add 'source <(rocket completions zsh)' to ~/.zshrc, after compinit.
/// fish: rocket completions fish > ~/.config/fish/completions/rocket.fish
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let name = match args.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let mut text = Vec::new();
    let shells = Shells::builtins();
    if let Some(shell) = shells.completer(name) {
        // By its name: whichever rocket is first on the PATH answers, as it does to the command itself.
        shell
            .write_registration(complete::ENV, "rocket", "rocket", "rocket", &mut text)
            .map_err(|error| Error::io("write for the shell", name.as_ref(), error))?;
    }
    output::print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}
