//! What the trackers have in common.

use std::time::Duration;

use anyhow::Result;
use rocket_common::exit::ExitKind;
use rocket_common::protocol::{EndRecord, Outcome, StopReason};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::records::{Position, Record};
use crate::failure;

/// What a tracker keeps over attempts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// It has every record before this place.
    #[serde(flatten)]
    pub position: Position,
    /// What else it wants to know again.
    #[serde(default)]
    pub state: Value,
}

/// What a tracker is opened with.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// What it kept, if it was opened before.
    pub saved: Option<Saved>,
    /// When the first record was recorded, in seconds since 1970, if there is one.
    pub first_time: Option<f64>,
    /// Step of the last record there is: an attempt that goes on from a checkpoint has dropped later
    /// ones, of which the tracker may have some.
    pub last_step: u64,
}

/// How training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The run is complete.
    Finished,
    /// It stopped as agreed, and will be started again.
    Paused,
    /// It was cancelled.
    Killed,
    /// It failed, for a cause that no new start takes away.
    Failed,
    /// It failed, and may well be started again.
    Lost,
}

impl Ending {
    /// The ending of a rank.
    #[must_use]
    pub fn of(result: &Result<EndRecord>) -> Self {
        match result {
            Ok(record) => match (record.outcome, record.stop) {
                (Outcome::Finished, _) => Self::Finished,
                (_, Some(StopReason::Cancelled)) => Self::Killed,
                _ => Self::Paused,
            },
            Err(error) => match failure::kind_of(error) {
                ExitKind::Internal | ExitKind::Distributed | ExitKind::Fenced => Self::Lost,
                _ => Self::Failed,
            },
        }
    }

    /// How long a tracker may take to get what is left before the rank leaves without it. A scheduler
    /// that wants its nodes back gives little time, and peers of a lost rank are to be started again.
    #[must_use]
    pub const fn patience(self) -> Duration {
        match self {
            Self::Finished | Self::Killed | Self::Failed => Duration::from_secs(10),
            Self::Paused => Duration::from_secs(3),
            Self::Lost => Duration::from_secs(1),
        }
    }

    /// The exit code that it is shown as, if nothing more is to come.
    #[must_use]
    pub const fn exit_code(self) -> Option<i32> {
        match self {
            Self::Finished => Some(0),
            Self::Killed => Some(130),
            Self::Failed => Some(1),
            Self::Paused | Self::Lost => None,
        }
    }
}

/// Somewhere that records go. Whatever fails, the caller opens it again after a while: from then on it
/// must have every record once, whether or not it had taken those of the call that failed.
pub trait Sink: Send {
    /// Its name, as people know it.
    fn name(&self) -> &'static str;

    /// Name of its file in `track/`.
    fn file(&self) -> &'static str;

    /// Makes it ready, and says from where it wants records.
    ///
    /// # Errors
    /// When it cannot be reached or written.
    fn open(&mut self, start: &Start) -> Result<Position>;

    /// Takes records, in their order.
    ///
    /// # Errors
    /// When they cannot be taken: some of them may have been.
    fn write(&mut self, records: &[Record]) -> Result<()>;

    /// Makes what it took durable, and says what to keep.
    ///
    /// # Errors
    /// When it cannot be made so.
    fn commit(&mut self) -> Result<Saved>;

    /// Longest time between two commits.
    fn commit_spacing(&self) -> Duration;

    /// Hears that no record follows for now.
    ///
    /// # Errors
    /// When that cannot be told.
    fn end(&mut self, ending: Ending) -> Result<()>;

    /// How to look at it, for people.
    fn place(&self) -> String;
}
