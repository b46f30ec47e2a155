//! Files to RGB as Pillow's `convert('RGB')` gives them: EXIF rotation is not applied, alpha is
//! dropped and not blended, 16-bit colour loses its low byte, 16-bit gray is clipped at 255, and
//! files that end early keep what they hold.

use std::io::{Cursor, Read as _};

use png::{BitDepth, ColorType};

use super::guard::guarded;
use super::whole::{Format, whole_blocks};
use super::{Picture, jpeg, others};

/// Why bytes are no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The first bytes belong to no format that is read.
    #[error("the file is neither JPEG, PNG, WebP, GIF nor BMP (it begins with {0})")]
    Unknown(String),
    /// The header promises nothing.
    #[error("it holds no pixels")]
    NoPixels,
    /// The header promises more pixels than are allowed.
    #[error("the picture is {width} x {height} pixels; at most {limit} pixels are read")]
    TooLarge {
        /// Width in the header.
        width: usize,
        /// Height in the header.
        height: usize,
        /// Pixels allowed.
        limit: usize,
    },
    /// The decoder gave up before it had a picture.
    #[error("the {format} data is broken: {cause}")]
    Broken {
        /// Name of the format.
        format: &'static str,
        /// What the decoder says.
        cause: String,
    },
}

/// Pixels that are allowed in a file: Pillow's limit for its decompression bomb error.
const MAX_PIXELS: usize = 2 * (1 << 30) / 4 / 3;

/// Refuses pictures that would not fit, and those that are none, before memory is taken.
pub(super) fn check_size(width: usize, height: usize) -> Result<(), DecodeError> {
    if width == 0 || height == 0 {
        return Err(DecodeError::NoPixels);
    }
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(DecodeError::TooLarge {
            width,
            height,
            limit: MAX_PIXELS,
        });
    }
    Ok(())
}

/// What is needed of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Rows from the top; those below may be left out.
    pub rows: usize,
    /// 1 for all pixels; 2, 4 or 8 if both sides may be so much shorter.
    pub reduction: usize,
}

impl Need {
    /// All of a picture of so many rows.
    #[must_use]
    pub fn all(rows: usize) -> Self {
        Self { rows, reduction: 1 }
    }
}

/// Decodes JPEG, PNG, WebP, GIF (the first frame) or BMP, told apart by their first bytes and not by a name.
///
/// # Errors
/// [`DecodeError`]; a file whose header is whole but whose data ends early is no error.
pub fn decode(bytes: &[u8]) -> Result<Picture, DecodeError> {
    decode_part(bytes, |_, height| Need::all(height))
}

/// As [`decode`], but asks what is needed of a picture of so many columns and rows, before memory is taken
/// for it. More than that may come back, as formats permit: JPEG alone leaves rows out, and is reduced (in
/// libjpeg, by inverse cosine transforms of fewer points, rounding sides up).
///
/// # Errors
/// As of [`decode`].
pub fn decode_part(
    bytes: &[u8],
    need: impl FnOnce(usize, usize) -> Need,
) -> Result<Picture, DecodeError> {
    match Format::of(bytes) {
        Some(Format::Jpeg) => jpeg::decode(bytes, need),
        Some(Format::Png) => guarded("PNG", || decode_png(bytes, need)),
        Some(Format::Gif) => guarded("GIF", || decode_gif(bytes, need)),
        Some(Format::Bmp) => guarded("BMP", || others::decode_bmp(bytes, need)),
        Some(Format::WebP) => guarded("WebP", || others::decode_webp(bytes, need)),
        None if bytes.is_empty() => Err(DecodeError::Empty),
        None => {
            let start: Vec<String> = bytes.iter().take(4).map(|b| format!("{b:02x}")).collect();
            Err(DecodeError::Unknown(start.join(" ")))
        }
    }
}

