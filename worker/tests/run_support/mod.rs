//! A run directory for tests, without a repository behind it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rocket_common::experiment::{BackendKind, Experiment};
use rocket_common::run_dir::{Bundle, Manifest, RunDir};

/// Creates the directory of a run named `tiny` in a folder.
pub(crate) fn create(root: &Path, experiment: &Experiment) -> RunDir {
    let manifest = Manifest {
        schema: Manifest::SCHEMA,
        run_id: "tiny-01234567".to_owned(),
        name: "tiny".to_owned(),
        commit: "0123456789".repeat(4),
        parent_commit: "f".repeat(40),
        snapshot: false,
        experiment_sha256: String::new(),
        recipe_hash: String::new(),
        bundle: Bundle::default(),
        created: "2026-01-02T03:04:05Z".parse().expect("a time"),
        user: String::new(),
        host: String::new(),
        versions: BTreeMap::new(),
        backend: BackendKind::Local,
        experiment_path: PathBuf::new(),
        repo: PathBuf::new(),
        sweep: None,
        reproduces: None,
        imported: None,
        evaluation: None,
    };
    RunDir::create(root, &manifest, &experiment.to_yaml()).expect("a run")
}
