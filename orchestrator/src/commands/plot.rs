//! `rocket plot`.

use std::path::PathBuf;
use std::process::ExitCode;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use crate::runs::Runs;
use crate::{output, view};

/// Draw a run's curves of loss and scores
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run
    run: String,
    /// The PNG to write
    #[arg(short, long, value_name = "FILE", default_value = "curves.png")]
    output: PathBuf,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let run = runs.find(&args.run)?;
    let series = view::read_metrics(&run)?;
    if series.train.is_empty() && series.eval.is_empty() {
        return Err(Error::new(
            ExitKind::Usage,
            format!("run {} has no metrics yet", run.id()),
        )
        .hint(format!("rocket status {}", run.id())));
    }
    view::plot(&run.id(), &series, &args.output)?;
    output::print(&format!("{}\n", args.output.display()))?;
    Ok(ExitCode::SUCCESS)
}
