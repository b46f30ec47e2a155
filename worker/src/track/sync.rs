//! Brings trackers what they miss of a run that no longer runs.

use std::fs::File;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use rocket_common::error::Error;
use rocket_common::events::{self, Status};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Track;
use rocket_common::run_dir::RunDir;

use super::follower::Follower;
use super::sink::Ending;
use super::story::Story;

/// What one tracker got.
#[derive(Debug)]
pub struct Synced {
    /// Its name.
    pub name: &'static str,
    /// Records that it did not have, or why it could not get them.
    pub result: Result<u64>,
    /// How to look at it.
    pub place: String,
}

/// Brings each tracker what it misses.
///
/// # Errors
/// When the run still runs, or is none, or has no numbers.
pub fn sync(run: &RunDir, track: &Track) -> Result<Vec<Synced>> {
    let ending = ending_of(run)?;
    let folder = run.path().join("track");
    std::fs::create_dir_all(&folder).map_err(|error| Error::io("create", &folder, error))?;
    let lock = folder.join("sync.lock");
    let file = File::create(&lock).map_err(|error| Error::io("create", &lock, error))?;
    let _lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, _)| {
        Error::new(
            ExitKind::Usage,
            format!(
                "the trackers of run '{}' are being synced already",
                run.id()
            ),
        )
    })?;
    let story = Story::read(run)?;
    let mut all = Vec::new();
    for sink in super::sinks(track, &story) {
        let name = sink.name();
        let mut follower = Follower::new(run, sink).context("the run has no numbers yet")?;
        let result = follower.finish(ending);
        all.push(Synced {
            name,
            result,
            place: follower.sink().place(),
        });
    }
    Ok(all)
}

/// How the run stands; refuses one that still writes to its trackers itself.
fn ending_of(run: &RunDir) -> Result<Ending> {
    let status = events::derive(&events::read(run)?).status;
    let highest = run.highest_attempt()?;
    let dead = match highest.map(|attempt| run.claim_of(attempt)).transpose()? {
        Some(Some(claim)) => claim.is_alive() == Some(false),
        _ => highest.is_none(),
    };
    Ok(match status {
        Status::Finished => Ending::Finished,
        Status::Failed => Ending::Failed,
        Status::Cancelled => Ending::Killed,
        Status::Stopped | Status::Lost => Ending::Paused,
        // Waiting to be started again, or killed before it could say so.
        _ if dead => Ending::Paused,
        Status::Pending | Status::Running | Status::Stopping => {
            return Err(Error::new(
                ExitKind::Usage,
                format!(
                    "run '{}' is {status}: it writes to its trackers itself",
                    run.id()
                ),
            )
            .hint("sync it when it has ended")
            .into());
        }
    })
}
