//! What several test files need.
#![allow(dead_code, unreachable_pub)]

use std::path::Path;

use rocket_common::experiment::BackendKind;
use rocket_common::run_dir::{Bundle, Manifest, RunDir, run_id};

/// Commit of the runs that tests make.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A manifest like that of a submission.
pub fn manifest(name: &str, commit: &str) -> Manifest {
    Manifest {
        schema: Manifest::SCHEMA,
        run_id: run_id(name, commit, None),
        name: name.into(),
        commit: commit.into(),
        parent_commit: "f".repeat(40),
        snapshot: false,
        experiment_sha256: "e".repeat(64),
        recipe_hash: "1-abcdef".into(),
        bundle: Bundle::default(),
        created: "2026-01-02T03:04:05Z".parse().unwrap(),
        user: "ada".into(),
        host: "login1".into(),
        versions: [("rocket".to_owned(), "0.1.0".to_owned())].into(),
        backend: BackendKind::Local,
        experiment_path: "/home/ada/exp.yaml".into(),
        repo: "/home/ada/code".into(),
        sweep: None,
        reproduces: None,
        imported: None,
        evaluation: None,
    }
}

/// A new run under a root.
pub fn run(root: &Path, name: &str) -> RunDir {
    RunDir::create(root, &manifest(name, COMMIT), "name: demo\n").unwrap()
}
