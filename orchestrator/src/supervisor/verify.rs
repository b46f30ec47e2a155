//! Before every attempt: is what would run what was submitted?

use std::path::PathBuf;

use git2::{Oid, Repository};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use rocket_common::run_dir::{Manifest, RunDir};

use crate::bundle;
use crate::pin::{self, Export};

/// Folder of the pinned tree's files within the run directory.
#[must_use]
pub fn pin_dir(run: &RunDir) -> PathBuf {
    run.path().join("pin")
}

/// The bare repository of pins that belongs to a run.
#[must_use]
pub fn pin_store(run: &RunDir) -> PathBuf {
    run.path().parent().unwrap_or(run.path()).join(pin::STORE)
}

/// Checks the resolved experiment, the pinned commit and the bundle, and writes the pinned tree's
/// files out anew.
///
/// # Errors
/// Kind [`ExitKind::Pin`] if one of them is not what was submitted, in words.
pub fn verify(run: &RunDir, manifest: &Manifest, experiment: &Experiment) -> Result<()> {
    let path = run.experiment_path();
    if bundle::sha256(&path)? != manifest.experiment_sha256 {
        return Err(Error::new(
            ExitKind::Pin,
            format!(
                "the experiment of the run changed after submit: '{}'",
                path.display()
            ),
        )
        .hint("change your own file and submit that: a run keeps the experiment it began with"));
    }
    let store = pin_store(run);
    let commit = find_commit(run, manifest)?;
    export(&store, commit, experiment, run)?;
    bundle::verify(&manifest.bundle)
}

fn find_commit(run: &RunDir, manifest: &Manifest) -> Result<Oid> {
    let store = pin_store(run);
    let gone = |what: &str| {
        Error::new(
            ExitKind::Pin,
            format!(
                "the run's pinned commit {} is not in '{}': {what}",
                manifest.commit,
                store.display()
            ),
        )
        .hint(format!(
            "push it there again from a clone that has it: git push {} {}",
            store.display(),
            pin::ref_name(&manifest.run_id)
        ))
    };
    let commit = Oid::from_str(&manifest.commit).map_err(|error| gone(error.message()))?;
    let repo = Repository::open_bare(&store).map_err(|error| gone(error.message()))?;
    repo.find_commit(commit)
        .map_err(|error| gone(error.message()))?;
    Ok(commit)
}

/// Labels, prompts and catalog for the trainer; the whole tree for any other program.
fn export(
    store: &std::path::Path,
    commit: Oid,
    experiment: &Experiment,
    run: &RunDir,
) -> Result<()> {
    let what = if experiment.command.is_some() {
        Export::All
    } else {
        let eval = &experiment.eval;
        let files = [&eval.catalog, &eval.labels, &eval.templates];
        Export::Paths(
            files
                .into_iter()
                .filter(|path| path.is_relative())
                .cloned()
                .collect(),
        )
    };
    pin::export(store, commit, &what, &pin_dir(run))
}
