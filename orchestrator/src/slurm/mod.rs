//! Slurm: submitting, asking, and running ranks by `srun`. What Slurm does is Slurm's; what is here
//! talks to it through its own programs and never keeps a state of its own beside the run directory.

pub mod allocation;
mod backend;
pub mod client;
mod describe;
pub mod job;
pub(crate) mod preflight;
pub mod queue;
mod quote;
pub(crate) mod rank;
pub mod reason;
pub mod script;
pub mod secrets;
mod step;
pub(crate) mod submission;

pub use backend::Slurm;
pub use client::{Client, Failure, FailureKind};
