//! Pixels: decoding, resampling and colour as Pillow and torchvision do them on uint8 images, so
//! that models see what the reference's saw. One decode serves all views; crops come before colour.

mod blur;
mod color;
mod decode;
mod guard;
mod jpeg;
mod normalize;
mod others;
mod planes;
mod resample;
mod transform;
mod views;
mod whole;
mod wide;

pub use blur::gaussian_blur;
pub use color::{Jitter, brightness, contrast, grayscale, hue, saturation, solarize};
pub use decode::{DecodeError, Need, decode, decode_part};
pub(crate) use guard::is_guarded;
pub use jpeg::jpeg_is_vectorised;
pub use normalize::{IMAGENET_MEAN, IMAGENET_STD, normalize_into, normalize_planes_into};
pub use planes::Planes;
pub use resample::{Filter, Rect, resize, resize_reduced};
pub use transform::{
    CROP_RATIO, center_crop, eval_picture, eval_transform, horizontal_flip, resize_shorter_side,
    sample_crop,
};
pub use views::{ImageViews, Recipe, StrongRecipe, ViewPlan, ViewsError};
pub use whole::{Format, ends_early};

/// An 8-bit RGB picture, rows from the top, pixels interleaved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`.
    pub data: Vec<u8>,
}

impl Picture {
    /// A black picture.
    #[must_use]
    pub fn black(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            data: vec![0; width * height * 3],
        }
    }

    /// The whole picture as a rectangle.
    #[must_use]
    pub fn bounds(&self) -> Rect {
        Rect {
            top: 0,
            left: 0,
            height: self.height,
            width: self.width,
        }
    }

    /// Row `y` as `[width, 3]`.
    pub(crate) fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.width * 3..][..self.width * 3]
    }
}
