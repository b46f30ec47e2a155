//! Where numbers go while a run trains. `metrics.jsonl` is always written; further trackers join
//! behind the same trait.

mod metrics_file;

pub use metrics_file::MetricsFile;

use anyhow::Result;
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
