//! Checkpoints as directories of named, versioned sections under a manifest with checksums. What the
//! sections hold is the trainer's business; this module makes sure that a checkpoint is there whole
//! or not at all, that a damaged one is seen, and that the last good one is never thrown away.
//!
//! ```text
//! checkpoints/.tmp-step-00001200-a003-<unique>/   being written
//! checkpoints/step-00001200/manifest.json         written last, renamed into place as a whole
//! checkpoints/step-00001200/<section files>
//! ```

mod digest;
mod draft;
mod manifest;
mod pick;
mod retention;
mod store;

pub use digest::{HashingWriter, sha256_file, sha256_hex};
pub use draft::{Draft, Published, SectionWriter};
pub use manifest::{Info, Manifest, Position, Section};
pub use pick::{Reader, pick};
pub use retention::{BEST_METRIC, Keep, Pruned, choose, excess, prune, remove};
pub use store::{Checkpoint, Damaged, Found, latest_good, list, open, verify};

use std::io;
use std::path::Path;

use crate::error::Error;
use crate::exit::ExitKind;

/// `step-00001200`.
#[must_use]
pub fn dir_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// The step behind a directory's name.
#[must_use]
pub fn step_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("step-")?;
    let step = digits.parse().ok()?;
    (dir_name(step) == name).then_some(step)
}

/// A failure of the file system around checkpoints.
fn failed(action: &str, path: &Path, error: io::Error) -> Error {
    Error::io(action, path, error).with_kind(ExitKind::Checkpoint)
}
