//! `rocket doctor`: what a cluster will do to a run, read from the cluster itself, and what the
//! machines really do with the files that a run rests on.
//!
//! Reading is pure functions of what Slurm's programs print; judging is pure functions of what was
//! read or probed.

pub mod cluster;
pub mod config;
pub mod contract;
mod finding;
pub mod job;
mod judge;
pub mod local;
pub mod partition;
pub mod probe;
pub mod qos;
mod report;

pub use finding::{Finding, Level, duration};
pub use judge::{Between, judge};
pub(crate) use local::own_file_system;
pub use report::Examination;

/// Name of the user who runs this.
fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map_or_else(|| nix::unistd::getuid().to_string(), |user| user.name)
}

#[cfg(test)]
mod tests;
