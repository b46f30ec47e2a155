//! Geometry: crops, the evaluation transform.

use super::resample::crop;
use super::{DecodeError, Filter, Picture, Planes, Rect, decode, normalize_into, resize};
use crate::random::Stream;

/// Aspect ratios of random crops.
pub const CROP_RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

/// A rectangle drawn as torchvision's `RandomResizedCrop` draws it: area a share of the picture's
/// in `scale`, aspect ratio log-uniform in [`CROP_RATIO`]; after ten tries that do not fit, the
/// largest centred one within the ratios.
#[must_use]
pub fn sample_crop(width: usize, height: usize, scale: (f64, f64), stream: &mut Stream) -> Rect {
    let area = (width * height) as f64;
    let (low, high) = (CROP_RATIO.0.ln(), CROP_RATIO.1.ln());
    for _ in 0..10 {
        let target = area * stream.range(scale.0, scale.1);
        let ratio = stream.range(low, high).exp();
        let w = (target * ratio).sqrt().round_ties_even() as usize;
        let h = (target / ratio).sqrt().round_ties_even() as usize;
        if 0 < w && w <= width && 0 < h && h <= height {
            return Rect {
                top: stream.index(height - h + 1),
                left: stream.index(width - w + 1),
                height: h,
                width: w,
            };
        }
    }
    let ratio = width as f64 / height as f64;
    let (w, h) = if ratio < CROP_RATIO.0 {
        (
            width,
            (width as f64 / CROP_RATIO.0).round_ties_even() as usize,
        )
    } else if ratio > CROP_RATIO.1 {
        (
            (height as f64 * CROP_RATIO.1).round_ties_even() as usize,
            height,
        )
    } else {
        (width, height)
    };
    // A picture of one pixel by many could round to nothing.
    let (w, h) = (w.clamp(1, width), h.clamp(1, height));
    Rect {
        top: (height - h) / 2,
        left: (width - w) / 2,
        height: h,
        width: w,
    }
}

/// Mirrors left and right.
pub fn horizontal_flip(planes: &mut Planes) {
    for row in planes.data.chunks_exact_mut(planes.width.max(1)) {
        row.reverse();
    }
}

/// Resizes so that the shorter side is `size` pixels (bilinear, antialiased).
#[must_use]
pub fn resize_shorter_side(picture: &Picture, size: usize) -> Picture {
    let (width, height) = (picture.width, picture.height);
    // The longer side is truncated, not rounded, as torchvision does.
    let longer = |long: usize, short: usize| (size * long) / short.max(1);
    let (w, h) = if width <= height {
        (size, longer(height, width))
    } else {
        (longer(width, height), size)
    };
    resize(picture, picture.bounds(), w, h, Filter::Bilinear)
}

/// The middle `size` x `size` pixels; both sides must be at least `size`.
#[must_use]
pub fn center_crop(picture: &Picture, size: usize) -> Picture {
    let start = |side: usize| (side.saturating_sub(size) as f64 / 2.0).round_ties_even() as usize;
    crop(
        picture,
        Rect {
            top: start(picture.height),
            left: start(picture.width),
            height: size.min(picture.height),
            width: size.min(picture.width),
        },
    )
}

/// The evaluation transform up to pixels: shorter side to `size`, then the middle square.
#[must_use]
pub fn eval_picture(picture: &Picture, size: usize) -> Picture {
    center_crop(&resize_shorter_side(picture, size), size)
}

/// A file's bytes to the evaluation's input `[3, size, size]`, normalised.
///
/// # Errors
/// If the bytes are no picture that can be decoded.
pub fn eval_transform(bytes: &[u8], size: usize) -> Result<Vec<f32>, DecodeError> {
    let picture = eval_picture(&decode(bytes)?, size);
    let mut out = vec![0.0; picture.data.len()];
    normalize_into(&picture, &mut out);
    Ok(out)
}
