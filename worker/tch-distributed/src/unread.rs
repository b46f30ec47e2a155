//! Layers whose outputs nobody reads.
//!
//! When a [`checkpoint`](crate::checkpoint()) segment is run again, its outputs are known already: only
//! what its inner layers keep for their backward passes is wanted. A linear layer keeps its input, so one
//! that ends a segment need not be computed ([`output_is_unread`](crate::output_is_unread) says when).
//! In a transformer block that is a third of the products.

use std::ffi::c_int;

use tch::Tensor;

use crate::error::Result;
use crate::tensor::{Ptr, one_tensor, ptr};

unsafe extern "C" {
    fn tchd_unread_linear(
        x: Ptr,
        weight: Ptr,
        bias: Ptr,
        convolution: bool,
        out: *mut Ptr,
    ) -> c_int;
}

/// The product whose gradient is wanted: they differ in the last bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// `torch.nn.functional.linear`.
    Matrix,
    /// `conv2d` with a kernel of 1 x 1 over the rows of `x` in the order of channels-last.
    Convolution,
}

/// Zeros `[..., N]` with the gradient that `x W^T + b` has, to the bit; `x` `[..., K]` contiguous, `weight`
/// `[N, K]`, `bias` `[N]`. Their types are one: autocast does not reach in here.
///
/// # Errors
/// [`Torch`](crate::Error::Torch) for shapes that do not fit.
pub fn unread_linear(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    product: Product,
) -> Result<Tensor> {
    let convolution = product == Product::Convolution;
    // SAFETY: the tensors are valid during the call.
    one_tensor(|out| unsafe {
        tchd_unread_linear(ptr(x), ptr(weight), ptr(bias), convolution, out)
    })
}
