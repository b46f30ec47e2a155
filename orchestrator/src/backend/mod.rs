//! Who runs supervisors and ranks. The supervisor is the same for every backend.

mod leftovers;
mod local;

pub use local::Local;

use std::ffi::OsString;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use rocket_common::error::Result;
use rocket_common::experiment::BackendKind;
use rocket_common::run_dir::{Attempt, Manifest, RunDir};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::supervisor::Exit;

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

/// A way of running a run.
pub trait Backend {
    /// Its name.
    fn kind(&self) -> BackendKind;

    /// Hands the run over, so that its supervisor starts now or later. Returns at once.
    ///
    /// # Errors
    /// It was not accepted.
    fn submit(&self, run: &RunDir, manifest: &Manifest) -> Result<()>;

    /// Nodes that ranks would run on; called by the supervisor.
    fn nodes(&self) -> Vec<String>;

    /// Starts the ranks of an attempt; called by the supervisor. First ends what is left of earlier
    /// attempts.
    ///
    /// # Errors
    /// A rank cannot be started; those already started are ended.
    fn launch(&self, launch: &Launch<'_>) -> Result<Running>;

    /// Whether somebody works on the run.
    ///
    /// # Errors
    /// The run directory cannot be read.
    fn liveness(&self, run: &RunDir) -> Result<Liveness>;
}

/// The backend of a run.
///
/// # Errors
/// None yet: Slurm comes with its backend.
pub fn of(kind: BackendKind) -> Result<Box<dyn Backend>> {
    match kind {
        BackendKind::Local | BackendKind::Auto => Ok(Box::new(Local)),
        BackendKind::Slurm => Err(rocket_common::error::Error::new(
            rocket_common::exit::ExitKind::Usage,
            "this version of rocket has no Slurm backend",
        )
        .hint("set 'cluster: {backend: local}'")),
    }
}
