//! A run directory for tests, without a repository behind it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rocket_common::checkpoint::Info;
use rocket_common::experiment::{self, BackendKind, Experiment};
use rocket_common::run_dir::{Bundle, Manifest, RunDir};
use rocket_worker::checkpoint::{self, Snapshot, TrainState};
use rocket_worker::model::{Model, Options};
use tch::{Device, Tensor};

/// A model that is small, and a set `tiny` to score it on.
pub(crate) const TINY: &str = "
name: tiny
model:
  base: CL2L
  child: CL2L
  vision: {arch: vit, width: 16, depth: 1, heads: 2, patch: 16, image_size: 32}
  embed_dim: 8
  transformer_width: 16
  transformer_layers: 1
  transformer_heads: 2
eval:
  datasets: [tiny]
  batch_size: 3
data: {root: /nowhere, metadata: /nowhere/x.npy}
cluster: {nodes: 1, gpus_per_node: 1}
";

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

/// An experiment, with its defaults filled as a run has it.
pub(crate) fn experiment(yaml: &str) -> Experiment {
    let read = experiment::parse("exp.yaml", yaml, &[]).expect("an experiment");
    Experiment::from_resolved(&read.to_yaml()).expect("an experiment")
}

/// The model of an experiment, with the weights that a seed gives.
pub(crate) fn model(experiment: &Experiment, seed: u64) -> Model {
    let options = Options {
        seed,
        ..Options::of(experiment, Device::Cpu, None)
    };
    Model::new(&experiment.model, &options).expect("a model")
}

/// Leaves a checkpoint with the weights of a model.
pub(crate) fn save(run: &RunDir, model: &Model, step: u64, metrics: &[(&str, f64)]) {
    let entries = model.registry().entries().iter();
    let values: Vec<(String, Tensor)> = entries
        .map(|entry| (entry.name.clone(), entry.tensor.shallow_clone()))
        .collect();
    let state = TrainState {
        step,
        ..TrainState::default()
    };
    let snapshot = Snapshot {
        momentum: None,
        model: &values,
        optim: &[],
        state: &state,
    };
    let metrics = metrics
        .iter()
        .map(|(name, score)| ((*name).to_owned(), *score));
    let info = Info {
        step,
        metrics: metrics.collect(),
        ..Info::default()
    };
    checkpoint::save(run, 0, &snapshot, info).expect("saved");
}
