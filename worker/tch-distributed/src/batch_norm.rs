//! Batch normalisation over the batches of all ranks (Ioffe and Szegedy 2015, with the statistics of the
//! joined batch).

use std::ffi::{c_int, c_void};

use tch::Tensor;

use crate::checkpoint::is_recomputing;
use crate::error::{Error, Result};
use crate::process_group::ProcessGroup;
use crate::tensor::{Ptr, one_tensor, ptr, ptr_or_null};

unsafe extern "C" {
    fn tchd_sync_batch_norm(
        group: *mut c_void,
        timeout_ms: i64,
        x: Ptr,
        weight: Ptr,
        bias: Ptr,
        running_mean: Ptr,
        running_var: Ptr,
        momentum: f64,
        eps: f64,
        out: *mut Ptr,
    ) -> c_int;
}

/// Normalises `x` (`[N, C, ...]`) per channel, as `torch.nn.functional.batch_norm` does; in training with
/// the mean and variance of the batches of all ranks of `group` together. Ranks may hold different `N`.
///
/// `weight`, `bias`, `running_mean` and `running_var` are `[C]`. In training the running values move by
/// `momentum` towards the batch's mean and unbiased variance; counting `num_batches_tracked` is the
/// caller's. They are left alone while a [`checkpoint`](crate::checkpoint()) segment is run again, so
/// that each forward pass counts once.
///
/// Gradients of `weight` and `bias` are those of this rank's batch, as from any layer: the reducer
/// averages them. The backward pass holds a collective, see [`functional`](crate::functional).
/// Without a group, or with one rank, this is torch's own `batch_norm`.
///
/// On CUDA the work is that of libtorch's fused kernels, elsewhere that of its ordinary ones with the joint
/// moments. The memory format of `x` (contiguous or channels last) is kept.
///
/// # Errors
/// [`Torch`](crate::Error::Torch) for wrong shapes; [`TooFewValues`](Error::TooFewValues) or
/// [`Torch`](crate::Error::Torch) for fewer than two values per channel in training;
/// [`Timeout`](crate::Error::Timeout), [`Distributed`](crate::Error::Distributed).
#[allow(clippy::too_many_arguments)] // torch's own argument list
pub fn sync_batch_norm(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    running_mean: Option<&Tensor>,
    running_var: Option<&Tensor>,
    momentum: f64,
    eps: f64,
    training: bool,
    group: Option<&ProcessGroup>,
) -> Result<Tensor> {
    let (running_mean, running_var) = if training && is_recomputing() {
        (None, None)
    } else {
        (running_mean, running_var)
    };
    match group {
        Some(group) if training && group.world_size() > 1 => over_ranks(
            x,
            weight,
            bias,
            running_mean,
            running_var,
            momentum,
            eps,
            group,
        ),
        _ if training && x.dim() >= 2 && x.numel() as i64 <= x.size()[1] => {
            Err(Error::TooFewValues(format!(
                "batch normalisation in training needs more than one value per channel, not a batch of \
             shape {:?}: take a larger batch",
                x.size()
            )))
        }
        _ => Ok(x.f_batch_norm(
            weight,
            bias,
            running_mean,
            running_var,
            training,
            momentum,
            eps,
            false,
        )?),
    }
}

/// What [`sync_batch_norm`] does in training with more than one rank; here with any number, also while a
/// checkpointed segment is run again.
///
/// # Errors
/// As [`sync_batch_norm`].
#[allow(clippy::too_many_arguments)] // torch's own argument list
pub fn over_ranks(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    running_mean: Option<&Tensor>,
    running_var: Option<&Tensor>,
    momentum: f64,
    eps: f64,
    group: &ProcessGroup,
) -> Result<Tensor> {
    // SAFETY: the group is live and all tensors are valid during the call.
    one_tensor(|out| unsafe {
        tchd_sync_batch_norm(
            group.raw(),
            group.timeout_ms(),
            ptr(x),
            ptr_or_null(weight),
            ptr_or_null(bias),
            ptr_or_null(running_mean),
            ptr_or_null(running_var),
            momentum,
            eps,
            out,
        )
    })
}
