//! `rocket compare`.

use std::io;
use std::process::ExitCode;

use rocket_common::error::Result;

use crate::backend::Backends;
use crate::output::{Format, stdout_error};
use crate::report::{CompareOptions, Comparison, Subject};
use crate::runs::Runs;

/// Compare runs: configuration, code, programs and numbers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs, experiment files, or git refs such as refs/rocket/RUN; the first is what the others are compared with
    #[arg(value_name = "RUN", required = true, num_args = 2..)]
    subjects: Vec<String>,
    /// Show equal keys and every metric, too
    #[arg(long)]
    all: bool,
    /// Print the changes of the code, as 'git diff' does
    #[arg(long)]
    patch: bool,
    /// Take means over so many of the last values
    #[arg(long, value_name = "N", default_value_t = 50)]
    last: usize,
    /// Print Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    #[command(flatten)]
    format: Format,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let backends = Backends::default();
    let subjects = args
        .subjects
        .iter()
        .map(|query| Subject::find(query, runs, &backends))
        .collect::<Result<Vec<Subject>>>()?;
    for subject in &subjects {
        for trouble in &subject.troubles {
            eprintln!("warning: {}: {trouble}", subject.head.run);
        }
    }
    let options = CompareOptions {
        all: args.all,
        patch: args.patch,
        last: args.last,
    };
    let comparison = Comparison::of(&subjects, options)?;
    if args.markdown {
        comparison
            .markdown(&mut io::stdout().lock())
            .map_err(stdout_error)?;
    } else {
        args.format.print(&comparison)?;
    }
    Ok(ExitCode::SUCCESS)
}
