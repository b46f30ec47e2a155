//! Checkpoints of other programs: the files of torch.save that the original (CLIP-rocket) reads and
//! writes, safetensors under its names, and what open_clip loads. No Python, and no code of a file is run.
//!
//! | file | what |
//! |---|---|
//! | `archive` | the zip file of torch.save, and its records |
//! | `storages` | records as tensors: views, shared storages, types |
//! | `plain` | values that are no tensors, as JSON |
//! | `pt` | [`read_pt`]: the original's checkpoint, or a bare state dict |
//! | `optimizer` | torch's AdamW state between numbers and names |
//! | `training` | [`load_for_training`], [`load_text_encoder`] |

mod archive;
mod optimizer;
mod plain;
mod pt;
mod storages;
mod training;

use std::path::Path;

use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use tch::Tensor;

pub use optimizer::{Group, Moments, PtOptimizer};
pub use pt::{PtCheckpoint, Scaler, read, read_pt};
pub use training::{ForTraining, Progress, load_for_training, load_text_encoder};

/// Tensors by name, in the order of their file.
pub type Tensors = Vec<(String, Tensor)>;

/// Result with an error for people, of kind [`ExitKind::Checkpoint`] unless said otherwise.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// `'<path>' <what>`.
fn refuse(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(ExitKind::Checkpoint, format!("'{}' {what}", path.display()))
}
