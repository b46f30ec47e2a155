//! Who else computes: what a loss needs of the other ranks.

use tch::{TchError, Tensor};

/// The ranks of a run, as a loss sees them. Every rank calls the same methods in the same order.
pub trait Ranks: std::fmt::Debug {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// How many there are, W.
    fn size(&self) -> usize;

    /// `[...]` of every rank as `[W, ...]`. With `grad`, gradient flows back to the rank that a block came
    /// from; without, to nobody, this rank's own block included.
    ///
    /// # Errors
    /// If a peer is lost or torch fails.
    fn gather(&self, tensor: &Tensor, grad: bool) -> Result<Tensor, TchError>;

    /// Sum over ranks of a tensor of one shape. With `grad` the gradient is that of the sum over all ranks;
    /// without, the sum is taken in place of the values and the gradient is that of this rank's own part.
    ///
    /// # Errors
    /// If a peer is lost or torch fails.
    fn sum(&self, tensor: &Tensor, grad: bool) -> Result<Tensor, TchError>;
}

/// One rank alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn gather(&self, tensor: &Tensor, _: bool) -> Result<Tensor, TchError> {
        tensor.f_unsqueeze(0)
    }

    fn sum(&self, tensor: &Tensor, _: bool) -> Result<Tensor, TchError> {
        Ok(tensor.shallow_clone())
    }
}
