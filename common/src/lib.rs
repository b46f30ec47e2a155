//! What `rocket` and `rocket-worker` share: the experiment, the run directory, events, the rank
//! protocol, checkpoint manifests and exit codes. No torch, no async runtime, no network.

pub mod atomic;
pub mod checkpoint;
pub mod error;
pub mod events;
pub mod exit;
pub mod experiment;
pub mod host;
pub mod protocol;
pub mod run_dir;

pub use error::{Error, Result};
