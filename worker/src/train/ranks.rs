//! The other ranks, as losses see them, over a process group.

use tch::{TchError, Tensor};
use tch_distributed::{Error, ProcessGroup, ReduceOp, functional};

use crate::loss::Ranks;

/// The ranks of a process group. Errors keep their kind: [`tch_distributed::Error::from`] finds it.
#[derive(Debug)]
pub struct GroupRanks<'a>(pub &'a ProcessGroup);

/// The text begins with the error's kind.
fn said(error: Error) -> TchError {
    TchError::Torch(error.to_string())
}

impl Ranks for GroupRanks<'_> {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn size(&self) -> usize {
        self.0.world_size()
    }

    fn gather(&self, tensor: &Tensor, grad: bool) -> Result<Tensor, TchError> {
        if grad {
            functional::all_gather(self.0, tensor).map_err(said)
        } else {
            self.0.all_gather(&tensor.f_detach()?).map_err(said)
        }
    }

    fn sum(&self, tensor: &Tensor, grad: bool) -> Result<Tensor, TchError> {
        if grad {
            return functional::all_reduce(self.0, tensor).map_err(said);
        }
        // A copy by an operation that keeps no values for backward: these may be replaced.
        let sum = tensor.f_add_scalar(0.0)?;
        self.0
            .all_reduce(&sum.f_detach()?, ReduceOp::Sum)
            .map_err(said)?;
        Ok(sum)
    }
}
