//! Pixels to what the towers take: ImageNet's mean and deviation taken out of shares of 255.

use std::sync::LazyLock;

use super::{Picture, Planes};

/// Mean of ImageNet's channels, in shares of 255.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's channels, in shares of 255.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// What each value of each channel becomes.
static NORMALIZED: LazyLock<[[f32; 256]; 3]> = LazyLock::new(|| {
    std::array::from_fn(|c| {
        std::array::from_fn(|value| (value as f32 / 255.0 - IMAGENET_MEAN[c]) / IMAGENET_STD[c])
    })
});

/// Pixels to `[3, height, width]` with ImageNet's mean and deviation taken out.
///
/// # Panics
/// If `out` is not 3 x height x width long.
pub fn normalize_into(picture: &Picture, out: &mut [f32]) {
    let pixels = picture.width * picture.height;
    assert_eq!(out.len(), 3 * pixels, "a picture of {pixels} pixels");
    let planes = out.chunks_exact_mut(pixels.max(1));
    for (c, (plane, table)) in planes.zip(NORMALIZED.iter()).enumerate() {
        for (value, pixel) in plane.iter_mut().zip(picture.data.chunks_exact(3)) {
            *value = table[usize::from(pixel[c])];
        }
    }
}

/// As [`normalize_into`], from planes.
///
/// # Panics
/// If `out` is not as long as the planes.
pub fn normalize_planes_into(planes: &Planes, out: &mut [f32]) {
    assert_eq!(out.len(), planes.data.len(), "values of a picture");
    let pixels = (planes.width * planes.height).max(1);
    let channels = planes.data.chunks_exact(pixels);
    for (c, (out, channel)) in out.chunks_exact_mut(pixels).zip(channels).enumerate() {
        plane(channel, c, out);
    }
}

/// One channel's values, by the widest way that the processor has.
fn plane(channel: &[u8], c: usize, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if super::wide::has_avx512() {
            // SAFETY: the processor has the features.
            return unsafe { streamed::widest(channel, c, out) };
        }
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the features.
            return unsafe { streamed::wide(channel, c, out) };
        }
    }
    look_up(channel, c, out);
}

fn look_up(channel: &[u8], c: usize, out: &mut [f32]) {
    let table = &NORMALIZED[c];
    for (value, pixel) in out.iter_mut().zip(channel) {
        *value = table[usize::from(*pixel)];
    }
}

/// The table's values without the table, which only one value at a time can be looked up in. Worth it where
/// the processor multiplies and adds in one go.
#[inline(always)]
fn compute(channel: &[u8], c: usize, out: &mut [f32]) {
    let (mean, std) = (IMAGENET_MEAN[c], IMAGENET_STD[c]);
    let (by_255, by_std) = (1.0 / 255.0, 1.0 / std);
    for (value, pixel) in out.iter_mut().zip(channel) {
        let share = divide(f32::from(*pixel), 255.0, by_255);
        *value = divide(share - mean, std, by_std);
    }
}

/// `x / y` by the rounded inverse of `y` and what is left over (Markstein 1990): for the values that there are
/// it is the quotient to the bit, as a test shows.
#[inline(always)]
fn divide(x: f32, y: f32, inverse: f32) -> f32 {
    let near = x * inverse;
    let left = near.mul_add(-y, x);
    left.mul_add(inverse, near)
}

/// Stores that pass by the caches: a batch is far larger than they are, and nobody reads it soon. Other stores
/// would first fetch what they overwrite.
#[cfg(target_arch = "x86_64")]
mod streamed {
    use std::arch::x86_64::{_mm_sfence, _mm256_load_ps, _mm256_stream_ps};

    use super::compute;

    /// What goes to memory at once.
    #[derive(Clone, Copy)]
    #[repr(C, align(64))]
    struct Line([f32; 16]);

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn widest(channel: &[u8], c: usize, out: &mut [f32]) {
        stream(channel, c, out);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn wide(channel: &[u8], c: usize, out: &mut [f32]) {
        stream(channel, c, out);
    }

    /// For callers with AVX.
    #[inline(always)]
    fn stream(channel: &[u8], c: usize, out: &mut [f32]) {
        // SAFETY: a line is 16 values, and any bits are values.
        let (head, lines, tail) = unsafe { out.align_to_mut::<Line>() };
        let (first, rest) = channel.split_at(head.len().min(channel.len()));
        compute(first, c, head);
        let (whole, rest) = rest.split_at(rest.len().min(lines.len() * 16));
        for (line, pixels) in lines.iter_mut().zip(whole.chunks_exact(16)) {
            let mut made = Line([0.0; 16]);
            compute(pixels, c, &mut made.0);
            for half in [0, 8] {
                // SAFETY: both lines are aligned to 64 bytes, and a half is 8 of their 16 values.
                unsafe {
                    let values = _mm256_load_ps(made.0.as_ptr().add(half));
                    _mm256_stream_ps(line.0.as_mut_ptr().add(half), values);
                }
            }
        }
        compute(rest, c, tail);
        // SAFETY: every x86-64 has it. It comes before another thread is told that the values are there.
        unsafe { _mm_sfence() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_gives_the_quotients_to_the_bit() {
        let all: Vec<u8> = (0..=255).collect();
        for c in 0..3 {
            let want: Vec<u32> = NORMALIZED[c].iter().map(|x| x.to_bits()).collect();
            for way in [plane, look_up, compute] {
                // Wherever a row begins and ends.
                for (from, to) in [(0, 256), (1, 255), (7, 20), (3, 4), (9, 9)] {
                    let mut got = vec![0.0; 300];
                    way(&all[from..to], c, &mut got[from..to]);
                    let got: Vec<u32> = got.into_iter().map(f32::to_bits).collect();
                    assert_eq!(got[from..to], want[from..to], "channel {c}, {from}..{to}");
                    let others = got[..from].iter().chain(&got[to..]);
                    assert!(others.copied().all(|bits| bits == 0));
                }
            }
        }
    }
}
