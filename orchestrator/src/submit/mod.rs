//! Submitting: from an experiment to a pinned run that is handed over.
//!
//! What many runs of one place share (the repository, its changes, the programs and their bundle) is
//! found once, in a [`Ground`]; each run is a [`Plan`] on it.

mod carry;
mod ground;
mod plan;
mod program;

use std::path::Path;

use rocket_common::error::Result;
use rocket_common::run_dir::RunDir;

use crate::commands::machines;
use crate::experiment;
use crate::runs::Runs;

pub(crate) use ground::{Ground, Programs};
pub(crate) use plan::Plan;

/// How runs are submitted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Take the changes of the work tree into the pinned commit.
    pub(crate) snapshot: bool,
    /// Start the same experiment at the same commit once more.
    pub(crate) again: bool,
    /// Build the programs from the pinned commit.
    pub(crate) build: bool,
    /// Nothing will be carried out.
    pub(crate) dry_run: bool,
    /// Leave it to another launcher to start the ranks.
    pub(crate) no_start: bool,
    /// Several machines without a scheduler.
    pub(crate) machines: machines::Args,
}

/// A run that was handed over.
#[derive(Debug)]
#[allow(dead_code, reason = "for callers that submit several runs")]
pub(crate) struct Submitted {
    /// Its directory.
    pub(crate) run: RunDir,
    /// The scheduler's job.
    pub(crate) job: Option<String>,
    /// What is worth saying, one sentence each.
    pub(crate) notes: Vec<String>,
}

/// Submits one experiment, with the checks, the pin and the bundle of `rocket submit`.
///
/// `path` is the file that it comes from, which need not be committed; `text` its YAML where that is
/// derived from the file and not the file's own; `sets` are overrides, `key=value`. For several runs
/// of one place, make a [`Ground`] once and use [`Ground::plan`].
///
/// # Errors
/// The experiment is wrong, the repository has changes, or the backend refuses.
#[allow(dead_code, reason = "for commands that derive experiments")]
pub(crate) fn one(
    path: &Path,
    text: Option<&str>,
    sets: &[String],
    options: &Options,
    runs: &Runs,
) -> Result<Submitted> {
    let (experiment, profile) = match text {
        Some(text) => experiment::resolve(path, text, sets)?,
        None => experiment::load(path, sets)?,
    };
    let ground = Ground::new(path, options, runs)?;
    let plan = ground.plan(experiment, profile, None)?;
    let (run, job) = plan.carry_out()?;
    let notes = ground.notes.iter().chain(&plan.notes).cloned().collect();
    Ok(Submitted { run, job, notes })
}

/// This process's user.
pub(crate) fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map_or_else(|| nix::unistd::getuid().to_string(), |user| user.name)
}
