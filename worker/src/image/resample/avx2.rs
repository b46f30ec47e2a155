//! The passes for processors with AVX2. A product of an 8-bit pixel with a 22-bit weight does not fit the
//! 16-bit products that the processor adds in pairs; so weights are taken apart into two numbers of 11 bits,
//! the sums of both are put together, and the result is the very sum of whole products.

use std::arch::x86_64::*;

use super::{Kernel, PRECISION, Picture, SPLIT, plain};

/// Bytes of a load.
const LOAD: usize = 16;

/// As [`plain::horizontal`], for all rows.
#[target_feature(enable = "avx2")]
pub(super) fn horizontal(pixels: &[u8], stride: usize, kernel: &Kernel, out: &mut Picture) {
    let width = out.width * 3;
    // Loads reach beyond the last pixel that has a weight; so much must lie behind a row's start.
    let reach = (0..out.width)
        .map(|x| {
            let (first, _, pairs) = kernel.pairs_at(x);
            ((first + pairs.len() * 2) * 3).saturating_sub(12) + LOAD
        })
        .max()
        .unwrap_or(0);
    let safe = (0..out.height)
        .take_while(|y| y * stride + reach <= pixels.len())
        .count();
    // Room for stores of 4 bytes per pixel, of which 3 are the pixel.
    let mut rows = [const { Vec::new() }; 4];
    rows.fill_with(|| vec![0u8; width + 1]);
    let mut done = 0;
    while done + 2 <= safe {
        let at = &pixels[done * stride..];
        // SAFETY: all loads lie within `reach` of the start of rows that are `safe`, and there are as many.
        let count = unsafe {
            if done + 4 <= safe {
                some_rows::<2>(at, stride, kernel, &mut rows)
            } else {
                some_rows::<1>(at, stride, kernel, &mut rows)
            }
        };
        let out_rows = out.data[done * width..].chunks_exact_mut(width);
        for (row, made) in out_rows.zip(&rows[..count]) {
            row.copy_from_slice(&made[..width]);
        }
        done += count;
    }
    plain::horizontal(pixels, stride, kernel, out, done);
}

/// Puts the two sums together, rounds, and packs to bytes: 4 of each half, in its lowest 32 bits.
#[target_feature(enable = "avx2")]
fn finish(high: __m256i, low: __m256i) -> __m256i {
    const SHIFT: i32 = SPLIT as i32;
    const BITS: i32 = PRECISION as i32;
    let sum = _mm256_add_epi32(_mm256_slli_epi32::<SHIFT>(high), low);
    let sum = _mm256_add_epi32(sum, _mm256_set1_epi32(1 << (BITS - 1)));
    let whole = _mm256_srai_epi32::<BITS>(sum);
    let words = _mm256_packs_epi32(whole, whole);
    _mm256_packus_epi16(words, words)
}

/// One output row each from 2 N input rows, which share the weights; gives their number. Two rows lie in the
/// halves of a register.
///
/// # Safety
/// Behind the start of each of the rows lies as much as [`horizontal`] says; `rows` hold 3 bytes per place
/// and one more.
#[target_feature(enable = "avx2")]
unsafe fn some_rows<const N: usize>(
    pixels: &[u8],
    stride: usize,
    kernel: &Kernel,
    rows: &mut [Vec<u8>; 4],
) -> usize {
    // Of four pixels of 3 bytes, the channels of the first two, and of the others, in pairs of 16 bits.
    let order = |a: i8| {
        let z = -1;
        let (b, c) = (a + 1, a + 2);
        _mm256_setr_epi8(
            a,
            z,
            a + 3,
            z,
            b,
            z,
            b + 3,
            z,
            c,
            z,
            c + 3,
            z,
            z,
            z,
            z,
            z, //
            a,
            z,
            a + 3,
            z,
            b,
            z,
            b + 3,
            z,
            c,
            z,
            c + 3,
            z,
            z,
            z,
            z,
            z,
        )
    };
    let orders = [order(0), order(6)];
    let outs = rows.each_mut().map(|row| row.as_mut_ptr());
    for x in 0..kernel.spans.len() {
        let (first, _, pairs) = kernel.pairs_at(x);
        let mut high = [_mm256_setzero_si256(); N];
        let mut low = [_mm256_setzero_si256(); N];
        // SAFETY: as the function's.
        let mut at = unsafe { pixels.as_ptr().add(first * 3) };
        for pairs in pairs.chunks_exact(2) {
            // SAFETY: as the function's.
            let fours: [__m256i; N] = std::array::from_fn(|two| unsafe {
                let upper = at.add(two * 2 * stride);
                _mm256_inserti128_si256::<1>(
                    _mm256_castsi128_si256(_mm_loadu_si128(upper.cast())),
                    _mm_loadu_si128(upper.add(stride).cast()),
                )
            });
            for ([high_pair, low_pair], order) in pairs.iter().zip(orders) {
                let high_pair = _mm256_set1_epi32(*high_pair);
                let low_pair = _mm256_set1_epi32(*low_pair);
                for two in 0..N {
                    let values = _mm256_shuffle_epi8(fours[two], order);
                    let product = _mm256_madd_epi16(values, high_pair);
                    high[two] = _mm256_add_epi32(high[two], product);
                    let product = _mm256_madd_epi16(values, low_pair);
                    low[two] = _mm256_add_epi32(low[two], product);
                }
            }
            // Never read from beyond the pixels: a next step is within the kernel's reach.
            at = at.wrapping_add(12);
        }
        for two in 0..N {
            let bytes = finish(high[two], low[two]);
            let upper = _mm_cvtsi128_si32(_mm256_castsi256_si128(bytes));
            let lower = _mm_cvtsi128_si32(_mm256_extracti128_si256::<1>(bytes));
            // The fourth byte is overwritten by the next pixel.
            // SAFETY: x is a place of the row, which has room for a byte more than 3 per place.
            unsafe {
                outs[two * 2]
                    .add(x * 3)
                    .cast::<i32>()
                    .write_unaligned(upper);
                outs[two * 2 + 1]
                    .add(x * 3)
                    .cast::<i32>()
                    .write_unaligned(lower);
            }
        }
    }
    2 * N
}

