//! Which sample is seen when and where: pure functions of the seed, the epoch and one global
//! position. The order is our own, not the reference's sampler.

use serde::{Deserialize, Serialize};

use crate::random::Permutation;

/// A place in the training data, one for all ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct GlobalPosition {
    /// Pass over the data, from 0.
    pub epoch: u64,
    /// Positions of the epoch's permutation that are behind us, over all ranks.
    pub offset: u64,
}

/// How an epoch is dealt to ranks and micro-batches. An optimiser step takes the next W*B*U
/// positions of the epoch's permutation; what is left at the end of an epoch is dropped. So a sample
/// is seen at most once per epoch, and changing W, B or U with the same product leaves every
/// step's set of samples as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Seed of the experiment.
    pub seed: u64,
    /// Samples of the data set.
    pub samples: u64,
    /// Ranks, W.
    pub world_size: u64,
    /// Samples per rank and micro-batch, B.
    pub batch_size: u64,
    /// Micro-batches per step, U.
    pub update_freq: u64,
}

impl Order {
    /// Samples of an optimiser step over all ranks, W*B*U.
    #[must_use]
    pub fn step_samples(&self) -> u64 {
        self.world_size * self.batch_size * self.update_freq
    }

    /// Optimiser steps of an epoch; 0 if the data set holds less than one step.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        self.samples / self.step_samples().max(1)
    }

    /// Samples at the end of each epoch that fill no step and are not seen in it.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.samples - self.steps_per_epoch() * self.step_samples()
    }

    /// The position of optimiser step `step` (from 0) of a run that began at the beginning.
    #[must_use]
    pub fn at_step(&self, step: u64) -> GlobalPosition {
        let steps = self.steps_per_epoch().max(1);
        GlobalPosition {
            epoch: step / steps,
            offset: (step % steps) * self.step_samples(),
        }
    }

    /// Where the step at `position` really begins: the next epoch if too little of this one is left.
    #[must_use]
    pub fn settle(&self, position: GlobalPosition) -> GlobalPosition {
        if position.offset + self.step_samples() > self.samples {
            GlobalPosition {
                epoch: position.epoch + 1,
                offset: 0,
            }
        } else {
            position
        }
    }

    /// The position `steps` steps after `position`.
    #[must_use]
    pub fn after(&self, position: GlobalPosition, steps: u64) -> GlobalPosition {
        let here = self.settle(position);
        let size = self.step_samples().max(1);
        let left = self.samples.saturating_sub(here.offset) / size;
        if steps < left {
            return GlobalPosition {
                epoch: here.epoch,
                offset: here.offset + steps * size,
            };
        }
        let rest = self.at_step(steps - left);
        GlobalPosition {
            epoch: here.epoch + 1 + rest.epoch,
            offset: rest.offset,
        }
    }

    /// Slots (0..W*B*U) of a step that `rank` takes in `micro_batch`, in order. The ranks' slots of
    /// one micro-batch are consecutive, so that W ranks see what one rank with batch W*B sees.
    #[must_use]
    pub fn slots(&self, rank: u64, micro_batch: u64) -> std::ops::Range<u64> {
        let first = (micro_batch * self.world_size + rank) * self.batch_size;
        first..first + self.batch_size
    }

    /// Samples of `rank` in `micro_batch` of the step at `position`, in order.
    ///
    /// # Panics
    /// If the data set holds less than one step.
    #[must_use]
    pub fn samples_of(&self, position: GlobalPosition, rank: u64, micro_batch: u64) -> Vec<u64> {
        let here = self.settle(position);
        let permutation = Permutation::new(self.seed, here.epoch, self.samples);
        self.slots(rank, micro_batch)
            .map(|slot| permutation.at(here.offset + slot))
            .collect()
    }

    /// Positions that may replace the unreadable sample in `slot` of the step at `position`: outside
    /// of the step, since a duplicate inside a contrastive batch would be a wrong label. Each
    /// (slot, attempt) has a place of its own as long as there are enough, so that two bad samples
    /// of a step are not replaced by the same one. `None` if the step holds the whole data set.
    #[must_use]
    pub fn replacement(&self, position: GlobalPosition, slot: u64, attempt: u64) -> Option<u64> {
        let here = self.settle(position);
        let step = self.step_samples();
        let outside = self.samples.checked_sub(step).filter(|&n| n > 0)?;
        let mut stream = crate::random::Stream::new(
            self.seed,
            here.epoch,
            here.offset,
            crate::random::Purpose::Replacement,
        );
        let place = (stream.below(outside) + slot + attempt * step) % outside;
        let place = if place < here.offset {
            place
        } else {
            place + step
        };
        Some(Permutation::new(self.seed, here.epoch, self.samples).at(place))
    }
}
