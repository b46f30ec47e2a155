//! The trainer: one process per rank. Rooms depend one way:
//! `train -> {model, loss, optim, data, checkpoint, eval, track} -> rocket_common`.

pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod data;
pub mod eval;
pub mod exchange;
pub mod failure;
pub mod image;
pub mod loss;
pub mod model;
pub mod optim;
pub mod parity;
pub mod progress;
pub mod random;
pub mod rank;
pub mod text;
pub mod track;
pub mod train;
pub(crate) mod values;

/// The libtorch that this build is for; its build script refuses any other.
pub const TORCH_VERSION: &str = "2.13.0";

/// Which sources this binary was built from. The text lies in the binary as it is, so that `rocket`
/// reads it there without running, or linking, any of this.
#[used]
static BUILD_IDENTITY: &str = include_str!(concat!(env!("OUT_DIR"), "/build_identity.json"));
