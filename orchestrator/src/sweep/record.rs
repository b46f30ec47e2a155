//! `<runs>/sweeps/<id>.json`: what was asked for.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Sweep;
use serde::{Deserialize, Serialize};

use super::FOLDER;
use crate::submit::Ground;

/// A sweep as it was submitted, or last extended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Version of this file's format.
    pub(crate) schema: u32,
    /// The sweep's id: its name.
    pub(crate) id: String,
    /// When it was submitted.
    pub(crate) created: Timestamp,
    /// Who did.
    pub(crate) user: String,
    /// The file, absolute.
    pub(crate) experiment_path: PathBuf,
    /// The user's clone of the code.
    pub(crate) repo: PathBuf,
    /// The commit that it was submitted from.
    pub(crate) parent_commit: String,
    /// The file's text.
    pub(crate) text: String,
    /// Overrides.
    pub(crate) sets: Vec<String>,
    /// How many points may run at once.
    pub(crate) max_running: Option<u32>,
    /// Number of points.
    pub(crate) points: u64,
    /// How they come about: `3 optim.lr x 4 seed`.
    pub(crate) shape: String,
    /// Part of the names of lanes: two sweeps of one name in two folders of runs share none.
    pub(crate) token: String,
}

const SCHEMA: u32 = 1;

impl Record {
    /// Of a sweep that is submitted now.
    pub(crate) fn new(sweep: &Sweep<'_>, text: &str, sets: &[String], ground: &Ground) -> Self {
        Self {
            schema: SCHEMA,
            id: sweep.name().to_owned(),
            created: Timestamp::now(),
            user: crate::submit::user(),
            experiment_path: ground.experiment_path.clone(),
            repo: ground.source.root().to_path_buf(),
            parent_commit: ground.source.head().to_string(),
            text: text.to_owned(),
            sets: sets.to_vec(),
            max_running: sweep.max_running(),
            points: sweep.count(),
            shape: sweep.shape(),
            token: atomic::unique().chars().take(8).collect(),
        }
    }

    pub(crate) fn path(root: &Path, id: &str) -> PathBuf {
        root.join(FOLDER).join(format!("{id}.json"))
    }

    /// Reads one.
    pub(crate) fn read(root: &Path, id: &str) -> Result<Self> {
        let path = Self::path(root, id);
        let record: Self = atomic::read_json(&path)?;
        if record.schema > SCHEMA {
            let message = format!("'{}' was written by a newer rocket", path.display());
            return Err(Error::new(ExitKind::Usage, message));
        }
        Ok(record)
    }

    /// Takes the name; exactly one can.
    ///
    /// # Errors
    /// A sweep has it already.
    pub(crate) fn create(&self, root: &Path) -> Result<()> {
        let path = Self::path(root, &self.id);
        let folder = root.join(FOLDER);
        std::fs::create_dir_all(&folder)
            .map_err(|error| Error::io("make the folder of sweeps", &folder, error))?;
        if atomic::create_json(&path, self)? {
            return Ok(());
        }
        Err(taken(&Self::read(root, &self.id)?))
    }

    /// Writes what an extension has changed.
    pub(crate) fn update(&self, root: &Path) -> Result<()> {
        atomic::write_json(&Self::path(root, &self.id), self)
    }

    /// Takes a sweep back of which no point was submitted.
    pub(crate) fn remove(&self, root: &Path) {
        let _ = std::fs::remove_file(Self::path(root, &self.id));
    }

    /// The lane of a point: the name of its jobs on Slurm.
    pub(crate) fn lane(&self, point: u64) -> Option<String> {
        let lanes = u64::from(self.max_running?);
        Some(format!("{}-lane{}-{}", self.id, point % lanes, self.token))
    }
}

/// Two sweeps cannot have one name.
pub(crate) fn taken(there: &Record) -> Error {
    let Record { id, points, .. } = there;
    let message = format!(
        "there is a sweep '{id}' already: {points} points ({}) from '{}'",
        there.shape,
        there.experiment_path.display()
    );
    Error::new(ExitKind::Usage, message)
        .hint(format!(
            "'rocket sweep extend {id} FILE' submits the points that it does not have yet, 'rocket sweep resume {id}' goes on with it"
        ))
        .hint("or give this one a name of its own with 'name' in 'sweep'")
}
