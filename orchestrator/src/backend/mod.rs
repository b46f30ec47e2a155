//! Who runs supervisors and ranks. The supervisor is the same for every backend.

mod children;
mod conductor;
pub(crate) mod leftovers;
pub(crate) mod local;
pub(crate) mod machines;
pub(crate) mod place;
pub(crate) mod records;
pub(crate) mod share;

pub use local::Local;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use rocket_common::error::{Error, Result};
use rocket_common::events::Event;
use rocket_common::experiment::BackendKind;
use rocket_common::run_dir::{Attempt, Manifest, RunDir};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::slurm::Slurm;
use crate::slurm::job::{Fate, Over};
use crate::supervisor::Exit;

/// How long a person waits for a scheduler that does not answer.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the ranks of an attempt are.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The run.
    pub run: &'a RunDir,
    /// The attempt, claimed by the caller.
    pub attempt: &'a Attempt,
    /// Number of ranks, W.
    pub world_size: u32,
    /// Program and arguments, the same for every rank.
    pub argv: Vec<OsString>,
    /// Variables for every rank, besides those of its place, which the backend knows.
    pub env: Vec<(OsString, OsString)>,
    /// Variables that ranks must not inherit.
    pub without: Vec<&'static str>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Whether `MASTER_PORT` is to be chosen by the backend; else rank 0 publishes its own.
    pub choose_port: bool,
}

/// A rank's process has ended.
#[derive(Debug, Clone, Copy)]
pub struct RankExit {
    /// Which.
    pub rank: u32,
    /// How.
    pub exit: Exit,
}

/// Ranks that were started.
pub struct Running {
    /// Each rank's end, once.
    pub exits: UnboundedReceiver<RankExit>,
    /// To reach them.
    pub control: Box<dyn Control>,
}

/// Reaches the processes of running ranks.
pub trait Control {
    /// Notes that a rank's process has ended: its id may soon be another's.
    fn ended(&mut self, rank: u32);
    /// Sends a signal to those ranks that still run.
    fn signal(&mut self, signal: Signal);
    /// Writes what the ranks are doing to the attempt's `stacks/`, as far as that can be seen.
    fn save_stacks(&mut self);
    /// Ends everything that the ranks have started, at once.
    fn kill(&mut self);
}

/// Whether somebody works on a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// A supervisor runs, or the scheduler will start one.
    Alive,
    /// None does.
    Gone,
    /// That cannot be seen from here.
    Unknown,
}

/// What a backend knows of a run from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// Whether somebody works on it.
    pub liveness: Liveness,
    /// The scheduler's job.
    pub job: Option<String>,
    /// The job has nodes.
    pub running: bool,
    /// What it waits for, in words.
    pub waiting: Option<String>,
    /// What to do about that.
    pub hint: Option<String>,
    /// It waits until somebody releases it.
    pub held: bool,
    /// Why less is known than usual.
    pub trouble: Option<String>,
}

impl Outlook {
    /// With nothing but the liveness.
    #[must_use]
    pub fn of(liveness: Liveness) -> Self {
        Self {
            liveness,
            job: None,
            running: false,
            waiting: None,
            hint: None,
            held: false,
            trouble: None,
        }
    }
}

/// A run that is handed over.
#[derive(Debug, Clone, Copy)]
pub struct Handover<'a> {
    /// The run.
    pub run: &'a RunDir,
    /// What was submitted.
    pub manifest: &'a Manifest,
    /// Why: `submit`, `resume`, `heal`, ...
    pub why: &'a str,
    /// Nodes that are not to be used, besides the experiment's.
    pub exclude: &'a [String],
    /// Job that must be gone before.
    pub after: Option<&'a str>,
    /// Number of the submission, where the caller decided on the strength of what it saw before;
    /// the next one if absent.
    pub number: Option<u32>,
    /// What is noted of the supervisor before, which was found dead.
    pub lost: Option<&'a Event>,
    /// How long to wait for a scheduler that does not answer.
    pub patience: Duration,
}

