//! Antialiased resampling as Pillow's `Image.resize`: separable, horizontal pass first, weights in
//! fixed point with 22 bits, 8 bits between the passes. Bit for bit the same on uint8 RGB.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod plain;
#[cfg(test)]
mod tests;

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

/// A weight as two 16-bit numbers for the processor's products of pairs: `high * 2^SPLIT + low`, exactly.
const SPLIT: u32 = 11;

/// Weights per step of the loops over them; the rest of the last step is zeros.
const STEP: usize = 4;

/// The weights of every output place along one axis.
struct Kernel {
    /// First input place and number of weights, per output place.
    spans: Vec<(usize, usize)>,
    /// Weights, `stride` per output place, zeros beyond their number.
    weights: Vec<i32>,
    /// Pairs of neighbouring weights, `stride / 2` per output place: the high parts in one number of 32 bits,
    /// and the low ones in another.
    pairs: Vec<[i32; 2]>,
    stride: usize,
}

impl Kernel {
    /// Weights for `output` places over a span of `input` places.
    fn new(input: usize, (start, length): Span, output: usize, filter: Filter) -> Self {
        let scale = length / output as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let stride = (support.ceil() as usize * 2 + 1).next_multiple_of(STEP);
        let mut spans = Vec::with_capacity(output);
        let mut weights = vec![0; stride * output];
        let mut row = vec![0.0; stride];
        for place in 0..output {
            let center = start + (place as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5) as usize).min(input);
            let count = last.saturating_sub(first);
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
        let pairs = weights.chunks_exact(2).map(|two| pair(two[0], two[1]));
        Self {
            spans,
            pairs: pairs.collect(),
            weights,
            stride,
        }
    }

    /// First input place and weights of an output place.
    fn at(&self, place: usize) -> (usize, &[i32]) {
        let (first, count) = self.spans[place];
        (first, &self.weights[place * self.stride..][..count])
    }

    /// First input place, number of weights, and their pairs with zeros up to a whole [`STEP`].
    #[cfg(target_arch = "x86_64")]
    fn pairs_at(&self, place: usize) -> (usize, usize, &[[i32; 2]]) {
        let (first, count) = self.spans[place];
        let padded = count.next_multiple_of(STEP) / 2;
        (
            first,
            count,
            &self.pairs[place * self.stride / 2..][..padded],
        )
    }
}

/// High and low parts of two weights.
fn pair(a: i32, b: i32) -> [i32; 2] {
    let low = |weight: i32| weight & ((1 << SPLIT) - 1);
    let both = |a: i32, b: i32| (a & 0xffff) | (b << 16);
    [both(a >> SPLIT, b >> SPLIT), both(low(a), low(b))]
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
    let across = (0.0, rect.width as f64);
    let down = (0.0, rect.height as f64);
    passes(picture, rect, (across, down), (width, height), filter)
}

/// As [`resize`], of what is `rect` in the whole picture (columns and rows), of which `picture` is a smaller one:
/// the rectangle's sides may then lie between two pixels. A picture as wide as the whole one is not smaller, but
/// may lack rows below the rectangle.
#[must_use]
pub fn resize_reduced(
    picture: &Picture,
    whole: (usize, usize),
    rect: Rect,
    width: usize,
    height: usize,
    filter: Filter,
) -> Picture {
    if whole.0 == picture.width {
        return resize(picture, rect, width, height, filter);
    }
    // First pixel, number of pixels, and the part of them that is meant.
    let axis = |start: usize, length: usize, pixels: usize, whole: usize| {
        let scale = pixels as f64 / whole.max(1) as f64;
        let (low, high) = (start as f64 * scale, (start + length) as f64 * scale);
        let first = (low as usize).min(pixels.saturating_sub(1));
        let last = (high.ceil() as usize).clamp(first + 1, pixels.max(first + 1));
        (first, last - first, (low - first as f64, high - low))
    };
    let (left, columns, across) = axis(rect.left, rect.width, picture.width, whole.0);
    let (top, rows, down) = axis(rect.top, rect.height, picture.height, whole.1);
    let rect = Rect {
        top,
        left,
        height: rows,
        width: columns,
    };
    if width == 0 || height == 0 || picture.data.is_empty() {
        return Picture::black(width, height);
    }
    passes(picture, rect, (across, down), (width, height), filter)
}

/// Start and length along one axis, from the first pixel of a rectangle on.
type Span = (f64, f64);

/// Both passes over a rectangle that lies inside of the picture. One that would change nothing is left out.
fn passes(
    picture: &Picture,
    rect: Rect,
    (across, down): (Span, Span),
    (width, height): (usize, usize),
    filter: Filter,
) -> Picture {
    let middle = if across == (0.0, width as f64) && rect.width == width {
        crop(picture, rect)
    } else {
        let kernel = Kernel::new(rect.width, across, width, filter);
        horizontal(picture, rect, &kernel)
    };
    if down == (0.0, height as f64) && rect.height == height {
        middle
    } else {
        vertical(&middle, &Kernel::new(rect.height, down, height, filter))
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

/// The rows of `rect`, resampled.
fn horizontal(picture: &Picture, rect: Rect, kernel: &Kernel) -> Picture {
    let mut out = Picture::black(kernel.spans.len(), rect.height);
    // From the first pixel of the rectangle to the end of the picture.
    let pixels = &picture.data[(rect.top * picture.width + rect.left) * 3..];
    let stride = picture.width * 3;
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        unsafe { avx2::horizontal(pixels, stride, kernel, &mut out) };
        return out;
    }
    plain::horizontal(pixels, stride, kernel, &mut out, 0);
    out
}

/// The picture's columns, resampled.
fn vertical(picture: &Picture, kernel: &Kernel) -> Picture {
    let mut out = Picture::black(picture.width, kernel.spans.len());
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        unsafe { avx2::vertical(&picture.data, kernel, &mut out) };
        return out;
    }
    plain::vertical(&picture.data, kernel, &mut out);
    out
}
