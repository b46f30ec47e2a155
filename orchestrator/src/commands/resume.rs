//! `rocket resume`.

use std::process::ExitCode;

use rocket_common::error::{Error, Result};
use rocket_common::events::{self, Event, EventKind, EventWriter, Status};
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::RunDir;

use crate::backend::{Backends, Handover, Liveness};
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

/// What was made of a run that was to go on.
pub(crate) enum Resumed {
    /// It had finished.
    Finished,
    /// It goes on, in words, after so many attempts.
    On(String, Option<u32>),
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let run = runs.find(&args.run)?;
    let id = run.id();
    match one(&run, &Backends::default(), args.force)? {
        Resumed::Finished => output::print(&format!(
            "run {id} has finished: there is nothing left to do\n"
        ))?,
        Resumed::On(words, attempt) => {
            output::print(&format!("run {id} {words}\n"))?;
            if args.follow {
                view::wait_for_attempt(&run, attempt)?;
                return view::follow(&run);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Lets a run go on that nobody works on. `force`: although that cannot be seen from here.
///
/// # Errors
/// Somebody works on it, or the backend refuses.
pub(crate) fn one(run: &RunDir, backends: &Backends, force: bool) -> Result<Resumed> {
    let id = run.id();
    let manifest = run.manifest()?;
    manifest.refuse_imported()?;
    // Before the look at the scheduler: whoever submits between the two takes this number away.
    let number = run.highest_submission()?.map_or(0, |highest| highest + 1);
    let view = RunView::read(run, backends)?;
    if view.status == Status::Finished {
        return Ok(Resumed::Finished);
    }
    let backend = backends.of(manifest.backend);
    let outlook = backend.outlook(run, &manifest)?;
    match outlook.liveness {
        Liveness::Alive if view.status.is_settled() => {
            return Err(Error::new(
                ExitKind::Usage,
                format!(
                    "run {id} is {}, and what ran it is still leaving",
                    view.status
                ),
            )
            .hint("try again in a moment"));
        }
        Liveness::Alive if outlook.waiting.is_some() => {
            let words = outlook.waiting.unwrap_or_default();
            let error = Error::new(
                ExitKind::Usage,
                match outlook.job {
                    Some(job) => {
                        format!("run {id} is in Slurm's queue already: job {job}: {words}")
                    }
                    None => format!("run {id} goes on already: it {words}"),
                },
            );
            return Err(match outlook.hint {
                Some(hint) => error.hint(hint),
                None => error,
            });
        }
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
        Liveness::Unknown if !force && outlook.trouble.is_some() => {
            let words = outlook.trouble.unwrap_or_default();
            return Err(Error::new(ExitKind::Distributed, words)
                .hint("whether the run is in its queue cannot be told; try again later"));
        }
        Liveness::Unknown if !force => {
            return Err(Error::new(
                ExitKind::Usage,
                format!("run {id} was supervised from another host, where it may still be"),
            )
            .hint("run this on that host, or with --force if you know that it is gone"));
        }
        Liveness::Gone | Liveness::Unknown => {}
    }
    requests::uncancel(run)?;
    let mut writer = EventWriter::new(run, "resume");
    if !events::derive(&events::read(run)?).status.is_settled() {
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
    let excluded = events::derive(&events::read(run)?).excluded;
    let job = backend.submit(&Handover {
        number: Some(number),
        exclude: &excluded,
        ..Handover::new(run, &manifest, "resumed by the user")
    })?;
    let from = match view.checkpoint {
        Some(step) => format!("goes on from its checkpoint at step {step}"),
        None => "starts from nothing: it has no checkpoint".into(),
    };
    let job = job.map_or(String::new(), |job| format!(" as job {job}"));
    Ok(Resumed::On(format!("{from}{job}"), attempt))
}
