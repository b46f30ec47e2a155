//! What supervisor and ranks say to each other, through files of the attempt's directory.
//!
//! ```text
//! <run>/attempts/<n>/
//!   control.json            supervisor -> ranks: please stop, and why        [Control]
//!   rendezvous.json         rank 0 -> ranks: where the store listens         [Rendezvous]
//!   ranks/<rank>.beat.json  rank -> supervisor: counters seen moving         [Heartbeat]
//!   ranks/<rank>.end.json   rank -> supervisor: how it ended                 [EndRecord]
//!   ranks/<rank>.log        stdout and stderr of the rank
//! ```
//! Every file is written aside and renamed, so that a reader sees a whole one or none.

use serde::{Deserialize, Serialize};

use crate::exit::ExitKind;

/// Environment of a rank. The first five are torch.distributed's own names.
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
    /// The run directory.
    pub const RUN_DIR: &str = "ROCKET_RUN_DIR";
    /// Number of the attempt.
    pub const ATTEMPT: &str = "ROCKET_ATTEMPT";
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
