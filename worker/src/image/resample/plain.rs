//! The passes for any processor; what the others must equal bit for bit.

use super::{Kernel, PRECISION, Picture, to_pixel};

/// Rows of `out` from `first_row` on: row y from the pixels at `y * stride` bytes.
pub(super) fn horizontal(
    pixels: &[u8],
    stride: usize,
    kernel: &Kernel,
    out: &mut Picture,
    first_row: usize,
) {
    let width = out.width * 3;
    for (y, out_row) in out.data.chunks_exact_mut(width).enumerate().skip(first_row) {
        let row = &pixels[y * stride..];
        for (x, pixel) in out_row.chunks_exact_mut(3).enumerate() {
            let (first, weights) = kernel.at(x);
            let mut sums = [1i32 << (PRECISION - 1); 3];
            for (&weight, source) in weights.iter().zip(row[first * 3..].chunks_exact(3)) {
                for channel in 0..3 {
                    sums[channel] += i32::from(source[channel]) * weight;
                }
            }
            for channel in 0..3 {
                pixel[channel] = to_pixel(sums[channel]);
            }
        }
    }
}

/// All rows of `out`, from rows of the same width.
pub(super) fn vertical(pixels: &[u8], kernel: &Kernel, out: &mut Picture) {
    let stride = out.width * 3;
    let mut sums = vec![0i32; stride];
    for (y, out_row) in out.data.chunks_exact_mut(stride).enumerate() {
        let (first, weights) = kernel.at(y);
        sums.fill(1 << (PRECISION - 1));
        let rows = pixels[first * stride..].chunks_exact(stride);
        for (&weight, row) in weights.iter().zip(rows) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        for (pixel, &sum) in out_row.iter_mut().zip(&sums) {
            *pixel = to_pixel(sum);
        }
    }
}
