//! How far a tracker has got, kept over attempts: `track/<name>.json` in the run directory.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rocket_common::atomic;
use rocket_common::error::Error;

use super::sink::Saved;

/// The file of one tracker.
#[derive(Debug)]
pub(super) struct CursorFile {
    path: PathBuf,
}

impl CursorFile {
    pub(super) fn new(run: &Path, name: &str) -> Self {
        Self {
            path: run.join("track").join(format!("{name}.json")),
        }
    }

    /// What was kept. A file that cannot be understood is as good as none: the tracker begins anew.
    pub(super) fn read(&self) -> Option<Saved> {
        atomic::read_json_opt(&self.path).ok().flatten()
    }

    pub(super) fn write(&self, saved: &Saved) -> Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
        }
        Ok(atomic::write_json(&self.path, saved)?)
    }
}