impl<'a> Handover<'a> {
    /// An ordinary one.
    #[must_use]
    pub fn new(run: &'a RunDir, manifest: &'a Manifest, why: &'a str) -> Self {
        Self {
            run,
            manifest,
            why,
            exclude: &[],
            after: None,
            number: None,
            lost: None,
            patience: PATIENCE,
        }
    }
}

/// What became of a wish to be queued again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requeued {
    /// It is queued; what is left of the job is about to be ended.
    Done {
        /// The nodes that were named are not used again.
        excluded: bool,
    },
    /// The scheduler does not answer, in its words.
    Silent(String),
    /// The scheduler does not allow it, in its words.
    Refused(String),
}

/// A way of running a run.
pub trait Backend {
    /// Its name.
    fn kind(&self) -> BackendKind;

    /// Says of which users runs will be asked about, so that one request can answer for all.
    fn prepare(&self, _users: &BTreeSet<String>) {}

    /// Hands the run over, so that its supervisor starts now or later; gives the scheduler's job.
    ///
    /// # Errors
    /// It was not accepted.
    fn submit(&self, handover: &Handover<'_>) -> Result<Option<String>>;

    /// Whether somebody works on the run, and what it waits for.
    ///
    /// # Errors
    /// The run directory cannot be read. A scheduler that does not answer is no error.
    fn outlook(&self, run: &RunDir, manifest: &Manifest) -> Result<Outlook>;

    /// Has the scheduler end a job.
    ///
    /// # Errors
    /// The scheduler does not answer, or refuses.
    fn end_job(&self, _job: &str) -> Result<()> {
        Ok(())
    }

    /// What the scheduler still remembers of the end of a run's job that has left its queue.
    fn epitaph(&self, _job: &str) -> Option<Over> {
        None
    }

    /// Checks that this process is where the run's supervisor is to be.
    ///
    /// # Errors
    /// It is not; kind [`rocket_common::exit::ExitKind::Fenced`] if another submission has taken its place.
    fn enter(&self, _run: &RunDir, _submission: Option<u32>) -> Result<()> {
        Ok(())
    }

    /// The job that this supervisor runs in.
    fn job(&self) -> Option<String> {
        None
    }

    /// Name of this supervisor's file of events, which no other process writes.
    fn writer(&self) -> String {
        "supervisor".into()
    }

    /// Nodes that ranks would run on; called by the supervisor.
    fn nodes(&self) -> Vec<String>;

    /// Starts the ranks of an attempt; called by the supervisor. First ends what is left of earlier
    /// attempts.
    ///
    /// # Errors
    /// A rank cannot be started; those already started are ended.
    fn launch(&self, launch: &Launch<'_>) -> Result<Running>;

    /// What becomes of this supervisor's job.
    fn fate(&self, _run: &RunDir) -> Fate {
        Fate::Runs
    }

    /// Which of these nodes ranks cannot be trusted to, with their states.
    fn sick(&self, _nodes: &[String]) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Has this supervisor's job queued again, without some nodes. Its processes are ended by that.
    ///
    /// # Errors
    /// There is no job.
    fn requeue(&self, _exclude: &[String]) -> Result<Requeued> {
        Ok(Requeued::Refused("nobody queues anything here".into()))
    }
}

/// The backends, each made once, so that all runs share one picture of the scheduler's queue.
#[derive(Default)]
pub struct Backends {
    local: Local,
    slurm: Slurm,
}

impl Backends {
    /// The backend of a run.
    #[must_use]
    pub fn of(&self, kind: BackendKind) -> &dyn Backend {
        match kind {
            BackendKind::Local => &self.local,
            BackendKind::Slurm => &self.slurm,
            BackendKind::Auto if Slurm::is_here() => &self.slurm,
            BackendKind::Auto => &self.local,
        }
    }
}

/// A port of this host that nobody listens on now, at an address or `0.0.0.0` for all of them.
pub(crate) fn free_port(address: &str) -> Result<u16> {
    TcpListener::bind((address, 0))
        .and_then(|listener| listener.local_addr())
        .map(|bound| bound.port())
        .map_err(|error| Error::io("find a free port on", Path::new(address), error))
}
