//! What happened to a run, as append-only lines: `events/<writer>.jsonl`.
//!
//! Each writer has a file of its own, since appends of two machines to one file are not atomic on
//! NFS. Readers merge the files and derive everything else (status, history, goodput) from them.

mod merge;
mod state;
mod write;

pub use merge::read;
pub use state::{AttemptSummary, RunState, Status, derive};
pub use write::EventWriter;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::exit::ExitKind;
use crate::experiment::BackendKind;
use crate::protocol::StopReason;

/// One line of an event file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the writer's clock. Clocks of two machines may differ; see [`read`].
    pub time: Timestamp,
    /// Count of the writer's events, from 0.
    #[serde(default)]
    pub seq: u64,
    /// Who wrote it; not stored, since it is the file's name.
    #[serde(skip)]
    pub writer: String,
    /// Attempt it belongs to; absent for what people do between attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Job of the scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Optimiser steps done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Why, a full sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The scheduler took the nodes, or lost them: what failed with them counts against no budget.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub excused: bool,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened. Stored as `"event": "<name>"` beside the kind's own fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The run was handed to a backend.
    Submitted {
        /// Which.
        backend: BackendKind,
    },
    /// A supervisor claimed an attempt and starts the ranks.
    AttemptStarted {
        /// Number of ranks.
        world_size: u32,
    },
    /// The ranks were started again within the attempt, from `step`.
    Relaunched {
        /// Crashes that count against the budget.
        crashes: u32,
    },
    /// A rank ended without having been asked to.
    RankFailed {
        /// Which rank.
        rank: u32,
        /// Meaning of its exit code; absent if a signal killed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit: Option<ExitKind>,
        /// The signal that killed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
    },
    /// A checkpoint was published at `step`.
    Checkpoint {
        /// Its directory within `checkpoints/`.
        name: String,
        /// Seconds it took.
        seconds: f64,
        /// Size in bytes.
        bytes: u64,
    },
    /// A damaged checkpoint was passed over; `cause` says what is wrong with it.
    CheckpointSkipped {
        /// Its directory within `checkpoints/`.
        name: String,
    },
    /// The ranks go on from the checkpoint at `step`; step 0 is a start from nothing.
    Restored {
        /// Its directory within `checkpoints/`; absent at a start from nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// The ranks were asked to save and leave.
    StopRequested {
        /// Why.
        reason: StopReason,
    },
    /// The ranks left as agreed, with their state saved at `step`.
    Stopped {
        /// Why.
        reason: StopReason,
    },
    /// The scheduler accepted the run as `job`.
    Queued,
    /// The scheduler took the nodes.
    Preempted,
    /// `nodes` are not to be used again.
    NodeExcluded,
    /// The run waits for the scheduler again.
    Requeued,
    /// A zero-shot evaluation.
    Evaluated {
        /// Scores by name, fractions of 1.
        metrics: BTreeMap<String, f64>,
    },
    /// The run is complete.
    Finished,
    /// The run was given up.
    Failed {
        /// Why, in kind.
        exit: ExitKind,
    },
    /// A user ended the run.
    Cancelled,
    /// A user, or `rocket heal`, started the run again.
    Resumed {
        /// Which backend it was handed to.
        backend: BackendKind,
    },
    /// The supervisor was found dead by somebody else.
    SupervisorLost,
    /// Anything worth saying that changes no state; `cause` holds the text.
    Note,
    /// Written by a newer version. Kept, shown by name, never acted upon.
    #[serde(untagged)]
    Unknown(Map<String, Value>),
}

impl EventKind {
    /// The stored name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Submitted { .. } => "submitted",
            Self::AttemptStarted { .. } => "attempt_started",
            Self::Relaunched { .. } => "relaunched",
            Self::RankFailed { .. } => "rank_failed",
            Self::Checkpoint { .. } => "checkpoint",
            Self::CheckpointSkipped { .. } => "checkpoint_skipped",
            Self::Restored { .. } => "restored",
            Self::StopRequested { .. } => "stop_requested",
            Self::Stopped { .. } => "stopped",
            Self::Queued => "queued",
            Self::Preempted => "preempted",
            Self::NodeExcluded => "node_excluded",
            Self::Requeued => "requeued",
            Self::Evaluated { .. } => "evaluated",
            Self::Finished => "finished",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
            Self::Resumed { .. } => "resumed",
            Self::SupervisorLost => "supervisor_lost",
            Self::Note => "note",
            Self::Unknown(fields) => fields
                .get("event")
                .and_then(Value::as_str)
                .unwrap_or("unknown"),
        }
    }
}

impl Event {
    /// An event of now. The writer fills in its own name and count.
    #[must_use]
    pub fn new(kind: EventKind) -> Self {
        Self {
            time: Timestamp::now(),
            seq: 0,
            writer: String::new(),
            attempt: None,
            job: None,
            nodes: Vec::new(),
            step: None,
            cause: None,
            hint: None,
            excused: false,
            kind,
        }
    }

    /// With its attempt.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = Some(attempt);
        self
    }

    /// With the scheduler's job.
    #[must_use]
    pub fn job(mut self, job: impl Into<String>) -> Self {
        self.job = Some(job.into());
        self
    }

    /// With its nodes.
    #[must_use]
    pub fn nodes(mut self, nodes: Vec<String>) -> Self {
        self.nodes = nodes;
        self
    }

    /// With the optimiser steps done.
    #[must_use]
    pub fn step(mut self, step: u64) -> Self {
        self.step = Some(step);
        self
    }

    /// With its cause, a full sentence.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As what counts against no budget, or not.
    #[must_use]
    pub fn excused(mut self, excused: bool) -> Self {
        self.excused = excused;
        self
    }
}