/// As [`plain::vertical`].
#[target_feature(enable = "avx2")]
pub(super) fn vertical(pixels: &[u8], kernel: &Kernel, out: &mut Picture) {
    let stride = out.width * 3;
    if stride < LOAD {
        return plain::vertical(pixels, kernel, out);
    }
    for (y, out_row) in out.data.chunks_exact_mut(stride).enumerate() {
        let (first, count, pairs) = kernel.pairs_at(y);
        let rows = &pixels[first * stride..][..count * stride];
        let mut x = 0;
        while x < stride {
            // The last load may overlap the one before: the same bytes come out again.
            x = x.min(stride - LOAD);
            // SAFETY: 16 bytes from x on lie within every row.
            unsafe { column(rows, stride, x, count, pairs, &mut out_row[x..x + LOAD]) };
            x += LOAD;
        }
    }
}

/// 16 neighbouring bytes of an output row.
///
/// # Safety
/// `rows` holds `count` rows of `stride` bytes, and x + 16 is at most `stride`; `out` is 16 bytes long.
#[target_feature(enable = "avx2")]
unsafe fn column(
    rows: &[u8],
    stride: usize,
    x: usize,
    count: usize,
    pairs: &[[i32; 2]],
    out: &mut [u8],
) {
    let zero = _mm256_setzero_si256();
    let (mut high, mut low) = ([zero; 2], [zero; 2]);
    for (two, [high_pair, low_pair]) in pairs.iter().enumerate().take(count.div_ceil(2)) {
        // Where the number of rows is odd, the last one's partner has no weight.
        let lower = (two * 2 + 1).min(count - 1);
        // SAFETY: as the function's.
        let (a, b) = unsafe {
            let start = rows.as_ptr().add(x);
            (
                _mm_loadu_si128(start.add(two * 2 * stride).cast()),
                _mm_loadu_si128(start.add(lower * stride).cast()),
            )
        };
        let halves = [_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b)];
        let high_pair = _mm256_set1_epi32(*high_pair);
        let low_pair = _mm256_set1_epi32(*low_pair);
        for half in 0..2 {
            let values = _mm256_cvtepu8_epi16(halves[half]);
            let product = _mm256_madd_epi16(values, high_pair);
            high[half] = _mm256_add_epi32(high[half], product);
            let product = _mm256_madd_epi16(values, low_pair);
            low[half] = _mm256_add_epi32(low[half], product);
        }
    }
    for half in 0..2 {
        let bytes = finish(high[half], low[half]);
        let first = _mm_cvtsi128_si32(_mm256_castsi256_si128(bytes));
        let second = _mm_cvtsi128_si32(_mm256_extracti128_si256::<1>(bytes));
        out[half * 8..][..4].copy_from_slice(&first.to_ne_bytes());
        out[half * 8 + 4..][..4].copy_from_slice(&second.to_ne_bytes());
    }
}
