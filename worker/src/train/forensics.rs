//! What is kept of a step whose loss or gradient is not finite, so that it can be run again alone.

use std::path::{Path, PathBuf};

use rocket_common::atomic;
use rocket_common::error::Result;
use serde::{Deserialize, Serialize};

/// One rank's record of a step that was not finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

impl Forensics {
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
