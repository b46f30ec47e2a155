//! What a model needs besides its own section of the experiment.

use rocket_common::experiment::Experiment;
use tch::{Device, Kind};

use super::batch_norm::SyncGroup;

/// What a model needs besides its own section of the experiment.
#[derive(Debug, Clone)]
pub struct Options {
    /// Strong views per sample; 0 for base CLIP whatever is said here.
    pub num_augs: usize,
    /// Dropout in the text tower, augmented captions only.
    pub text_dropout_prob: f64,
    /// Stochastic depth in the text tower, augmented captions only.
    pub text_drop_path_prob: f64,
    /// Compute text only up to the longest caption of the batch.
    pub truncate: bool,
    /// Recompute the blocks' activations in backward.
    pub checkpoint_grad: bool,
    /// Segments that each tower is cut into then; one per block if absent.
    pub checkpoint_segments: Option<u64>,
    /// Bytes that the towers' kept activations may take then.
    pub checkpoint_memory: Option<u64>,
    /// Seed of the first values.
    pub seed: u64,
    /// Kind of parameters and activations: `Float`, or `Double` for parity.
    pub kind: Kind,
    /// Where the tensors live.
    pub device: Device,
    /// Ranks over which batch norms are synchronised.
    pub group: SyncGroup,
}

impl Options {
    /// The options of an experiment.
    #[must_use]
    pub fn of(experiment: &Experiment, device: Device, group: SyncGroup) -> Self {
        Self {
            num_augs: experiment.augment.num_augs,
            text_dropout_prob: experiment.text.text_dropout_prob,
            text_drop_path_prob: experiment.text.text_drop_path_prob,
            truncate: experiment.text.truncate,
            checkpoint_grad: experiment.train.checkpoint_grad,
            checkpoint_segments: experiment.train.checkpoint_segments,
            checkpoint_memory: experiment.train.checkpoint_memory.map(|bytes| bytes.0),
            seed: experiment.seed,
            kind: Kind::Float,
            device,
            group,
        }
    }
}

impl Default for Options {
    /// Float32 on the CPU, by itself, on full-length captions and without augmented views.
    fn default() -> Self {
        Self {
            num_augs: 0,
            text_dropout_prob: 0.0,
            text_drop_path_prob: 0.0,
            truncate: false,
            checkpoint_grad: false,
            checkpoint_segments: None,
            checkpoint_memory: None,
            seed: 0,
            kind: Kind::Float,
            device: Device::Cpu,
            group: None,
        }
    }
}
