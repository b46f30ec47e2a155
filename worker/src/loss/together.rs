//! Several ranks in one process, a thread each: for comparing losses without a network.

use std::sync::{Arc, Barrier, Mutex, PoisonError};

use tch::{TchError, Tensor};

use super::ranks::Ranks;

/// What the ranks share: a place for what each brings to a collective.
#[derive(Debug)]
struct Table {
    places: Mutex<Vec<Option<Tensor>>>,
    barrier: Barrier,
}

/// One of several ranks of this process. All join one graph: gradients that a collective lets through flow
/// into the other ranks' tensors, so that backward from the sum of the ranks' losses gives every rank what
/// collectives in backward would. A collective waits until every rank has come to it.
#[derive(Debug, Clone)]
pub struct Together {
    rank: usize,
    size: usize,
    table: Arc<Table>,
}

impl Together {
    /// `size` ranks, one for each thread.
    #[must_use]
    pub fn new(size: usize) -> Vec<Self> {
        let table = Arc::new(Table {
            places: Mutex::new((0..size).map(|_| None).collect()),
            barrier: Barrier::new(size),
        });
        (0..size)
            .map(|rank| Self {
                rank,
                size,
                table: Arc::clone(&table),
            })
            .collect()
    }

    /// What every rank has brought, in the order of ranks.
    fn exchange(&self, tensor: &Tensor, grad: bool) -> Result<Vec<Tensor>, TchError> {
        let mine = if grad {
            tensor.shallow_clone()
        } else {
            tensor.f_detach()?
        };
        let places = || {
            self.table
                .places
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        places()[self.rank] = Some(mine);
        self.table.barrier.wait();
        let all = places()
            .iter()
            .flatten()
            .map(Tensor::shallow_clone)
            .collect();
        // Nobody brings the next before all have taken this.
        self.table.barrier.wait();
        Ok(all)
    }
}

impl Ranks for Together {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather(&self, tensor: &Tensor, grad: bool) -> Result<Tensor, TchError> {
        Tensor::f_stack(&self.exchange(tensor, grad)?, 0)
    }

    fn sum(&self, tensor: &Tensor, grad: bool) -> Result<Tensor, TchError> {
        let all = self.exchange(tensor, grad)?;
        let sum = Tensor::f_stack(&all, 0)?.f_sum_dim_intlist([0i64].as_slice(), false, None)?;
        if grad {
            return Ok(sum);
        }
        // This rank's own part, with the difference to the sum as a constant.
        tensor.f_add(&sum.f_sub(&tensor.f_detach()?)?)
    }
}
