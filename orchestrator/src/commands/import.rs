//! `rocket import`.

use std::path::PathBuf;
use std::process::ExitCode;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use crate::commands::repro::parse_map;
use crate::{output, repro};

/// Turn one command line of CLIP-rocket's code into an experiment
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write the experiment to this file
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Override a key of the experiment
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Another beginning for paths of data
    #[arg(long = "map", value_name = "FROM=TO", value_parser = parse_map)]
    map: Vec<(String, String)>,
    /// The command line, as one text in quotes or as it is
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let words = match &args.command[..] {
        [text] => repro::split(text)?,
        words => words.to_vec(),
    };
    let derived = repro::one(&words, &args.map, &args.sets)?;
    for note in &derived.notes {
        eprintln!("note: {note}");
    }
    let text = format!(
        "# {}\n{}",
        derived.command,
        derived.experiment.to_short_yaml()
    );
    match &args.output {
        None => output::print(&text)?,
        Some(path) if path.exists() => {
            return Err(Error::new(
                ExitKind::Usage,
                format!("'{}' exists, and is left as it is", path.display()),
            )
            .hint("name another file with --output, or remove this one"));
        }
        Some(path) => rocket_common::atomic::write(path, text.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}
