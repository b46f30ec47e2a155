//! JPEG through libjpeg (mozjpeg's build of libjpeg-turbo: slow integer DCT, triangle upsampling of
//! the chroma), which is what Pillow uses, so that pixels are the same bit for bit. Where data ends
//! early libjpeg goes on with zero coefficients: what is missing is gray 128.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mozjpeg::{ColorSpace, Decompress};

use super::decode::check_size;
use super::{DecodeError, Need, Picture};

/// What is known of a picture while libjpeg may still give up.
#[derive(Default)]
struct Progress {
    size: Option<(usize, usize)>,
    cmyk: bool,
    data: Vec<u8>,
}

unsafe extern "C" {
    /// Of libjpeg: whether its inverse cosine transform has a form for this processor's wide registers.
    fn jsimd_can_idct_islow() -> std::ffi::c_int;
}

/// Whether libjpeg was compiled with its assembly (for which `nasm` must be there) and this processor can
/// run it. Without it pixels are the same and decoding takes about twice as long.
#[must_use]
pub fn jpeg_is_vectorised() -> bool {
    // SAFETY: asks the processor, and takes nothing.
    unsafe { jsimd_can_idct_islow() != 0 }
}

/// Rows beyond those needed are left out; with a reduction the picture is smaller by it.
pub(super) fn decode(
    bytes: &[u8],
    need: impl FnOnce(usize, usize) -> Need,
) -> Result<Picture, DecodeError> {
    let broken = |cause: String| DecodeError::Broken {
        format: "JPEG",
        cause,
    };
    let mut progress = Progress::default();
    // The binding reports libjpeg's fatal errors by unwinding (without the panic hook).
    let outcome = catch_unwind(AssertUnwindSafe(|| read(bytes, need, &mut progress)));
    let cause = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(payload) => Some(broken(
            payload
                .downcast_ref::<String>()
                .map_or("libjpeg gave up", |text| {
                    text.trim_start_matches("libjpeg fatal error: ")
                })
                .to_owned(),
        )),
    };
    match (cause, progress.size) {
        (Some(error), None) => return Err(error),
        (Some(error @ DecodeError::TooLarge { .. }), _) => return Err(error),
        (Some(error), Some(_)) => tracing::debug!("rows after this error stay black: {error}"),
        (None, _) => {}
    }
    let (width, height) = progress
        .size
        .ok_or_else(|| broken("it holds no picture".into()))?;
    let data = if progress.cmyk {
        progress.data.chunks_exact(4).flat_map(from_cmyk).collect()
    } else {
        progress.data
    };
    Ok(Picture {
        width,
        height,
        data,
    })
}

fn read(
    bytes: &[u8],
    need: impl FnOnce(usize, usize) -> Need,
    progress: &mut Progress,
) -> Result<(), DecodeError> {
    let broken = |error: std::io::Error| DecodeError::Broken {
        format: "JPEG",
        cause: error.to_string(),
    };
    let mut decoder = Decompress::new_mem(bytes).map_err(broken)?;
    let (width, height) = decoder.size();
    check_size(width, height)?;
    let cmyk = matches!(
        decoder.color_space(),
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK
    );
    let (space, channels) = if cmyk {
        (ColorSpace::JCS_CMYK, 4)
    } else {
        (ColorSpace::JCS_RGB, 3)
    };
    let need = need(width, height);
    // Eighths: the sides are rounded up.
    let eighths = (8 / need.reduction.clamp(1, 8)).next_power_of_two();
    decoder.scale(eighths as u8);
    let mut started = decoder.to_colorspace(space).map_err(broken)?;
    let (width, rows) = (started.width(), started.height());
    let height = match eighths {
        8 => need.rows.clamp(1, rows.max(1)),
        _ => rows,
    };
    progress.size = Some((width, height));
    progress.cmyk = cmyk;
    progress.data = vec![0; width * height * channels];
    started
        .read_scanlines_into(&mut progress.data)
        .map_err(broken)?;
    // What follows the last row is of no interest, nor is whether it is whole.
    Ok(())
}

/// Inverted CMYK (Adobe's way of writing it, which Pillow assumes) to RGB, as Pillow converts it.
fn from_cmyk(pixel: &[u8]) -> [u8; 3] {
    let light = i32::from(pixel[3]);
    std::array::from_fn(|c| {
        let product = (255 - i32::from(pixel[c])) * light + 128;
        (light - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
    })
}
