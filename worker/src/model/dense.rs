//! `y = x W^T + b`, by the fastest of libtorch's ways to the same sums.
//!
//! On a CPU libtorch hands float32 matrix products to MKL, which takes its AVX2 kernels on processors
//! that are not Intel's; its convolutions go to oneDNN, which asks the processor what it can do. A
//! convolution of 1 x 1 over rows of channels is the same product, and about twice as fast there,
//! forward and backward. On Intel's the product is at least as fast, and with several threads far faster
//! in the gradient of the weight.

use std::sync::LazyLock;

use tch::{Device, Kind, Tensor};
use tch_distributed::autocast_kind;

use super::Result;

/// Rows, columns and width from which the convolution wins: below, its set-up costs more than it saves.
const LEAST_ROWS: i64 = 128;
const LEAST_WIDTH: i64 = 256;

/// Whether MKL takes its best kernels here.
static IS_INTEL: LazyLock<bool> = LazyLock::new(|| {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 has this instruction. (Later versions of Rust call it safe.)
        #[allow(unused_unsafe)]
        let id = unsafe { std::arch::x86_64::__cpuid(0) };
        // The name is spread over three registers, in this order.
        let name = [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes);
        name.concat() == b"GenuineIntel"
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
});

/// `[..., K]` by `weight` `[N, K]` and `bias` `[N]`, to `[..., N]`.
///
/// Which way is taken depends on the make of the processor, shapes and types alone, so that a run and its
/// continuation, or a block and its recomputation, take the same. (MKL's own kernels, and so the last bits, are
/// others on each make as well.)
pub(super) fn dense(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if by_convolution(x, weight)? {
        let shape = x.size();
        let (n, k) = weight.size2()?;
        // The rows are pixels of one image in the order of channels-last, which copies nothing.
        let image = x.f_reshape([1, -1, 1, k])?.f_permute([0, 3, 1, 2])?;
        let kernel = weight.f_view([n, k, 1, 1])?;
        let y = image.f_conv2d(&kernel, bias, [1, 1], [0, 0], [1, 1], 1)?;
        let mut shape = shape;
        if let Some(last) = shape.last_mut() {
            *last = n;
        }
        return Ok(y.f_permute([0, 2, 3, 1])?.f_reshape(shape)?);
    }
    Ok(x.f_linear(weight, bias)?)
}

fn by_convolution(x: &Tensor, weight: &Tensor) -> Result<bool> {
    if *IS_INTEL {
        return Ok(false);
    }
    let plain =
        |t: &Tensor| t.device() == Device::Cpu && t.f_kind().is_ok_and(|k| k == Kind::Float);
    if !plain(x) || !plain(weight) || !weight.is_contiguous() {
        return Ok(false);
    }
    let (n, k) = weight.size2()?;
    let rows = x.numel() as i64 / k.max(1);
    let large = rows >= LEAST_ROWS && n >= LEAST_WIDTH && k >= LEAST_WIDTH;
    Ok(large && autocast_kind(Device::Cpu)?.is_none())
}
