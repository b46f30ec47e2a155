//! Where numbers go while a run trains. `metrics.jsonl` is always written, by the training itself; the
//! trackers that `track` chooses follow it, each in a thread of its own, from where each stands.

mod cursor;
mod event_file;
mod follower;
mod metrics_file;
pub mod mlflow;
mod records;
mod sink;
mod story;
pub mod sync;
mod tensorboard;
mod trackers;
pub mod wandb;

pub use event_file::{EventFile, masked_crc};
pub use follower::Follower;
pub use metrics_file::MetricsFile;
pub use mlflow::MlflowRun;
pub use records::{Chunk, Position, Reader, Record};
pub use sink::{Ending, Saved, Sink, Start};
pub use story::Story;
pub use tensorboard::TensorBoard;
pub use trackers::Trackers;
pub use wandb::WandbRun;

use anyhow::Result;
use rocket_common::experiment::Track;
use serde_json::{Map, Value};

/// What a tracker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// One optimiser step.
    Train,
    /// One evaluation.
    Eval,
}

impl RecordKind {
    /// Its name in `metrics.jsonl`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Eval => "eval",
        }
    }
}

/// Takes the numbers of a run, on the lead rank.
pub trait Tracker {
    /// Takes one record. `values` are scalars by name, in the order they are to be shown.
    ///
    /// # Errors
    /// When the record could not be stored; training goes on or not as the caller decides.
    fn record(&mut self, kind: RecordKind, step: u64, values: &Map<String, Value>) -> Result<()>;

    /// Makes everything recorded so far durable.
    ///
    /// # Errors
    /// When it cannot be.
    fn flush(&mut self) -> Result<()>;
}

/// The trackers that an experiment chooses.
#[must_use]
pub fn sinks(track: &Track, story: &Story) -> Vec<Box<dyn Sink>> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    if track.tensorboard {
        sinks.push(Box::new(TensorBoard::new(story)));
    }
    if let Some(wandb) = &track.wandb {
        sinks.push(Box::new(WandbRun::new(story, wandb)));
    }
    if let Some(mlflow) = &track.mlflow {
        sinks.push(Box::new(MlflowRun::new(story, mlflow)));
    }
    sinks
}
