//! Carrying a plan out: pin, bundle and run directory are written, and the run is handed over.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rocket_common::error::{Error, Result};
use rocket_common::events::{Event, EventKind, EventWriter};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::BackendKind;
use rocket_common::host;
use rocket_common::run_dir::{Bundle, Manifest, RunDir};

use super::plan::{Plan, exists};
use super::user;
use crate::backend::Handover;
use crate::runs::make_root;
use crate::slurm::secrets;
use crate::supervisor::verify;
use crate::{bundle, notify, pin};

impl Plan<'_> {
    /// Writes the pin, the bundle and the run directory, and hands the run over. Gives the run and the
    /// scheduler's job.
    ///
    /// # Errors
    /// Something cannot be written, or the backend refuses; after a refusal nothing is left.
    pub(crate) fn carry_out(&self) -> Result<(RunDir, Option<String>)> {
        let ground = self.ground;
        if self.backend == BackendKind::Slurm {
            // What cannot be said in a script is found before anything is written.
            self.script()?;
        }
        make_root(&ground.root)?;
        let store = ground.root.join(pin::STORE);
        pin::publish(&ground.source, &self.pinned, &self.run_id, &store)?;
        let result = ground
            .bundle(&self.programs, &self.pinned)
            .and_then(|bundle| self.make_run(bundle));
        let run = result.inspect_err(|_| {
            // Not if the directory exists: the ref then is another submit's as well.
            if !self.dir().exists() {
                pin::unpublish(&ground.source, &self.run_id, &store);
            }
        })?;
        let manifest = run.manifest()?;
        self.look_again(&manifest).inspect_err(|_| {
            if std::fs::remove_dir_all(run.path()).is_ok() {
                pin::unpublish(&ground.source, &self.run_id, &store);
            }
        })?;
        let mut events = EventWriter::new(&run, "submit");
        events.append(Event::new(EventKind::Submitted {
            backend: self.backend,
        }))?;
        if let Some(reproduces) = &self.reproduces {
            events.append(Event::new(EventKind::Note).cause(match &reproduces.run {
                Some(run) => format!("this run does {run} once more"),
                None => format!(
                    "this run is of commit {}, which was pinned before",
                    self.pinned.commit
                ),
            }))?;
        }
        secrets::write(&ground.root, &self.run_id, &self.secrets)?;
        notify::write(&ground.root, &self.run_id, &self.hooks)?;
        ground.options.machines.write(&run)?;
        if ground.options.no_start {
            verify(&run, &manifest, &self.experiment)?;
            return Ok((run, None));
        }
        match ground
            .backends
            .of(self.backend)
            .submit(&Handover::new(&run, &manifest, "submitted"))
        {
            Ok(job) => Ok((run, job)),
            Err(error) if self.backend == BackendKind::Slurm && error.kind() == ExitKind::Usage => {
                // Refused: as if it had never been. Nothing has run, and the mended experiment is
                // another run.
                let _ = secrets::remove(&ground.root, &self.run_id);
                notify::remove(&ground.root, &self.run_id);
                if std::fs::remove_dir_all(run.path()).is_ok() {
                    pin::unpublish(&ground.source, &self.run_id, &store);
                }
                Err(error)
            }
            Err(error) => {
                let kind = if self.backend == BackendKind::Slurm {
                    EventKind::SupervisorLost
                } else {
                    EventKind::Failed { exit: error.kind() }
                };
                events.append(Event::new(kind).cause(error.to_string()))?;
                Err(error)
            }
        }
    }

    /// `rocket gc`, which removes programs and refs that no run needs, says so first and looks for runs
    /// after that. This run was shown first, and looks around now: one of the two sees the other.
    fn look_again(&self, manifest: &Manifest) -> Result<()> {
        let ground = self.ground;
        let store = ground.root.join(pin::STORE);
        bundle::outlive(&manifest.bundle)?;
        if !bundle::is_there(&manifest.bundle) {
            let again = ground.bundle_again(&self.programs, &self.pinned)?;
            if again != manifest.bundle {
                return Err(Error::new(
                    ExitKind::Pin,
                    "the programs were removed while the run was submitted, and others are in their place",
                )
                .hint("submit it again"));
            }
        }
        if !pin::is_published(&ground.source, &self.pinned, &self.run_id, &store) {
            pin::publish(&ground.source, &self.pinned, &self.run_id, &store)?;
        }
        Ok(())
    }

    fn make_run(&self, bundle: Bundle) -> Result<RunDir> {
        let ground = self.ground;
        let manifest = Manifest {
            schema: Manifest::SCHEMA,
            run_id: self.run_id.clone(),
            name: self.experiment.name.clone(),
            commit: self.pinned.commit.to_string(),
            parent_commit: self.pinned.parent.to_string(),
            snapshot: ground.options.snapshot,
            experiment_sha256: bundle::sha256_text(&self.yaml),
            recipe_hash: self.experiment.recipe_hash(),
            bundle,
            created: Timestamp::now(),
            user: user(),
            host: host::name(),
            versions: BTreeMap::from([("rocket".into(), env!("CARGO_PKG_VERSION").into())]),
            backend: self.backend,
            experiment_path: ground.experiment_path.clone(),
            repo: ground.source.root().to_path_buf(),
            sweep: self.sweep.clone(),
            reproduces: self.reproduces.clone(),
            imported: None,
            evaluation: None,
        };
        RunDir::create(&ground.root, &manifest, &self.yaml).map_err(|error| {
            if self.dir().exists() {
                exists(&self.run_id, ground.options.again)
            } else {
                error
            }
        })
    }
}
