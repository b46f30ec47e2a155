//! Unreadable samples: named, counted, and too many of them.

use std::collections::HashSet;
use std::path::PathBuf;

use super::sample::{ATTEMPTS, BadSample};

/// Why no batch can be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// An epoch has no step.
    #[error(
        "the data set holds {samples} samples, fewer than the {step} of one step (ranks x batch_size x update_freq); lower train.batch_size"
    )]
    TooSmall {
        /// Samples of the data set.
        samples: u64,
        /// Samples of a step.
        step: u64,
    },
    /// More than `data.max_bad`.
    #[error(
        "{bad} of the {samples} samples are unreadable, more than data.max_bad ({max_bad}) allows; the last ones: {names}"
    )]
    TooManyBad {
        /// Unreadable samples.
        bad: usize,
        /// Samples of the data set.
        samples: u64,
        /// The share allowed.
        max_bad: f64,
        /// Some names.
        names: String,
    },
    /// Nothing readable was found in place of a sample.
    #[error(
        "no readable sample was found in place of '{name}' in {ATTEMPTS} attempts; is data.root the right folder, and does an epoch hold more than one step?"
    )]
    NoReplacement {
        /// The sample.
        name: String,
    },
    /// The system refused a thread.
    #[error("a data thread cannot be started: {cause}; lower data.workers")]
    Thread {
        /// Of the system.
        cause: String,
    },
    /// A file system does not answer.
    #[error(
        "{}: nothing came of it for {seconds} s (data.read_timeout_seconds): its file system does not answer; is the mount alive?", file.display()
    )]
    Stalled {
        /// The file that is being read.
        file: PathBuf,
        /// For how long.
        seconds: u64,
    },
    /// A thread broke its promises.
    #[error("the data loader lost a batch; this is a fault of the program")]
    Internal,
}

/// What is known of unreadable samples. Filled in the order of training, so that it does not
/// depend on threads.
pub(super) struct BadLedger {
    max_bad: f64,
    samples: u64,
    seen: HashSet<u64>,
    epoch: u64,
    this_epoch: HashSet<u64>,
    last: Vec<String>,
}

impl BadLedger {
    pub(super) fn new(max_bad: f64, samples: u64) -> Self {
        Self {
            max_bad,
            samples,
            seen: HashSet::new(),
            epoch: 0,
            this_epoch: HashSet::new(),
            last: Vec::new(),
        }
    }

    pub(super) fn enter_epoch(&mut self, epoch: u64) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.this_epoch.clear();
        }
    }

    /// Logs a sample when it is first met, and judges.
    pub(super) fn add(&mut self, bad: &BadSample) -> Result<(), LoadError> {
        self.this_epoch.insert(bad.sample);
        if self.seen.insert(bad.sample) {
            tracing::warn!(
                "sample '{}' is unreadable and replaced by another: {}",
                bad.name,
                bad.cause
            );
            if self.last.len() == 5 {
                self.last.remove(0);
            }
            self.last.push(bad.name.clone());
        }
        self.judge(self.seen.len())
    }

    pub(super) fn distinct(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn this_epoch(&self) -> usize {
        self.this_epoch.len()
    }

    pub(super) fn judge(&self, bad: usize) -> Result<(), LoadError> {
        if bad as f64 > self.max_bad * self.samples as f64 {
            return Err(LoadError::TooManyBad {
                bad,
                samples: self.samples,
                max_bad: self.max_bad,
                names: self.last.join(", "),
            });
        }
        Ok(())
    }
}
