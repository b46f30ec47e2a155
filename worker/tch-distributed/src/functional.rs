//! Collectives that gradients flow through, with the gradients of `torch.distributed.nn.functional`.
//!
//! The backward pass holds collectives of its own: where one rank runs backward through such a tensor,
//! all must, in the same order.

use std::ffi::{c_int, c_void};

use tch::Tensor;

use crate::error::Result;
use crate::process_group::ProcessGroup;
use crate::tensor::{Ptr, one_tensor, ptr};

unsafe extern "C" {
    fn tchd_functional_all_reduce(
        group: *mut c_void,
        t: Ptr,
        timeout_ms: i64,
        out: *mut Ptr,
    ) -> c_int;
    fn tchd_functional_all_gather(
        group: *mut c_void,
        t: Ptr,
        timeout_ms: i64,
        out: *mut Ptr,
    ) -> c_int;
}

/// The sum of `t` (any shape) over ranks, as a new tensor. The gradient of `t` is the sum over ranks of
/// the gradients of the result.
///
/// # Errors
/// [`Timeout`](crate::Error::Timeout), [`Distributed`](crate::Error::Distributed).
pub fn all_reduce(group: &ProcessGroup, t: &Tensor) -> Result<Tensor> {
    let (g, ms) = (group.raw(), group.timeout_ms());
    // SAFETY: the group is live and `t` is valid during the call.
    one_tensor(|out| unsafe { tchd_functional_all_reduce(g, ptr(t), ms, out) })
}

/// `t` of every rank (`[...]`) as one tensor `[W, ...]`. The gradient of `t` is the sum over ranks of the
/// gradients of this rank's slice.
///
/// # Errors
/// [`Timeout`](crate::Error::Timeout), [`Distributed`](crate::Error::Distributed).
pub fn all_gather(group: &ProcessGroup, t: &Tensor) -> Result<Tensor> {
    let (g, ms) = (group.raw(), group.timeout_ms());
    // SAFETY: the group is live and `t` is valid during the call.
    one_tensor(|out| unsafe { tchd_functional_all_gather(g, ptr(t), ms, out) })
}
