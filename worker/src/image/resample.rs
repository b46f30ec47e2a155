//! Antialiased resampling as Pillow's `Image.resize`: separable, horizontal pass first, weights in
//! fixed point with 22 bits, 8 bits between the passes. Bit for bit the same on uint8 RGB.

use super::Picture;

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Interpolation kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Triangle, support 1.
    Bilinear,
    /// Keys' cubic with a = -0.5, support 2.
    Bicubic,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            _ => 0.0,
        }
    }
}

/// Bits after the point: 32 less 8 of the pixel and 2 for the overshoot of the cubic.
const PRECISION: u32 = 22;

/// The weights of every output place along one axis.
struct Kernel {
    /// First input place and number of weights, per output place.
    spans: Vec<(usize, usize)>,
    /// Weights, `stride` per output place.
    weights: Vec<i32>,
    stride: usize,
}

impl Kernel {
    fn new(input: usize, output: usize, filter: Filter) -> Self {
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let stride = support.ceil() as usize * 2 + 1;
        let mut spans = Vec::with_capacity(output);
        let mut weights = vec![0; stride * output];
        let mut row = vec![0.0; stride];
        for place in 0..output {
            let center = (place as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5) as usize).min(input);
            let count = last - first;
            // Multiplied, not divided by: a last-bit difference could change a rounding.
            let shrink = 1.0 / stretch;
            let mut sum = 0.0;
            for (offset, weight) in row[..count].iter_mut().enumerate() {
                *weight = filter.weight(((offset + first) as f64 - center + 0.5) * shrink);
                sum += *weight;
            }
            for (fixed, &weight) in weights[place * stride..].iter_mut().zip(&row[..count]) {
                let weight = if sum == 0.0 { weight } else { weight / sum };
                let scaled = weight * f64::from(1u32 << PRECISION);
                *fixed = (scaled + if weight < 0.0 { -0.5 } else { 0.5 }) as i32;
            }
            spans.push((first, count));
        }
        Self {
            spans,
            weights,
            stride,
        }
    }

    fn at(&self, place: usize) -> (usize, &[i32]) {
        let (first, count) = self.spans[place];
        (first, &self.weights[place * self.stride..][..count])
    }
}

fn to_pixel(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Crops `rect` out of `picture` and resizes it to `width` x `height`. Pixels outside of the
/// rectangle have no influence; parts of the rectangle beyond the picture are black.
#[must_use]
pub fn resize(
    picture: &Picture,
    rect: Rect,
    width: usize,
    height: usize,
    filter: Filter,
) -> Picture {
    if width == 0 || height == 0 || rect.width == 0 || rect.height == 0 {
        return Picture::black(width, height);
    }
    let inside =
        rect.top + rect.height <= picture.height && rect.left + rect.width <= picture.width;
    if !inside {
        let padded = crop(picture, rect);
        return resize(&padded, padded.bounds(), width, height, filter);
    }
    let middle = if rect.width == width {
        crop(picture, rect)
    } else {
        horizontal(picture, rect, width, filter)
    };
    if rect.height == height {
        middle
    } else {
        vertical(&middle, height, filter)
    }
}

/// The pixels of a rectangle; black where it reaches beyond the picture.
pub(super) fn crop(picture: &Picture, rect: Rect) -> Picture {
    let mut out = Picture::black(rect.width, rect.height);
    let columns = rect.width.min(picture.width.saturating_sub(rect.left));
    let rows = rect.height.min(picture.height.saturating_sub(rect.top));
    for y in 0..if columns == 0 { 0 } else { rows } {
        let from = &picture.row(rect.top + y)[rect.left * 3..][..columns * 3];
        out.data[y * rect.width * 3..][..columns * 3].copy_from_slice(from);
    }
    out
}

fn horizontal(picture: &Picture, rect: Rect, width: usize, filter: Filter) -> Picture {
    let kernel = Kernel::new(rect.width, width, filter);
    let mut out = Picture::black(width, rect.height);
    for (y, out_row) in out.data.chunks_exact_mut(width * 3).enumerate() {
        let row = &picture.row(rect.top + y)[rect.left * 3..][..rect.width * 3];
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
    out
}

fn vertical(picture: &Picture, height: usize, filter: Filter) -> Picture {
    let kernel = Kernel::new(picture.height, height, filter);
    let stride = picture.width * 3;
    let mut out = Picture::black(picture.width, height);
    let mut sums = vec![0i32; stride];
    for (y, out_row) in out.data.chunks_exact_mut(stride).enumerate() {
        let (first, weights) = kernel.at(y);
        sums.fill(1 << (PRECISION - 1));
        for (&weight, row) in weights
            .iter()
            .zip(picture.data[first * stride..].chunks_exact(stride))
        {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        for (pixel, &sum) in out_row.iter_mut().zip(&sums) {
            *pixel = to_pixel(sum);
        }
    }
    out
}
