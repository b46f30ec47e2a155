//! `rocket resume`.

use std::process::ExitCode;

use rocket_common::error::{Error, Result};
use rocket_common::events::{self, Event, EventKind, EventWriter, Status};
use rocket_common::exit::ExitKind;

use crate::backend::{self, Liveness};
use crate::runs::Runs;
use crate::view::{self, RunView};
use crate::{output, requests};

/// Go on with a run from its last checkpoint: cancelled, failed, or with a dead supervisor
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run
    run: String,
    /// Stay and print what happens until the run's end; exit with its result
    #[arg(long, visible_alias = "wait")]
    follow: bool,
    /// Go on although it cannot be seen from this host whether the supervisor lives; if it does, it
    /// notices that it was superseded, and leaves
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let run = runs.find(&args.run)?;
    let id = run.id();
    let manifest = run.manifest()?;
    let view = RunView::read(&run)?;
    if view.status == Status::Finished {
        output::print(&format!(
            "run {id} has finished: there is nothing left to do\n"
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let backend = backend::of(manifest.backend)?;
    match backend.liveness(&run)? {
        Liveness::Alive => {
            let who = view.supervisor.map_or(String::new(), |who| {
                format!(" (process {} on {})", who.pid, who.host)
            });
            return Err(Error::new(
                ExitKind::Usage,
                format!("run {id} is {}: its supervisor lives{who}", view.status),
            )
            .hint(format!("rocket status {id}, or first: rocket cancel {id}")));
        }
        Liveness::Unknown if !args.force => {
            return Err(Error::new(
                ExitKind::Usage,
                format!("run {id} was supervised from another host, where it may still be"),
            )
            .hint("run this on that host, or with --force if you know that it is gone"));
        }
        Liveness::Gone | Liveness::Unknown => {}
    }
    requests::uncancel(&run)?;
    let mut writer = EventWriter::new(&run, "resume");
    if !events::derive(&events::read(&run)?).status.is_settled() {
        let event = Event::new(EventKind::SupervisorLost).cause("the supervisor was found dead");
        writer.append(match view.attempt {
            Some(attempt) => event.attempt(attempt),
            None => event,
        })?;
    }
    let attempt = run.highest_attempt()?;
    writer.append(Event::new(EventKind::Resumed {
        backend: backend.kind(),
    }))?;
    backend.submit(&run, &manifest)?;
    let from = match view.checkpoint {
        Some(step) => format!("goes on from its checkpoint at step {step}"),
        None => "starts from nothing: it has no checkpoint".into(),
    };
    output::print(&format!("run {id} {from}\n"))?;
    if args.follow {
        view::wait_for_attempt(&run, attempt)?;
        return view::follow(&run);
    }
    Ok(ExitCode::SUCCESS)
}
