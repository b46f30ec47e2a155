//! What a fetch came to.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::journal::Journal;
use super::metadata::{failed_path, npy_path};
use super::pairs::PairsOptions;
use crate::progress::{bytes, duration, grouped};

/// How a list stands, over all runs into its folder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairsReport {
    /// `cc3m` or `cc12m`.
    pub set: &'static str,
    /// Rows of the list.
    pub rows: u64,
    /// Images that are there.
    pub kept: u64,
    /// Bytes of them.
    pub kept_bytes: u64,
    /// Rows without an image, by cause, most first.
    pub failed: Vec<CauseCount>,
    /// Rows that were not asked for yet.
    pub open: u64,
    /// Whether this run was asked to stop.
    pub stopped: bool,
    /// Bytes of bodies that this run received and kept images of.
    pub received_bytes: u64,
    /// How long this run took.
    pub seconds: f64,
    /// Folder of the images.
    pub images: PathBuf,
    /// The metadata to train with.
    pub metadata: PathBuf,
    /// Rows without an image: number, address, cause.
    pub failures: PathBuf,
}

/// How many rows failed for a cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CauseCount {
    /// Its name, as in the journal.
    pub cause: String,
    /// For people.
    pub words: String,
    /// Whether another try may help.
    pub may_pass: bool,
    /// Rows.
    pub rows: u64,
}

impl PairsReport {
    pub(super) fn new(
        options: &PairsOptions,
        journal: &Journal,
        received: u64,
        elapsed: Duration,
        stopped: bool,
    ) -> Self {
        let tally = journal.tally();
        let mut failed: Vec<CauseCount> = tally
            .failed
            .iter()
            .map(|&(cause, rows)| CauseCount {
                cause: cause.to_string(),
                words: cause.words(),
                may_pass: cause.may_pass(),
                rows,
            })
            .collect();
        failed.sort_by(|a, b| b.rows.cmp(&a.rows).then(a.cause.cmp(&b.cause)));
        let absolute =
            std::path::absolute(&options.folder).unwrap_or_else(|_| options.folder.clone());
        Self {
            set: options.pairs.name(),
            rows: tally.open + tally.kept + failed.iter().map(|count| count.rows).sum::<u64>(),
            kept: tally.kept,
            kept_bytes: journal.kept_bytes,
            failed,
            open: tally.open,
            stopped,
            received_bytes: received,
            seconds: elapsed.as_secs_f64(),
            images: absolute.join("images"),
            metadata: npy_path(&absolute, options.pairs),
            failures: failed_path(&absolute),
        }
    }

    /// Rows without an image.
    #[must_use]
    pub fn failed_rows(&self) -> u64 {
        self.failed.iter().map(|count| count.rows).sum()
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let share = 100.0 * self.kept as f64 / self.rows.max(1) as f64;
        let open = match self.open {
            0 => String::new(),
            open => format!(", {} not asked for yet", grouped(open)),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}: {} of {} images are there ({share:.1} %, {}), {} failed{open}; {}",
            self.set,
            grouped(self.kept),
            grouped(self.rows),
            bytes(self.kept_bytes as f64),
            grouped(self.failed_rows()),
            duration(self.seconds),
        );
        let width = self.failed.iter().map(|count| grouped(count.rows).len());
        let width = width.max().unwrap_or(0);
        for count in &self.failed {
            let again = if count.may_pass {
                ", may pass with --retry-failed"
            } else {
                ""
            };
            let rows = grouped(count.rows);
            let _ = writeln!(text, "  {rows:>width$}  {}{again}", count.words);
        }
        if !self.failed.is_empty() {
            let _ = writeln!(text, "failures: {}", self.failures.display());
        }
        if self.kept > 0 {
            let _ = writeln!(
                text,
                "to train on it: data: {{dataset: {}, root: {}, metadata: {}}}",
                self.set,
                self.images.display(),
                self.metadata.display()
            );
        }
        text
    }
}
