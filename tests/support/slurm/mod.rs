//! A real Slurm for tests: a cluster of the test's own, an ordinary user on it, and a project of theirs.

mod cluster;
mod site;
mod user;

pub use cluster::{Cluster, Job};
pub use site::{Run, Site};
pub use user::User;
