//! Every run, and what it may still need.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rocket_common::checkpoint;
use rocket_common::error::{Error, Result};
use rocket_common::events::Status;
use rocket_common::experiment::Experiment;
use rocket_common::run_dir::{self, Manifest, RunDir};

use crate::backend::Backends;
use crate::view::RunView;

/// Beginning of the names of folders in which drills have runs of their own.
pub(super) const DRILL: &str = ".drill-";

/// A run that can be judged.
pub(crate) struct Known {
    pub(crate) run: RunDir,
    pub(crate) manifest: Manifest,
    /// Complete: nothing starts it again.
    pub(crate) finished: bool,
    /// Nobody works on it now, for certain.
    pub(crate) idle: bool,
}

/// All runs of a folder.
pub(crate) struct Census {
    pub(crate) runs: Vec<Known>,
    /// Names of everything in the folder of runs, whatever it is.
    pub(crate) names: BTreeSet<String>,
    /// Checkpoints, or files in them, that runs which are not finished start from or evaluate.
    pub(crate) starts: Vec<PathBuf>,
    /// A run's manifest is there and cannot be read: what programs it needs is not known.
    pub(crate) unread: bool,
    /// What is worth saying, one sentence each.
    pub(crate) notes: Vec<String>,
}

impl Census {
    /// Looks at every run, and asks the schedulers about those that are not over.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn take(root: &Path) -> Result<Self> {
        let mut census = Self {
            runs: Vec::new(),
            names: names(root)?,
            starts: Vec::new(),
            unread: false,
            notes: Vec::new(),
        };
        let backends = Backends::default();
        let mut folders = vec![root.to_path_buf()];
        let drills = census.names.iter().filter(|name| name.starts_with(DRILL));
        folders.extend(drills.map(|name| root.join(name)));
        for folder in folders {
            for run in run_dir::list(&folder)? {
                census.add(run, &backends);
            }
        }
        Ok(census)
    }

    fn add(&mut self, run: RunDir, backends: &Backends) {
        let id = run.id();
        let manifest = match run.manifest() {
            Ok(manifest) => manifest,
            Err(_) if is_absent(&run.manifest_path()) => {
                self.notes.push(format!(
                    "run {id} has lost its run.json: nothing of it is touched; remove its folder if it is of no use"
                ));
                return;
            }
            Err(error) => {
                self.unread = true;
                self.notes
                    .push(format!("{error}; so no programs are removed"));
                return;
            }
        };
        let view = RunView::read(&run, backends);
        let (finished, idle) = match &view {
            Ok(view) => {
                let settled = view.status.is_settled() && view.supervisor.is_none();
                // Whether a stopped run is at rest cannot be seen from everywhere.
                let told = view.trouble.is_none() && view.waiting.is_none();
                (view.status == Status::Finished, settled && told)
            }
            Err(error) => {
                self.notes
                    .push(format!("run {id}: {error}; nothing of it is touched"));
                (false, false)
            }
        };
        if let Some(of) = manifest.evaluation.as_ref().filter(|_| !finished) {
            let dir = RunDir::open(&of.run).map(|run| run.checkpoints_dir());
            let path = dir.map(|dir| dir.join(checkpoint::dir_name(of.step)));
            self.starts
                .extend(path.ok().and_then(|path| path.canonicalize().ok()));
        } else if !finished && manifest.imported.is_none() {
            // One that cannot be read cannot be started either.
            if let Ok(experiment) = Experiment::read(&run.experiment_path()) {
                let starts = [experiment.train.resume, experiment.model.init_text_encoder];
                self.starts.extend(
                    starts
                        .into_iter()
                        .flatten()
                        .map(|path| path.canonicalize().unwrap_or(path)),
                );
            }
        }
        self.runs.push(Known {
            run,
            manifest,
            finished,
            idle,
        });
    }

    /// Names of the bundles that runs need; those that only finished runs had do not count if
    /// `finished_too`.
    pub(crate) fn bundles(&self, finished_too: bool) -> BTreeSet<String> {
        let needs = |known: &&Known| !(finished_too && known.finished);
        let name = |known: &Known| {
            let name = known.manifest.bundle.dir.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        self.runs.iter().filter(needs).map(name).collect()
    }
}

fn is_absent(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Names of what is in a folder; none if it is not there.
pub(super) fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let failed = |error| Error::io("read", folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(failed(error)),
    };
    entries
        .map(|entry| {
            Ok(entry
                .map_err(failed)?
                .file_name()
                .to_string_lossy()
                .into_owned())
        })
        .collect()
}
