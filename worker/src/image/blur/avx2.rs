//! A pass for processors with AVX2, with sums of two 16-bit products: weights of 24 bits are taken apart into
//! two numbers of 12, and what comes of both is put together to the very sum of whole products.

use std::arch::x86_64::*;

use super::{Window, mix_plain};

/// Bytes done at once.
const STEP: usize = 16;
/// Bits of the lower numbers.
const SPLIT: u32 = 12;

/// As [`mix_plain`].
#[target_feature(enable = "avx2")]
pub(super) fn mix<const N: usize>(
    out: &mut [u8],
    inside: [&[u8]; N],
    above: &[u8],
    below: &[u8],
    weights: &Window,
) {
    const {
        // A sum of a box must stay within 16 bits with its sign.
        assert!(N <= 64);
    }
    let width = out.len();
    if width < STEP {
        return mix_plain(out, inside, above, below, weights);
    }
    let (inside, above, below) = (
        inside.map(|row| &row[..width]),
        &above[..width],
        &below[..width],
    );
    let pair = |part: fn(u32) -> u32| {
        _mm256_set1_epi32((part(weights.inner) | part(weights.edge) << 16).cast_signed())
    };
    let high = pair(|weight| weight >> SPLIT);
    let low = pair(|weight| weight & ((1 << SPLIT) - 1));
    let half = _mm256_set1_epi32(1 << 23);
    let mut at = 0;
    while at < width {
        // The last step may overlap the one before: the same bytes come out again.
        at = at.min(width - STEP);
        let load = |row: &[u8]| {
            // SAFETY: at + 16 is at most the width, which is the length of all rows.
            _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(row.as_ptr().add(at).cast()) })
        };
        let edges = _mm256_add_epi16(load(above), load(below));
        let mut sum = load(inside[0]);
        for row in &inside[1..] {
            sum = _mm256_add_epi16(sum, load(row));
        }
        let mixed = |both: __m256i| {
            let high = _mm256_slli_epi32::<{ SPLIT as i32 }>(_mm256_madd_epi16(both, high));
            let all = _mm256_add_epi32(high, _mm256_madd_epi16(both, low));
            _mm256_srli_epi32::<24>(_mm256_add_epi32(all, half))
        };
        let words = _mm256_packus_epi32(
            mixed(_mm256_unpacklo_epi16(sum, edges)),
            mixed(_mm256_unpackhi_epi16(sum, edges)),
        );
        let bytes = _mm256_packus_epi16(words, words);
        let bytes = _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(bytes));
        // SAFETY: as above, of `out`.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().add(at).cast(), bytes) };
        at += STEP;
    }
}
