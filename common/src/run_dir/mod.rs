//! The run directory: the one truth about a run, on the shared file system.
//!
//! ```text
//! <runs>/<run-id>/
//!   run.json                 what was submitted                                  [Manifest]
//!   experiment.yaml          resolved
//!   events/<writer>.jsonl    append-only, one file per writer                    [crate::events]
//!   submissions/000.json     each hand-over to the scheduler: meant, then done       [Intent], [JobRecord]
//!   attempts/000.claim       who owns attempt 0; exactly one can make it         [Claim]
//!   attempts/000/            control, rendezvous, supervisor log, ranks/         [Attempt]
//!   checkpoints/step-00001200/                                                   [crate::checkpoint]
//!   metrics.jsonl  eval/  DONE
//!   tb/  wandb/  track/      what trackers hold of metrics.jsonl, and how far they are
//! ```

mod attempt;
mod manifest;
mod registry;
mod submission;

pub use attempt::{Attempt, Claim};
pub use manifest::{
    Bundle, Evaluation, Imported, Machine, Manifest, ProgramsFrom, Reproduces, SweepPoint,
};
pub use registry::{find, is_run_id, list, name_of_run_id, run_id, suggest};
pub use submission::{Intent, JobRecord};

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::atomic;
use crate::error::{Error, Result};
use crate::exit::ExitKind;

/// The directory of one run. A handle: nothing is read before it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes the directory of a new run, whole or not at all, with `run.json` and `experiment.yaml`.
    ///
    /// # Errors
    /// The run exists already (kind [`ExitKind::Usage`]), or the file system refuses.
    pub fn create(root: &Path, manifest: &Manifest, experiment_yaml: &str) -> Result<Self> {
        fs::create_dir_all(root).map_err(|error| Error::io("create", root, error))?;
        let path = root.join(&manifest.run_id);
        let aside = root.join(format!(".new-{}-{}", manifest.run_id, atomic::unique()));
        let result = (|| {
            for part in ["events", "attempts", "checkpoints", "eval"] {
                let part = aside.join(part);
                fs::create_dir_all(&part).map_err(|error| Error::io("create", &part, error))?;
            }
            atomic::write_json(&aside.join("run.json"), manifest)?;
            atomic::write(&aside.join("experiment.yaml"), experiment_yaml.as_bytes())?;
            // Renaming onto a directory that is not empty fails: only one of two submits can win.
            fs::rename(&aside, &path).map_err(|error| match error.kind() {
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => Error::new(
                    ExitKind::Usage,
                    format!(
                        "run '{}' exists already in '{}'",
                        manifest.run_id,
                        root.display()
                    ),
                ),
                _ => Error::io("create", &path, error),
            })?;
            atomic::sync_dir(root)
        })();
        if let Err(error) = result {
            let _ = fs::remove_dir_all(&aside);
            return Err(error);
        }
        Ok(Self { path })
    }

    /// Opens the directory of an existing run.
    ///
    /// # Errors
    /// It is not there, or holds no `run.json`.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let this = Self { path: path.into() };
        if this.manifest_path().is_file() {
            return Ok(this);
        }
        let path = this.path.display();
        let message = if this.path.is_dir() {
            format!("'{path}' is not a run directory: it holds no run.json")
        } else {
            format!("there is no run directory '{path}'")
        };
        Err(Error::new(ExitKind::Usage, message))
    }

    /// Wraps a path without looking at it.
    pub(crate) fn unchecked(path: PathBuf) -> Self {
        Self { path }
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run id: the directory's name.
    #[must_use]
    pub fn id(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// `run.json`.
    #[must_use]
    pub fn manifest_path(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// `experiment.yaml`, the resolved experiment.
    #[must_use]
    pub fn experiment_path(&self) -> PathBuf {
        self.path.join("experiment.yaml")
    }

    /// `job.sbatch`, what the scheduler was given.
    #[must_use]
    pub fn job_script_path(&self) -> PathBuf {
        self.path.join("job.sbatch")
    }

    /// `events/`.
    #[must_use]
    pub fn events_dir(&self) -> PathBuf {
        self.path.join("events")
    }

    /// `attempts/`.
    #[must_use]
    pub fn attempts_dir(&self) -> PathBuf {
        self.path.join("attempts")
    }

    /// `submissions/`.
    #[must_use]
    pub fn submissions_dir(&self) -> PathBuf {
        self.path.join("submissions")
    }

    /// `checkpoints/`.
    #[must_use]
    pub fn checkpoints_dir(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// `eval/`.
    #[must_use]
    pub fn eval_dir(&self) -> PathBuf {
        self.path.join("eval")
    }

    /// `metrics.jsonl`.
    #[must_use]
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// `DONE`, there once the run is complete: a start after it is a no-op.
    #[must_use]
    pub fn done_path(&self) -> PathBuf {
        self.path.join("DONE")
    }

    /// Whether the run is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done_path().exists()
    }

    /// Marks the run complete.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn mark_done(&self) -> Result<()> {
        atomic::write(&self.done_path(), b"")
    }

    /// Reads `run.json`.
    ///
    /// # Errors
    /// It is missing, not a manifest, or of a newer schema.
    pub fn manifest(&self) -> Result<Manifest> {
        Manifest::read(&self.manifest_path())
    }
}
