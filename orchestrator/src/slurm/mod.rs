//! Slurm: submitting, asking, and running ranks by `srun`.

pub mod client;
pub mod reason;

pub use client::{Client, Failure, FailureKind};
