//! What supervisor and ranks say to each other, through files of the attempt's directory.
//!
//! ```text
//! <run>/attempts/<n>/
//!   control.json            supervisor -> ranks: please stop, and why        [Control]
//!   orders.json             supervisor -> launchers on other nodes           [Orders]
//!   rendezvous.json         rank 0 -> ranks: where the store listens         [Rendezvous]
//!   ranks/<rank>.beat.json  rank -> supervisor: counters seen moving         [Heartbeat]
//!   ranks/<rank>.end.json   rank -> supervisor: how its work ended           [EndRecord]
//!   ranks/<rank>.exit.json  launcher on the rank's node -> supervisor:
//!                           how its process ended                            [ExitRecord]
//!   ranks/<rank>.log        stdout and stderr of the rank
//! ```
//! Every file is written aside and renamed, so that a reader sees a whole one or none.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::error::{Error, Result};
use crate::exit::ExitKind;
use crate::run_dir::{Attempt, RunDir};

/// Environment of a rank. Names without `ROCKET_` are those of torch.distributed and torchrun.
pub mod env {
    /// Global rank.
    pub const RANK: &str = "RANK";
    /// Number of ranks.
    pub const WORLD_SIZE: &str = "WORLD_SIZE";
    /// Rank within its node; chooses the GPU.
    pub const LOCAL_RANK: &str = "LOCAL_RANK";
    /// Host of the rendezvous store as seen by the other ranks.
    pub const MASTER_ADDR: &str = "MASTER_ADDR";
    /// Port of the store. Absent or 0: rank 0 binds a free one and publishes it in `rendezvous.json`.
    pub const MASTER_PORT: &str = "MASTER_PORT";
    /// Number of ranks of the node.
    pub const LOCAL_WORLD_SIZE: &str = "LOCAL_WORLD_SIZE";
    /// Number of the node.
    pub const GROUP_RANK: &str = "GROUP_RANK";
    /// Number of nodes.
    pub const GROUP_WORLD_SIZE: &str = "GROUP_WORLD_SIZE";
    /// Rank among those of its role; all have one role.
    pub const ROLE_RANK: &str = "ROLE_RANK";
    /// Number of ranks of the role.
    pub const ROLE_WORLD_SIZE: &str = "ROLE_WORLD_SIZE";
    /// The role.
    pub const ROLE_NAME: &str = "ROLE_NAME";
    /// The run's id.
    pub const TORCHELASTIC_RUN_ID: &str = "TORCHELASTIC_RUN_ID";
    /// Number of the attempt.
    pub const TORCHELASTIC_RESTART_COUNT: &str = "TORCHELASTIC_RESTART_COUNT";
    /// The run directory.
    pub const RUN_DIR: &str = "ROCKET_RUN_DIR";
    /// Number of the attempt.
    pub const ATTEMPT: &str = "ROCKET_ATTEMPT";
    /// The experiment's seed, for programs of `command:`.
    pub const SEED: &str = "ROCKET_SEED";
    /// Folder of the pinned tree's files (labels, prompts, catalog, templates).
    pub const PIN_DIR: &str = "ROCKET_PIN_DIR";
}

/// Why a stop is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The scheduler wants the nodes back.
    Preempted,
    /// The time limit is near.
    TimeLimit,
    /// The user cancelled the run.
    Cancelled,
    /// A rank was sent SIGTERM itself.
    Signal,
}

/// `control.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Set once a stop is wanted: checkpoint at the next step boundary and leave.
    pub stop: Option<StopReason>,
}

/// `orders.json`: what the supervisor wants of the launchers that wait for ranks on other nodes.
/// Orders are only ever added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Orders {
    /// Write what the ranks are doing to the attempt's `stacks/`.
    pub stacks: bool,
    /// Send SIGTERM to the ranks, for programs that do not read `control.json`.
    pub term: bool,
    /// Kill the ranks, and leave.
    pub kill: bool,
}

/// `rendezvous.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendezvous {
    /// Host of the store.
    pub host: String,
    /// Port of the store.
    pub port: u16,
    /// Attempt that published it.
    pub attempt: u32,
}

/// What a rank is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Process start, rendezvous, model and data set-up.
    Starting,
    /// Optimiser steps.
    Training,
    /// Zero-shot evaluation.
    Evaluating,
    /// Writing a checkpoint.
    Saving,
    /// Leaving.
    Ending,
}

/// `ranks/<rank>.beat.json`. No clock of one machine is compared with another's: the supervisor
/// watches whether `beat` moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Counts the heartbeats of this process.
    pub beat: u64,
    /// Process id on its node.
    pub pid: u32,
    /// What it is doing.
    pub phase: Phase,
    /// Optimiser steps done.
    pub step: u64,
    /// Optimiser steps of the whole run.
    pub total_steps: u64,
    /// Epochs done, with fraction.
    pub epoch: f64,
    /// Samples per second over all ranks since the last heartbeat.
    pub samples_per_second: f64,
    /// Resident memory of the process in bytes.
    pub resident_bytes: u64,
}

/// How a rank's work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The run is complete.
    Finished,
    /// An agreed stop: the state is saved at `step`.
    Stopped,
    /// It could not go on.
    Failed,
}

