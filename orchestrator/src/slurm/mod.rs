//! Slurm: submitting, asking, and running ranks by `srun`.

pub mod client;

pub use client::{Client, Failure, FailureKind};
