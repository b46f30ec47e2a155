//! What people ask of a running supervisor, as files in the run directory: they reach it on any host.
//!
//! ```text
//! <run>/CANCEL                       end the run; no supervisor starts ranks while it is there
//! <run>/attempts/<n>/request.json    stop this attempt, and go on in a next one
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use rocket_common::protocol::{Control, StopReason};
use rocket_common::run_dir::{Attempt, RunDir};
use serde::{Deserialize, Serialize};

/// `CANCEL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Kill the ranks instead of letting them save.
    pub now: bool,
}

/// Asks for the end of the run.
///
/// # Errors
/// The file system refuses.
pub fn cancel(run: &RunDir, cancel: Cancel) -> Result<()> {
    atomic::write_json(&cancel_path(run), &cancel)
}

/// Whether the end of the run was asked for.
#[must_use]
pub fn cancelled(run: &RunDir) -> Option<Cancel> {
    match atomic::read_json_opt(&cancel_path(run)) {
        Ok(cancel) => cancel,
        // Somebody made it by hand, say with `touch`: meant all the same.
        Err(_) if cancel_path(run).exists() => Some(Cancel { now: false }),
        Err(_) => None,
    }
}

/// Takes the request back, for a run that is to go on.
///
/// # Errors
/// The file system refuses.
pub fn uncancel(run: &RunDir) -> Result<()> {
    let path = cancel_path(run);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", &path, error)),
        _ => Ok(()),
    }
}

/// Asks for a graceful stop of one attempt.
///
/// # Errors
/// The file system refuses.
pub fn stop(attempt: &Attempt, reason: StopReason) -> Result<()> {
    atomic::write_json(&stop_path(attempt), &Control { stop: Some(reason) })
}

/// Whether a graceful stop of the attempt was asked for.
#[must_use]
pub fn stop_asked(attempt: &Attempt) -> Option<StopReason> {
    atomic::read_json_opt::<Control>(&stop_path(attempt))
        .ok()??
        .stop
}

fn cancel_path(run: &RunDir) -> PathBuf {
    run.path().join("CANCEL")
}

fn stop_path(attempt: &Attempt) -> PathBuf {
    attempt.dir().join("request.json")
}
