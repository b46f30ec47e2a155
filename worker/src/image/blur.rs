//! Gaussian blur as Pillow's `ImageFilter.GaussianBlur`: three box blurs of a fractional radius
//! per axis (Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box
//! filtering", SSVM 2011), in 24-bit fixed point, 8 bits between the passes.

use super::Picture;

const PASSES: usize = 3;

/// Blurs with standard deviation `sigma` in pixels.
pub fn gaussian_blur(picture: &mut Picture, sigma: f64) {
    let radius = box_radius(sigma as f32);
    if picture.data.is_empty() || radius == 0.0 {
        return;
    }
    let (width, height) = (picture.width, picture.height);
    let weights = Window::new(radius);
    let mut turned = vec![0; picture.data.len()];
    rows(&mut picture.data, width, &weights);
    transpose(&picture.data, &mut turned, width, height);
    rows(&mut turned, height, &weights);
    transpose(&turned, &mut picture.data, height, width);
}

/// Radius of the boxes whose repetition has the variance of the Gaussian.
fn box_radius(sigma: f32) -> f32 {
    let variance = sigma * sigma / PASSES as f32;
    // The ideal length of the box, of which the whole part is taken, and the rest as edge weight.
    let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
    let whole = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
    let mut edge = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance);
    edge /= 6.0 * (variance - (whole + 1.0) * (whole + 1.0));
    whole + edge
}

/// A box with fractional edges in 24-bit fixed point.
struct Window {
    radius: usize,
    inner: u32,
    edge: u32,
}

impl Window {
    fn new(radius: f32) -> Self {
        let whole = radius as usize;
        let inner = ((1u32 << 24) as f32 / (radius * 2.0 + 1.0)) as u32;
        let edge = ((1u32 << 24) - (whole as u32 * 2 + 1) * inner) / 2;
        Self {
            radius: whole,
            inner,
            edge,
        }
    }
}

fn rows(data: &mut [u8], width: usize, weights: &Window) {
    let mut other = vec![0; width * 3];
    for row in data.chunks_exact_mut(width * 3) {
        for _ in 0..PASSES {
            line(row, &mut other, width, weights);
            row.copy_from_slice(&other);
        }
    }
}

/// One pass over one line; beyond its ends lie copies of the end pixels.
fn line(input: &[u8], output: &mut [u8], width: usize, weights: &Window) {
    let radius = weights.radius;
    let last = width - 1;
    let pixel = |x: usize| -> [u32; 3] { std::array::from_fn(|c| u32::from(input[x * 3 + c])) };
    // The sum of the box around the place before the first.
    let mut sums = [0u32; 3];
    for offset in 0..=2 * radius {
        let x = offset.saturating_sub(radius + 1).min(last);
        for (sum, value) in sums.iter_mut().zip(pixel(x)) {
            *sum += value;
        }
    }
    for x in 0..width {
        let left = pixel(x.saturating_sub(radius + 1));
        let entering = pixel((x + radius).min(last));
        let right = pixel((x + radius + 1).min(last));
        for c in 0..3 {
            sums[c] = sums[c] + entering[c] - left[c];
            let bulk = sums[c] * weights.inner + (left[c] + right[c]) * weights.edge;
            output[x * 3 + c] = ((bulk + (1 << 23)) >> 24) as u8;
        }
    }
}

/// `[height, width, 3]` to `[width, height, 3]`.
fn transpose(input: &[u8], output: &mut [u8], width: usize, height: usize) {
    for y in 0..height {
        for x in 0..width {
            let from = (y * width + x) * 3;
            let to = (x * height + y) * 3;
            output[to..to + 3].copy_from_slice(&input[from..from + 3]);
        }
    }
}
