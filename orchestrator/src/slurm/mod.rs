//! Slurm: submitting, asking, and running ranks by `srun`.

pub mod client;
mod describe;
mod quote;
pub mod script;
pub mod secrets;

pub use client::{Client, Failure, FailureKind};
