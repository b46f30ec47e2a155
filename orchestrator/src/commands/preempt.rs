//! `rocket preempt`.

use std::process::ExitCode;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::protocol::StopReason;

use crate::backend::Backends;
use crate::runs::Runs;
use crate::view::RunView;
use crate::{output, requests};

/// Ask a run to save, stop and go on by itself, as a scheduler that wants the node would
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run
    run: String,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let run = runs.find(&args.run)?;
    let view = RunView::read(&run, &Backends::default())?;
    let (Some(_), Some(attempt)) = (&view.supervisor, view.attempt) else {
        return Err(Error::new(
            ExitKind::Usage,
            format!(
                "run {} is {}: there is nothing to stop",
                run.id(),
                view.status
            ),
        ));
    };
    requests::stop(&run.attempt(attempt), StopReason::Preempted)?;
    output::print(&format!(
        "attempt {attempt} of run {} is asked to save and leave\n",
        run.id()
    ))?;
    Ok(ExitCode::SUCCESS)
}
