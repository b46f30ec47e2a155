//! Turns of a sweep's points where nobody schedules: without a daemon, by locks that the kernel takes
//! back when their holder dies.
//!
//! ```text
//! <runs>/sweeps/<id>/slot-0 ... slot-<max_running - 1>   each held by the supervisor of one running point
//! <runs>/sweeps/<id>/waiting/<point>-<run>               held by the supervisor of a point that waits
//! <run>/turn.json                                        who waits for the run's turn
//! ```
//!
//! A supervisor that waits tries the slots while nobody of a lower point waits. The locks are `flock`s;
//! between machines they hold as far as the file system carries them (NFS does since Linux 2.6.12).

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use rocket_common::run_dir::{Claim, RunDir, SweepPoint};

use super::{FOLDER, Record};

/// The turn of a run, while it is waited for.
#[derive(Debug)]
pub(crate) struct Turn {
    root: PathBuf,
    folder: PathBuf,
    point: SweepPoint,
    /// Its place in the queue.
    ticket: Option<(File, PathBuf)>,
}

/// A turn that has come. It ends when this is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct Running {
    _slot: File,
}

impl Turn {
    /// Begins to wait. `None` where the run's sweep limits nothing.
    ///
    /// # Errors
    /// The folder of the sweep cannot be written.
    pub(crate) fn wait(run: &RunDir, sweep: Option<&SweepPoint>) -> Result<Option<Self>> {
        let Some(point) = sweep.filter(|sweep| sweep.lane.is_some()) else {
            return Ok(None);
        };
        let root = run.path().parent().unwrap_or(Path::new("/")).to_path_buf();
        let folder = root.join(FOLDER).join(&point.id);
        let waiting = folder.join("waiting");
        fs::create_dir_all(&waiting)
            .map_err(|error| Error::io("make the folder of the sweep", &waiting, error))?;
        let path = waiting.join(format!("{:09}-{}", point.point, run.id()));
        let file = open(&path)?;
        // Others hold it for a moment, to see whether it is held.
        let held = (0..40).any(|_| {
            let held = file.try_lock().is_ok();
            if !held {
                std::thread::sleep(Duration::from_millis(5));
            }
            held
        });
        let ticket = held.then_some((file, path));
        atomic::write_json_unsynced(&claim_path(run), &Claim::of_this_process(None))?;
        Ok(Some(Self {
            root,
            folder,
            point: point.clone(),
            ticket,
        }))
    }

    /// Tries whether the turn has come.
    ///
    /// # Errors
    /// The locks cannot be used.
    pub(crate) fn try_now(&mut self) -> Result<Option<Running>> {
        if self.somebody_is_before()? {
            return Ok(None);
        }
        for slot in self.slots() {
            let file = open(&slot)?;
            match file.try_lock() {
                Ok(()) => {
                    self.leave();
                    return Ok(Some(Running { _slot: file }));
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(Error::io("lock", &slot, error));
                }
            }
        }
        Ok(None)
    }

    /// Gives the place in the queue up.
    fn leave(&mut self) {
        if let Some((ticket, path)) = self.ticket.take() {
            let _ = fs::remove_file(path);
            drop(ticket);
        }
    }

    /// One for each point that may run; read anew, since an extension may have raised their number.
    fn slots(&self) -> Vec<PathBuf> {
        let most = Record::read(&self.root, &self.point.id).ok();
        match most.and_then(|record| record.max_running) {
            Some(most) => (0..most)
                .map(|slot| self.folder.join(format!("slot-{slot}")))
                .collect(),
            // What the sweep was is not known any more; its lane is.
            None => {
                let lane = self.point.lane.as_deref().unwrap_or("lane");
                vec![self.folder.join(lane)]
            }
        }
    }

    fn somebody_is_before(&self) -> Result<bool> {
        let Some((_, own)) = &self.ticket else {
            return Ok(false);
        };
        let waiting = self.folder.join("waiting");
        let entries = fs::read_dir(&waiting).map_err(|error| Error::io("read", &waiting, error))?;
        let mut before: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path < own)
            .collect();
        before.sort();
        for path in before {
            let Ok(file) = File::open(&path) else {
                continue;
            };
            match file.try_lock_shared() {
                Err(TryLockError::WouldBlock) => return Ok(true),
                // Its holder is gone: it may be waited for again under the same name, so the file stays
                // until that one removes it; a run that is over leaves none that is held.
                _ => continue,
            }
        }
        Ok(false)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Whether somebody waits for a run's turn; `None` if that cannot be seen from this machine.
pub(crate) fn is_waiting(run: &RunDir) -> Option<bool> {
    match atomic::read_json_opt::<Claim>(&claim_path(run)) {
        Ok(Some(claim)) => claim.is_alive(),
        _ => Some(false),
    }
}

/// What a run waits for, in words.
pub(crate) fn words(sweep: &str) -> String {
    format!("waits for its turn: as many points of the sweep {sweep} run as may at once")
}

fn claim_path(run: &RunDir) -> PathBuf {
    run.path().join("turn.json")
}

fn open(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(path)
        .map_err(|error| Error::io("open", path, error))
}
