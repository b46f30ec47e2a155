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
//! | `pickler`, `zip_writer`, `pt_writer` | [`write_pt`]: the same files, written |
//! | `args` | the original's command line, from and to an experiment |
//! | `open_clip` | [`to_open_clip`], [`from_open_clip`]: the names and the configuration that open_clip loads |
//! | `source` | [`Source`]: what `rocket-worker convert` converts |
//! | `training` | [`load_for_training`], [`load_text_encoder`] |

mod archive;
mod args;
mod open_clip;
mod optimizer;
mod pickler;
mod plain;
mod pt;
mod pt_writer;
mod source;
mod storages;
mod training;
mod zip_writer;

use std::path::Path;

use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use tch::Tensor;

pub use args::{args_of, experiment_of, model_name};
pub use open_clip::{CONFIG_FILE, Head, WEIGHTS_FILE, from_open_clip, to_open_clip};
pub use optimizer::{Group, Moments, PtOptimizer};
pub use pt::{PtCheckpoint, read, read_pt};
pub use pt_writer::{Form, write_pt};
pub use source::{Source, write_safetensors};
pub use training::{
    ForTraining, Progress, checkpoint_of, is_run, load_for_training, load_text_encoder,
};

/// Tensors by name, in the order of their file.
pub type Tensors = Vec<(String, Tensor)>;

/// Result with an error for people, of kind [`ExitKind::Checkpoint`] unless said otherwise.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// `'<path>' <what>`.
fn refuse(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(ExitKind::Checkpoint, format!("'{}' {what}", path.display()))
}
