//! This rank's part of an evaluation, and how parts become a whole.

use tch::Tensor;

use super::EvalError;

/// Sums a tensor element-wise over all ranks; every rank gets the sum.
pub type Sum<'a> = dyn Fn(&Tensor) -> Result<Tensor, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// A rank's place among those that evaluate together. Work is cut into units (batches) that do not
/// depend on the number of ranks; rank r takes units r, r + W, r + 2W, ... So every unit is computed
/// exactly once, with the same shape at every W, and the figures are the same at every W.
pub struct Shard<'a> {
    rank: usize,
    world_size: usize,
    sum: Option<&'a Sum<'a>>,
}

impl<'a> Shard<'a> {
    /// One process that does everything.
    #[must_use]
    pub fn alone() -> Self {
        Self {
            rank: 0,
            world_size: 1,
            sum: None,
        }
    }

    /// Rank `rank` of `world_size`, which sum with `sum`.
    ///
    /// # Panics
    /// `rank` is not below `world_size`: a defect of the caller.
    #[must_use]
    pub fn new(rank: usize, world_size: usize, sum: &'a Sum<'a>) -> Self {
        assert!(rank < world_size, "rank {rank} of {world_size}");
        Self {
            rank,
            world_size,
            sum: Some(sum),
        }
    }

    /// Whether this rank speaks for all.
    #[must_use]
    pub fn is_lead(&self) -> bool {
        self.rank == 0
    }

    /// The number of ranks.
    #[must_use]
    pub fn world_size(&self) -> usize {
        self.world_size
    }

    /// The units of this rank out of `units`.
    pub fn units(&self, units: usize) -> impl Iterator<Item = usize> + use<> {
        (self.rank..units).step_by(self.world_size)
    }

    /// Sums over ranks. Where each element is non-zero on one rank only, this joins parts exactly.
    pub(super) fn sum(&self, tensor: Tensor, set: &str) -> Result<Tensor, EvalError> {
        match self.sum {
            None => Ok(tensor),
            Some(sum) => sum(&tensor).map_err(|e| EvalError::Reduce {
                set: set.to_owned(),
                cause: e.to_string(),
            }),
        }
    }
}
