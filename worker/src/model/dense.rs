//! `y = x W^T + b`, by the fastest of libtorch's ways to the same sums.
//!
//! On a CPU libtorch hands float32 matrix products to MKL, which takes its AVX2 kernels on processors
//! that are not Intel's; its convolutions go to oneDNN, which asks the processor what it can do. A
//! convolution of 1 x 1 over rows of channels is the same product, and about twice as fast there,
//! forward and backward. On Intel's the product is at least as fast, and with several threads far faster
//! in the gradient of the weight.

use std::sync::LazyLock;

use tch::{Device, Kind, Tensor};
use tch_distributed::unread::Product;
use tch_distributed::{autocast_kind, unread_linear};

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
        return by_convolving(x, weight, bias);
    }
    Ok(x.f_linear(weight, bias)?)
}

fn by_convolving(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
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
    Ok(y.f_permute([0, 2, 3, 1])?.f_reshape(shape)?)
}

/// A tensor of the shape and with the gradient of [`dense`], to the bit, whose values are left out where that
/// can be.
pub(super) fn dense_unread(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let Some(bias) = bias.filter(|_| x.is_contiguous()) else {
        return dense(x, weight, bias);
    };
    if by_convolution(x, weight)? {
        return Ok(unread_linear(x, weight, bias, Product::Convolution)?);
    }
    match autocast_kind(x.device())? {
        // As autocast casts what it gives to a product.
        Some(kind) if x.f_kind()? != Kind::Double => {
            let [x, weight, bias] = [x, weight, bias].map(|t| t.f_to_kind(kind));
            Ok(unread_linear(&x?, &weight?, &bias?, Product::Matrix)?)
        }
        _ => Ok(unread_linear(x, weight, bias, Product::Matrix)?),
    }
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

#[cfg(test)]
mod tests {
    use tch_distributed::autocast;

    use super::*;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn leaf(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, CPU).set_requires_grad(true)
    }

    /// Gradients of `[x, weight, bias]` for the output's gradient `dy`.
    fn gradients(leaves: &[Tensor; 3], dy: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> Vec<Tensor> {
        // Hidden values come out of another layer, as in a block.
        let y = f(&leaves[0].relu());
        assert_eq!(y.size(), dy.size());
        assert_eq!(y.kind(), dy.kind());
        Tensor::run_backward(&[(y * dy).sum(Kind::Float)], leaves, false, false)
    }

    #[test]
    fn what_nobody_reads_has_the_same_gradient_to_the_bit() {
        let _turn = crate::model::tests::turn();
        for shape in [&[4, 197, 768][..], &[36, 13, 512], &[5, 320], &[130, 3, 7]] {
            let (&width, rows) = shape.split_last().unwrap();
            let leaves = [leaf(shape), leaf(&[256, width]), leaf(&[256])];
            let dy = Tensor::randn([rows, &[256]].concat(), CPU);
            let [_, weight, bias] = &leaves;
            let all = |dy: &Tensor| {
                let read = gradients(&leaves, dy, |x| dense(x, weight, Some(bias)).unwrap());
                let unread = |x: &Tensor| dense_unread(x, weight, Some(bias)).unwrap();
                assert_eq!(read, gradients(&leaves, dy, unread), "{shape:?}");
                let values = tch::no_grad(|| unread(&leaves[0]));
                assert_eq!(values.abs().max().double_value(&[]), 0.0);
            };
            all(&dy);
            autocast(Device::Cpu, Kind::BFloat16, || {
                all(&dy.to_kind(Kind::BFloat16))
            })
            .unwrap();
        }
    }

    #[test]
    fn and_so_where_products_are_convolutions() {
        let _turn = crate::model::tests::turn();
        let leaves = [leaf(&[3, 50, 256]), leaf(&[320, 256]), leaf(&[320])];
        let [_, weight, bias] = &leaves;
        let dy = Tensor::randn([3, 50, 320], CPU);
        let read = gradients(&leaves, &dy, |x| {
            by_convolving(x, weight, Some(bias)).unwrap()
        });
        let unread = gradients(&leaves, &dy, |x| {
            unread_linear(x, weight, bias, Product::Convolution).unwrap()
        });
        assert_eq!(read, unread);
    }
}
