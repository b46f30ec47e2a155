//! Gaussian blur as Pillow's `ImageFilter.GaussianBlur`: three box blurs of a fractional radius
//! per axis (Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box
//! filtering", SSVM 2011), in 24-bit fixed point, 8 bits between the passes.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(test)]
mod tests;

use super::Planes;
use super::wide::vectorised;

const PASSES: usize = 3;

/// Blurs with standard deviation `sigma` in pixels.
pub fn gaussian_blur(planes: &mut Planes, sigma: f64) {
    let radius = box_radius(sigma as f32);
    let (width, height) = (planes.width, planes.height);
    if planes.data.is_empty() || radius == 0.0 {
        return;
    }
    let weights = Window::new(radius);
    let mut padded = vec![0; width + 2 * weights.reach()];
    for row in planes.data.chunks_exact_mut(width) {
        for _ in 0..PASSES {
            along_row(row, &mut padded, &weights);
        }
    }
    let mut other = vec![0; width * height];
    for plane in planes.channels_mut() {
        let (mut from, mut to) = (&mut *plane, &mut other[..]);
        for _ in 0..PASSES {
            across_rows(from, to, width, &weights);
            (from, to) = (to, from);
        }
        // After an odd number of passes the result lies in the other memory.
        to.copy_from_slice(from);
    }
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

    /// Places on either side that have a part in a result.
    fn reach(&self) -> usize {
        self.radius + 1
    }

    #[inline(always)]
    fn mix(&self, inside: u32, edges: u32) -> u8 {
        // The weights sum to at most 2^24, so that 32 bits hold the sum.
        ((inside * self.inner + edges * self.edge + (1 << 23)) >> 24) as u8
    }
}

/// One pass over one row; beyond its ends lie copies of the end pixels. `padded` is the row with these.
fn along_row(row: &mut [u8], padded: &mut [u8], weights: &Window) {
    let reach = weights.reach();
    let (first, last) = (row[0], row[row.len() - 1]);
    padded[..reach].fill(first);
    padded[reach..][..row.len()].copy_from_slice(row);
    padded[reach + row.len()..].fill(last);
    match weights.radius {
        // The radii of the recipes' blurs, written out.
        0 => mix(row, [&padded[1..]], padded, &padded[2..], weights),
        1 => {
            let inside = [&padded[1..], &padded[2..], &padded[3..]];
            mix(row, inside, padded, &padded[4..], weights);
        }
        _ => many(row, padded, weights),
    }
}

/// One pass over a plane, each row from the rows around it.
fn across_rows(from: &[u8], to: &mut [u8], width: usize, weights: &Window) {
    let last = from.len() / width - 1;
    let radius = weights.radius;
    let row = |y: usize| &from[y.min(last) * width..][..width];
    let mut inside = vec![0u32; width];
    for (y, out) in to.chunks_exact_mut(width).enumerate() {
        // The rows above the first are the first.
        let above = row(y.saturating_sub(radius + 1));
        let below = row(y + radius + 1);
        match radius {
            0 => mix(out, [row(y)], above, below, weights),
            1 => {
                let rows = [row(y.saturating_sub(1)), row(y), row(y + 1)];
                mix(out, rows, above, below, weights);
            }
            _ => {
                if y == 0 {
                    inside.fill(0);
                    for offset in 0..=2 * radius {
                        change(&mut inside, row(offset.saturating_sub(radius)), &[]);
                    }
                } else {
                    let leaving = row(y.saturating_sub(radius + 1));
                    change(&mut inside, row(y + radius), leaving);
                }
                mix_sums(out, &inside, above, below, weights);
            }
        }
    }
}

/// A pass over neighbours: those inside of the box, and the two at its edges.
fn mix<const N: usize>(
    out: &mut [u8],
    inside: [&[u8]; N],
    above: &[u8],
    below: &[u8],
    weights: &Window,
) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        unsafe { avx2::mix(out, inside, above, below, weights) };
        return;
    }
    mix_plain(out, inside, above, below, weights);
}

/// [`mix`] for any processor; what the other must equal bit for bit.
fn mix_plain<const N: usize>(
    out: &mut [u8],
    inside: [&[u8]; N],
    above: &[u8],
    below: &[u8],
    weights: &Window,
) {
    for (x, out) in out.iter_mut().enumerate() {
        let sum = inside.iter().map(|row| u32::from(row[x])).sum();
        *out = weights.mix(sum, u32::from(above[x]) + u32::from(below[x]));
    }
}

vectorised! {
    fn mix_sums(out: &mut [u8], inside: &[u32], above: &[u8], below: &[u8], weights: &Window) {
        let places = inside.iter().zip(above).zip(below);
        for (out, ((inside, above), below)) in out.iter_mut().zip(places) {
            *out = weights.mix(*inside, u32::from(*above) + u32::from(*below));
        }
    }

    /// Adds a row to sums, and takes another off.
    fn change(sums: &mut [u32], entering: &[u8], leaving: &[u8]) {
        for (sum, value) in sums.iter_mut().zip(entering) {
            *sum += u32::from(*value);
        }
        for (sum, value) in sums.iter_mut().zip(leaving) {
            *sum -= u32::from(*value);
        }
    }
}

/// Any radius, by a sum that goes along.
fn many(row: &mut [u8], padded: &[u8], weights: &Window) {
    let length = 2 * weights.radius + 1;
    let mut inside: u32 = padded[1..=length].iter().copied().map(u32::from).sum();
    for (x, out) in row.iter_mut().enumerate() {
        let edge = |at: usize| u32::from(padded[x + at]);
        *out = weights.mix(inside, edge(0) + edge(length + 1));
        inside = inside + edge(length + 1) - edge(1);
    }
}