fn decode_png(
    bytes: &[u8],
    need: impl FnOnce(usize, usize) -> Need,
) -> Result<Picture, DecodeError> {
    let broken = |error: png::DecodingError| DecodeError::Broken {
        format: "PNG",
        cause: error.to_string(),
    };
    let mut options = png::DecodeOptions::default();
    options.set_ignore_checksums(true);
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut decoder = png::Decoder::new_with_options(Cursor::new(bytes), options);
    // The size is checked below; the decoder's own limit is on bytes and would refuse large pictures.
    decoder.set_limits(png::Limits {
        bytes: MAX_PIXELS * 8,
    });
    let (width, height) = {
        let info = decoder.read_header_info().map_err(broken)?;
        (info.width as usize, info.height as usize)
    };
    check_size(width, height)?;
    need(width, height);
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(broken)?;
    let (color, depth) = reader.output_color_type();
    let size = reader
        .output_buffer_size()
        .ok_or_else(|| broken(png::DecodingError::LimitsExceeded))?;
    let mut raw = vec![0; size];
    // Rows are written as they are decoded: where the data ends early the rest stays black.
    if let Err(error) = reader.next_frame(&mut raw) {
        tracing::debug!("PNG data ends early: {error}");
    }
    let mut picture = Picture::black(width, height);
    let wide = depth == BitDepth::Sixteen;
    let channels = color.samples();
    let sample = if wide { 2 } else { 1 };
    let source = raw.chunks_exact(channels * sample);
    for (pixel, source) in picture.data.chunks_exact_mut(3).zip(source) {
        match (color, wide) {
            (ColorType::Grayscale, true) => {
                let value = u16::from_be_bytes([source[0], source[1]]);
                pixel.fill(value.min(255) as u8);
            }
            (ColorType::Grayscale | ColorType::GrayscaleAlpha, _) => pixel.fill(source[0]),
            _ => {
                for (c, value) in pixel.iter_mut().enumerate() {
                    *value = source[c * sample];
                }
            }
        }
    }
    Ok(picture)
}

fn decode_gif(
    bytes: &[u8],
    need: impl FnOnce(usize, usize) -> Need,
) -> Result<Picture, DecodeError> {
    let broken = |error: gif::DecodingError| DecodeError::Broken {
        format: "GIF",
        cause: error.to_string(),
    };
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    // A block that is not all there is not decoded; with an end in its place the frame has a beginning.
    let blocks = whole_blocks(bytes).chain(&[0u8][..]);
    let mut decoder = options.read_info(blocks).map_err(broken)?;
    let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    check_size(width.max(1), height.max(1))?;
    let frame = decoder
        .next_frame_info()
        .map_err(broken)?
        .ok_or_else(|| DecodeError::Broken {
            format: "GIF",
            cause: "it holds no frame".into(),
        })?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (columns, rows) = (usize::from(frame.width), usize::from(frame.height));
    let (interlaced, fill) = (frame.interlaced, frame.transparent.unwrap_or(0));
    // The screen grows to hold its frame.
    let (width, height) = (width.max(left + columns), height.max(top + rows));
    check_size(width, height)?;
    need(width, height);
    let palette = decoder.palette().map_err(broken)?.to_vec();
    let color = |index: u8| {
        let at = usize::from(index) * 3;
        palette.get(at..at + 3).unwrap_or(&[0; 3])
    };
    let mut picture = Picture::black(width, height);
    for pixel in picture.data.chunks_exact_mut(3) {
        pixel.copy_from_slice(color(fill));
    }
    let passes: &[(usize, usize)] = match (columns, interlaced) {
        (0, _) => &[],
        (_, true) => &[(0, 8), (4, 8), (2, 4), (1, 2)],
        (_, false) => &[(0, 1)],
    };
    let mut line = vec![0; columns];
    for y in passes
        .iter()
        .flat_map(|&(first, step)| (first..rows).step_by(step))
    {
        line.fill(fill);
        let whole = matches!(decoder.fill_buffer(&mut line), Ok(true));
        let to = ((top + y) * width + left) * 3;
        let pixels = picture.data[to..to + columns * 3].chunks_exact_mut(3);
        for (pixel, &index) in pixels.zip(&line) {
            pixel.copy_from_slice(color(index));
        }
        if !whole {
            tracing::debug!("GIF data ends early");
            break;
        }
    }
    Ok(picture)
}
