//! `rocket cancel`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rocket_common::error::{Error, Result};
use rocket_common::events::{Event, EventKind, EventWriter, Status};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{BackendKind, Experiment};
use rocket_common::run_dir::RunDir;

use crate::backend::{Backends, Liveness};
use crate::output;
use crate::requests::{self, Cancel};
use crate::runs::Runs;
use crate::view::RunView;

const TICK: Duration = Duration::from_millis(100);
/// How long a supervisor may take to end ranks, beyond their grace.
const KILLED: Duration = Duration::from_secs(60);
/// How long a supervisor that only waits may take to leave.
const LEAVING: Duration = Duration::from_secs(5);

/// End a run; the ranks save first, so that it can be resumed
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run
    run: String,
    /// Kill the ranks at once instead of letting them save
    #[arg(long)]
    now: bool,
    /// Do not wait until the ranks have left
    #[arg(long)]
    no_wait: bool,
}

/// What became of the wish to end a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It was cancelled before.
    Already,
    /// Nobody worked on it: it is cancelled.
    Done,
    /// Its ranks are to save and leave.
    Leaving,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let run = runs.find(&args.run)?;
    let id = run.id();
    let backends = Backends::default();
    let words = match ask(&run, &backends, args.now)? {
        Asked::Already => "is cancelled already".to_owned(),
        Asked::Done => {
            until_gone(&run, &backends)?;
            "cancelled".to_owned()
        }
        Asked::Leaving if args.no_wait => "is asked to save and end".to_owned(),
        Asked::Leaving => wait(&run, &backends, args.now)?,
    };
    output::print(&format!("run {id} {words}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Asks for the end of a run.
///
/// # Errors
/// It is over, or the scheduler does not answer.
pub(crate) fn ask(run: &RunDir, backends: &Backends, now: bool) -> Result<Asked> {
    run.manifest()?.refuse_imported()?;
    let view = RunView::read(run, backends)?;
    if view.status == Status::Cancelled {
        return Ok(Asked::Already);
    }
    if matches!(view.status, Status::Finished | Status::Failed) {
        return Err(Error::new(
            ExitKind::Usage,
            format!(
                "run {} has {} already: there is nothing to cancel",
                run.id(),
                view.status
            ),
        ));
    }
    requests::cancel(run, Cancel { now })?;
    let backend = backends.of(run.manifest()?.backend);
    if let (Some(job), true) = (&view.job, view.waiting.is_some()) {
        // It would be started only to find out that it is not wanted.
        backend.end_job(job)?;
    }
    if view.waiting.is_some() || view.supervisor.is_none() && view.status != Status::Pending {
        // Nobody is there to hear it.
        EventWriter::new(run, "cancel")
            .append(Event::new(EventKind::Cancelled).cause("cancelled by the user"))?;
        return Ok(Asked::Done);
    }
    Ok(Asked::Leaving)
}

/// Waits a moment until a supervisor without ranks has left, so that the run can be resumed at once.
///
/// # Errors
/// The run cannot be read.
pub(crate) fn until_gone(run: &RunDir, backends: &Backends) -> Result<()> {
    let manifest = run.manifest()?;
    if manifest.backend != BackendKind::Local {
        return Ok(());
    }
    let start = Instant::now();
    let backend = backends.of(manifest.backend);
    while backend.outlook(run, &manifest)?.liveness == Liveness::Alive && start.elapsed() < LEAVING
    {
        std::thread::sleep(TICK);
    }
    Ok(())
}

/// Waits until the ranks of a run have left, and says how that ended.
///
/// # Errors
/// The run cannot be read, or the scheduler does not answer.
pub(crate) fn wait(run: &RunDir, backends: &Backends, now: bool) -> Result<String> {
    let start = Instant::now();
    let patience = if now {
        KILLED
    } else {
        let grace = Experiment::read(&run.experiment_path())?
            .cluster
            .stop_grace_seconds;
        Duration::from_secs(grace) + KILLED
    };
    let mut said = false;
    let mut ended = false;
    loop {
        let view = RunView::read(run, backends)?;
        if view.status.is_settled() && view.supervisor.is_none() {
            let at = view.checkpoint.map_or(String::new(), |step| {
                format!("; its last checkpoint is at step {step}")
            });
            return Ok(format!("{}{at}", view.status));
        }
        if start.elapsed() > patience
            && let Some(job) = view.job.filter(|_| !ended)
        {
            // Its supervisor does not hear: Slurm ends the job, and heal leaves a cancelled run alone.
            eprintln!("the run does not end by itself: its job {job} is cancelled");
            backends.of(run.manifest()?.backend).end_job(&job)?;
            ended = true;
        }
        if !said && start.elapsed() > Duration::from_secs(2) {
            eprintln!("waiting until the ranks have saved and left (--now would kill them) ...");
            said = true;
        }
        std::thread::sleep(TICK);
    }
}
