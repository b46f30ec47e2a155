//! WebP and BMP, through the crate `image`.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::codecs::webp::WebPDecoder;
use image::{ImageDecoder, ImageError};

use super::decode::check_size;
use super::{DecodeError, Need, Picture};

pub(super) fn decode_bmp(
    bytes: &[u8],
    need: impl FnOnce(usize, usize) -> Need,
) -> Result<Picture, DecodeError> {
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(|error| broken("BMP", &error))?;
    read(decoder, "BMP", true, need)
}

/// The first frame, if there are several.
pub(super) fn decode_webp(
    bytes: &[u8],
    need: impl FnOnce(usize, usize) -> Need,
) -> Result<Picture, DecodeError> {
    let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|error| broken("WebP", &error))?;
    read(decoder, "WebP", false, need)
}

fn broken(format: &'static str, error: &ImageError) -> DecodeError {
    DecodeError::Broken {
        format,
        cause: error.to_string(),
    }
}

/// Pixels without their alpha. With `rows`, data that ends early leaves the rest black: the format is read row
/// by row. Otherwise nothing of it can be used.
fn read(
    decoder: impl ImageDecoder,
    format: &'static str,
    rows: bool,
    need: impl FnOnce(usize, usize) -> Need,
) -> Result<Picture, DecodeError> {
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    check_size(width, height)?;
    need(width, height);
    let channels = usize::from(decoder.color_type().channel_count());
    let size = usize::try_from(decoder.total_bytes()).unwrap_or(usize::MAX);
    if size != width * height * channels {
        return Err(DecodeError::Broken {
            format,
            cause: format!("{:?} is no colour of 8 bits", decoder.color_type()),
        });
    }
    let mut raw = vec![0; size];
    match decoder.read_image(&mut raw) {
        Ok(()) => {}
        Err(error) if rows => tracing::debug!("{format} data ends early: {error}"),
        Err(error) => return Err(broken(format, &error)),
    }
    if channels == 3 {
        return Ok(Picture {
            width,
            height,
            data: raw,
        });
    }
    let mut picture = Picture::black(width, height);
    let source = raw.chunks_exact(channels);
    for (pixel, source) in picture.data.chunks_exact_mut(3).zip(source) {
        match source {
            [r, g, b, ..] => pixel.copy_from_slice(&[*r, *g, *b]),
            [gray, ..] => pixel.fill(*gray),
            [] => {}
        }
    }
    Ok(picture)
}
