//! `rocket`: runs vision-language pre-training experiments, pinned to a git commit, until they are done.

pub mod backend;
pub mod bundle;
pub mod pin;
pub mod requests;
pub mod supervisor;
