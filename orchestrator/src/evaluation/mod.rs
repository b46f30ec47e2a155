//! Evaluating a run after its training: a run of its own that scores a checkpoint of the other by that
//! run's commit and programs. It is supervised, queued again, looked at and cancelled as every run is,
//! and its results go to the other run's `eval/`.

mod after;
mod plan;
mod results;

pub(crate) use after::submit_after;
pub(crate) use plan::{Plan, Request};
pub(crate) use results::{OfStep, Results};

use std::path::Path;

use git2::{Oid, Repository};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use rocket_common::run_dir::{Manifest, RunDir};
use serde_json::Value;

use crate::pin;
use crate::supervisor::{pin_dir, pin_store};

/// What a checkpoint's result on a set is called in `eval/`.
pub(crate) fn result_file(dataset: &str, step: u64) -> String {
    format!("{dataset}-step-{step}.json")
}

/// Names of the sets in the run's catalog, in its order.
///
/// # Errors
/// Kind [`ExitKind::Experiment`]: the catalog is not there, or is not one.
pub(crate) fn catalog_sets(
    run: &RunDir,
    manifest: &Manifest,
    experiment: &Experiment,
) -> Result<Vec<String>> {
    let path = &experiment.eval.catalog;
    let wrong = |what: String| {
        Error::new(
            ExitKind::Experiment,
            format!("the catalog '{}' (eval.catalog) {what}", path.display()),
        )
        .hint("another one is taken with --set eval.catalog=/absolute/path")
    };
    let text = read_pinned(run, manifest, path).map_err(|error| wrong(error.to_string()))?;
    let text = std::str::from_utf8(&text).map_err(|_| wrong("is not UTF-8".into()))?;
    let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| wrong(format!("is not JSON: {error}")))?;
    let Value::Object(entries) = value else {
        return Err(wrong("is not an object with one entry per data set".into()));
    };
    // The trainer reads it thoroughly.
    Ok(entries.into_iter().map(|(name, _)| name).collect())
}

/// A file of the pinned tree, or any other by its absolute path.
fn read_pinned(run: &RunDir, manifest: &Manifest, path: &Path) -> Result<Vec<u8>> {
    if path.is_absolute() {
        return std::fs::read(path).map_err(|error| Error::io("read", path, error));
    }
    // As an attempt wrote it out.
    let exported = pin_dir(run).join(path);
    if let Ok(bytes) = std::fs::read(&exported) {
        return Ok(bytes);
    }
    let store = pin_store(run);
    let doing = format!("read '{}' from '{}'", path.display(), store.display());
    let read = || -> std::result::Result<Vec<u8>, git2::Error> {
        let repo = Repository::open_bare(&store)?;
        let tree = repo.find_commit(Oid::from_str(&manifest.commit)?)?.tree()?;
        let blob = tree.get_path(path)?.id();
        Ok(repo.find_blob(blob)?.content().to_vec())
    };
    read().map_err(|error| pin::git_error(&doing, &error).with_kind(ExitKind::Pin))
}
