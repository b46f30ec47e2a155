//! From the bytes that a server sent to the file that is kept.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mozjpeg::{ColorSpace, Compress};

use super::cause::{Cause, Failure};
use crate::data::budget::Budget;
use crate::image::{DecodeError, Filter, Format, Picture, ends_early, resize};

/// Which side of an image decides how large it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// The shorter one gets this many pixels.
    Shorter(usize),
    /// The longer one gets this many pixels.
    Longer(usize),
}

/// How images are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureOptions {
    /// Larger images are made smaller; none is made larger.
    pub resize: Option<Resize>,
    /// Quality of JPEGs that are written anew, 1 to 100.
    pub quality: u8,
    /// Images with a shorter side are not kept.
    pub min_side: usize,
}

/// Decodes an image, within what may be held of pictures at one time, and gives the JPEG to keep: the bytes
/// as they are if they are a JPEG of the right size, a new one otherwise.
pub(super) fn to_jpeg(
    bytes: Vec<u8>,
    options: PictureOptions,
    budget: &Budget,
) -> Result<Vec<u8>, Failure> {
    if ends_early(&bytes) {
        return Err(Failure::new(Cause::Broken, "it ends early"));
    }
    let (picture, _share) = budget.decode(&bytes).map_err(|error| refused(&error))?;
    let (width, height) = (picture.width, picture.height);
    if width.min(height) < options.min_side {
        return Err(Failure::new(
            Cause::TooSmall,
            format!("{width} x {height} pixels"),
        ));
    }
    let size = target(width, height, options.resize);
    if size.is_none() && Format::of(&bytes) == Some(Format::Jpeg) {
        return Ok(bytes);
    }
    drop(bytes);
    let picture = match size {
        Some((width, height)) => {
            let bounds = picture.bounds();
            resize(&picture, bounds, width, height, Filter::Bicubic)
        }
        None => picture,
    };
    encode(&picture, options.quality)
}

fn refused(error: &DecodeError) -> Failure {
    let cause = match error {
        DecodeError::Empty | DecodeError::Unknown(_) => Cause::NotAnImage,
        DecodeError::TooLarge { .. } => Cause::TooManyPixels,
        _ => Cause::Broken,
    };
    Failure::new(cause, error.to_string())
}

/// Width and height to keep, if they are not those of the image.
fn target(width: usize, height: usize, resize: Option<Resize>) -> Option<(usize, usize)> {
    let (side, wanted) = match resize? {
        Resize::Shorter(wanted) => (width.min(height), wanted),
        Resize::Longer(wanted) => (width.max(height), wanted),
    };
    let scale = |length: usize| {
        let scaled = (length as u128 * wanted as u128 * 2 + side as u128) / (2 * side as u128);
        usize::try_from(scaled).unwrap_or(length).max(1)
    };
    (side > wanted).then(|| (scale(width), scale(height)))
}

/// A JPEG with the usual halved chroma. Its encoder reports errors by unwinding.
fn encode(picture: &Picture, quality: u8) -> Result<Vec<u8>, Failure> {
    let broken = |what: String| Failure::new(Cause::Broken, format!("cannot be written: {what}"));
    catch_unwind(AssertUnwindSafe(|| {
        let mut encoder = Compress::new(ColorSpace::JCS_RGB);
        encoder.set_size(picture.width, picture.height);
        encoder.set_fastest_defaults();
        encoder.set_quality(f32::from(quality));
        let mut started = encoder.start_compress(Vec::new())?;
        started.write_scanlines(&picture.data)?;
        started.finish()
    }))
    .map_err(|_| broken("the encoder gave up".into()))?
    .map_err(|error| broken(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::budget::DECODE_MEMORY;
    use crate::image::decode;

    const PHOTO: &[u8] = include_bytes!("../../../tests/golden/images/images/src/rgb420.jpg");
    const PALETTE: &[u8] = include_bytes!("../../../tests/golden/images/images/src/palette.png");

    const AS_IS: PictureOptions = PictureOptions {
        resize: None,
        quality: 95,
        min_side: 0,
    };

    fn jpeg(bytes: &[u8], options: PictureOptions) -> Result<Vec<u8>, Failure> {
        to_jpeg(bytes.to_vec(), options, &Budget::new(DECODE_MEMORY))
    }

    #[test]
    fn sides_are_scaled_together_and_never_up() {
        let shorter = |side| Some(Resize::Shorter(side));
        let longer = |side| Some(Resize::Longer(side));
        assert_eq!(target(500, 375, shorter(256)), Some((341, 256)));
        assert_eq!(target(500, 375, longer(250)), Some((250, 188)));
        assert_eq!(target(500, 375, shorter(375)), None);
        assert_eq!(target(500, 375, longer(1000)), None);
        assert_eq!(target(10_000, 1, longer(100)), Some((100, 1)));
        assert_eq!(target(500, 375, None), None);
    }

    #[test]
    fn a_jpeg_is_kept_as_it_came() {
        let kept = jpeg(PHOTO, AS_IS).expect("a photo");
        assert!(kept == PHOTO);
    }

    #[test]
    fn others_become_jpegs_that_look_alike() {
        let before = decode(PALETTE).expect("a picture");
        let kept = jpeg(PALETTE, AS_IS).expect("a picture");
        assert_eq!(Format::of(&kept), Some(Format::Jpeg));
        let after = decode(&kept).expect("a JPEG");
        assert_eq!((after.width, after.height), (before.width, before.height));
        let difference: u64 = before
            .data
            .iter()
            .zip(&after.data)
            .map(|(&a, &b)| u64::from(a.abs_diff(b)))
            .sum();
        let mean = difference as f64 / before.data.len() as f64;
        assert!(mean < 6.0, "mean difference {mean}");
    }

    #[test]
    fn what_is_no_image_to_keep_is_said() {
        let why = |bytes: &[u8], options| jpeg(bytes, options).map_err(|why| why.cause);
        assert_eq!(why(b"", AS_IS), Err(Cause::NotAnImage));
        assert_eq!(why(b"<html>", AS_IS), Err(Cause::NotAnImage));
        let half = &PHOTO[..PHOTO.len() / 2];
        assert_eq!(why(half, AS_IS), Err(Cause::Broken));
        let large = PictureOptions {
            min_side: 5000,
            ..AS_IS
        };
        assert_eq!(why(PHOTO, large), Err(Cause::TooSmall));
        // 60,000 x 60,000 in the header of a small PNG.
        let mut bomb = PALETTE.to_vec();
        bomb[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
        assert_eq!(why(&bomb, AS_IS), Err(Cause::TooManyPixels));
    }
}