/// `ranks/<rank>.end.json`, the rank's last words. Absent: it was killed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndRecord {
    /// How it ended.
    pub outcome: Outcome,
    /// The exit code's meaning.
    pub kind: ExitKind,
    /// Optimiser steps done.
    pub step: u64,
    /// Reason of a stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopReason>,
    /// Cause of a failure, a full sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl EndRecord {
    /// The last words of a rank that could not go on.
    #[must_use]
    pub fn failed(error: &Error, step: u64) -> Self {
        let hints = error.hints();
        Self {
            outcome: Outcome::Failed,
            kind: error.kind(),
            step,
            stop: None,
            cause: Some(error.to_string()),
            hint: (!hints.is_empty()).then(|| hints.join("; ")),
        }
    }
}

/// How a rank's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessEnd {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// `ranks/<rank>.exit.json`: `{"code": 0, "node": "n1"}` or `{"signal": 9, "node": "n1"}`. Written by
/// whoever waits for the rank's process on its node, where the supervisor runs on another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// How it ended.
    #[serde(flatten)]
    pub end: ProcessEnd,
    /// Node that the rank ran on.
    pub node: String,
}

/// Asks the ranks for a stop, or takes the request back.
///
/// # Errors
/// The file system refuses.
pub fn write_control(attempt: &Attempt, control: &Control) -> Result<()> {
    atomic::write_json(&attempt.control_path(), control)
}

/// What the supervisor asks for. An absent file asks for nothing.
///
/// # Errors
/// The file is there but cannot be read (not: cannot be understood, which counts as absent).
pub fn read_control(attempt: &Attempt) -> Result<Control> {
    Ok(read(&attempt.control_path())?.unwrap_or_default())
}

/// Gives orders to the launchers on other nodes.
///
/// # Errors
/// The file system refuses.
pub fn write_orders(attempt: &Attempt, orders: &Orders) -> Result<()> {
    atomic::write_json(&attempt.orders_path(), orders)
}

/// Orders to the launchers. An absent file orders nothing.
///
/// # Errors
/// The file is there but cannot be read.
pub fn read_orders(attempt: &Attempt) -> Result<Orders> {
    Ok(read(&attempt.orders_path())?.unwrap_or_default())
}

/// Publishes where the store listens, unless a newer attempt exists.
///
/// # Errors
/// Kind [`ExitKind::Fenced`] if there is a newer attempt, or the file system refuses.
pub fn publish_rendezvous(run: &RunDir, rendezvous: &Rendezvous) -> Result<()> {
    run.fence_check(rendezvous.attempt)?;
    let path = run.attempt(rendezvous.attempt).rendezvous_path();
    atomic::write_json(&path, rendezvous)
}

/// Where the store of an attempt listens; `None` until it is published.
///
/// # Errors
/// The file is there but cannot be read.
pub fn read_rendezvous(attempt: &Attempt) -> Result<Option<Rendezvous>> {
    let rendezvous: Option<Rendezvous> = read(&attempt.rendezvous_path())?;
    Ok(rendezvous.filter(|rendezvous| rendezvous.attempt == attempt.number()))
}

/// Removes what an earlier launch within the attempt left behind (rendezvous, control, heartbeats,
/// end and exit records), so that nothing stale is believed. Logs stay.
///
/// # Errors
/// The file system refuses.
pub fn clear(attempt: &Attempt, world_size: u32) -> Result<()> {
    let of_ranks = (0..world_size).flat_map(|rank| {
        [
            attempt.heartbeat_path(rank),
            attempt.end_path(rank),
            attempt.exit_path(rank),
        ]
    });
    let of_attempt = [
        attempt.rendezvous_path(),
        attempt.control_path(),
        attempt.orders_path(),
    ];
    for path in of_ranks.chain(of_attempt) {
        match fs::remove_file(&path) {
            Err(error) if !atomic::is_absent(&error) => {
                return Err(Error::io("remove", &path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes a rank's heartbeat. Not synced to the disk: the next one follows soon.
///
/// # Errors
/// The file system refuses.
pub fn write_heartbeat(attempt: &Attempt, rank: u32, beat: &Heartbeat) -> Result<()> {
    atomic::write_json_unsynced(&attempt.heartbeat_path(rank), beat)
}

/// A rank's last heartbeat, if it wrote one.
///
/// # Errors
/// The file is there but cannot be read.
pub fn read_heartbeat(attempt: &Attempt, rank: u32) -> Result<Option<Heartbeat>> {
    read(&attempt.heartbeat_path(rank))
}

/// Writes a rank's last words.
///
/// # Errors
/// The file system refuses.
pub fn write_end(attempt: &Attempt, rank: u32, end: &EndRecord) -> Result<()> {
    atomic::write_json(&attempt.end_path(rank), end)
}

/// A rank's last words, if it had any.
///
/// # Errors
/// The file is there but cannot be read.
pub fn read_end(attempt: &Attempt, rank: u32) -> Result<Option<EndRecord>> {
    read(&attempt.end_path(rank))
}

/// Writes how a rank's process ended. Its log and last words are complete before.
///
/// # Errors
/// The file system refuses.
pub fn write_exit(attempt: &Attempt, rank: u32, exit: &ExitRecord) -> Result<()> {
    atomic::write_json(&attempt.exit_path(rank), exit)
}

/// How a rank's process ended, once that is known.
///
/// # Errors
/// The file is there but cannot be read.
pub fn read_exit(attempt: &Attempt, rank: u32) -> Result<Option<ExitRecord>> {
    read(&attempt.exit_path(rank))
}

/// A file that may be absent, or, written by a program of another make, be cut short: both `None`.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if atomic::is_absent(&error) => Ok(None),
        Err(error) => Err(Error::io("read", path, error)),
    }
}
