//! What is kept of a step whose loss or gradient is not finite, so that it can be run again alone.

use std::path::{Path, PathBuf};

use rocket_common::atomic;
use rocket_common::error::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::model::Registry;

/// One rank's record of a step that was not finite.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Forensics {
    /// Number of the step that was being made, from 1. No step was taken: the weights are those of
    /// the step before.
    pub step: u64,
    /// Global rank.
    pub rank: u32,
    /// Number of ranks.
    pub world_size: u32,
    /// Seed of the experiment: with step, micro-batch and rank it gives torch's generator, with
    /// epoch and sample it gives the views.
    pub seed: u64,
    /// Epoch of the data.
    pub epoch: u64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Indices of the samples in the data set, by micro-batch.
    pub samples: Vec<Vec<u64>>,
    /// Loss terms of this rank, by micro-batch. JSON has no NaN: they are text.
    pub terms: Vec<Vec<(String, String)>>,
    /// Parameters whose gradient is not finite after the ranks' gradients were averaged.
    pub gradients_not_finite: Vec<String>,
    /// Parameters whose value is not finite.
    pub parameters_not_finite: Vec<String>,
    /// Largest gradient norms, by parameter.
    pub largest_gradient_norms: Vec<(String, String)>,
}

/// Gradient norms that are kept.
const LARGEST: usize = 20;

impl Forensics {
    /// The part about parameters and their gradients; the rest is empty.
    #[must_use]
    pub fn of_tensors(registry: &Registry) -> Self {
        let mut record = Self::default();
        let mut norms = Vec::new();
        for entry in registry.trainable() {
            if !is_finite(&entry.tensor) {
                record.parameters_not_finite.push(entry.name.clone());
            }
            let grad = entry.tensor.grad();
            if !grad.defined() {
                continue;
            }
            if !is_finite(&grad) {
                record.gradients_not_finite.push(entry.name.clone());
            }
            norms.push((entry.name.clone(), norm(&grad)));
        }
        norms.sort_by(|a, b| b.1.total_cmp(&a.1));
        record.largest_gradient_norms = norms
            .into_iter()
            .take(LARGEST)
            .map(|(name, norm)| (name, norm.to_string()))
            .collect();
        record
    }

    /// Writes the record to `<run>/forensics/step-<step>-rank-<rank>.json`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, run_dir: &Path) -> Result<PathBuf> {
        let dir = run_dir.join("forensics");
        std::fs::create_dir_all(&dir)
            .map_err(|error| rocket_common::error::Error::io("create", &dir, error))?;
        let path = dir.join(format!("step-{:08}-rank-{}.json", self.step, self.rank));
        atomic::write_json(&path, self)?;
        Ok(path)
    }
}

fn norm(tensor: &Tensor) -> f64 {
    f64::try_from(tensor.detach().to_kind(Kind::Double).norm()).unwrap_or(f64::NAN)
}

fn is_finite(tensor: &Tensor) -> bool {
    norm(tensor).is_finite()
}
