//! Colour operations as Pillow's ImageEnhance, ImageOps and mode conversions (and torchvision's
//! hue) do them on uint8 RGB.

#[cfg(test)]
mod tests;

use super::Planes;
use super::wide::vectorised;

/// Luma of ITU-R 601 in 16-bit fixed point: Pillow's `convert("L")`.
#[inline(always)]
fn luma(r: u8, g: u8, b: u8) -> u8 {
    let [r, g, b] = [r, g, b].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
}

/// Toward zero, and to the ends of the range where it lies outside: `value as u8`, in a form that the
/// compiler does for many values at once.
#[inline(always)]
fn to_u8(value: f32) -> u8 {
    let inside = value.clamp(0.0, 255.0);
    // SAFETY: within 0 and 255 (factors are finite, so it is no NaN).
    let whole: i32 = unsafe { inside.to_int_unchecked() };
    whole as u8
}

/// Pillow's `Image.blend` of one value: from `base` at 0 over `value` at 1 and beyond, truncated.
#[inline(always)]
fn blend(base: u8, value: u8, factor: f32) -> u8 {
    let (base, value) = (f32::from(base), f32::from(value));
    to_u8(base + factor * (value - base))
}

/// A factor of an experiment or a golden as it is computed with; what is no number changes nothing.
fn finite(factor: f64) -> f32 {
    let factor = factor as f32;
    if factor.is_finite() { factor } else { 1.0 }
}

/// Blends with black: 0 is black, 1 the picture itself.
pub fn brightness(planes: &mut Planes, factor: f64) {
    blend_all(&mut planes.data, 0, finite(factor));
}

/// Blends with the picture's mean gray.
pub fn contrast(planes: &mut Planes, factor: f64) {
    let pixels = (planes.width * planes.height).max(1) as f64;
    let [r, g, b] = planes.channels();
    let mean = (luma_sum(r, g, b) as f64 / pixels + 0.5) as u8;
    blend_all(&mut planes.data, mean, finite(factor));
}

/// Blends with the picture in gray.
pub fn saturation(planes: &mut Planes, factor: f64) {
    let [r, g, b] = planes.channels_mut();
    blend_gray(r, g, b, finite(factor));
}

/// Turns hues by `factor` (a share of the circle, -0.5 to 0.5), through 8-bit HSV, which loses
/// a little even at 0.
pub fn hue(planes: &mut Planes, factor: f64) {
    // The shift wraps modulo 256, as uint8 arithmetic does.
    let shift = (factor * 255.0) as i32 as u8;
    let [r, g, b] = planes.channels_mut();
    turn(r, g, b, shift);
}

/// Gray in three channels.
pub fn grayscale(planes: &mut Planes) {
    let [r, g, b] = planes.channels_mut();
    gray(r, g, b);
}

/// Inverts values from 128 up.
pub fn solarize(planes: &mut Planes) {
    for value in &mut planes.data {
        *value = if *value >= 128 { 255 - *value } else { *value };
    }
}

vectorised! {
    fn blend_all(values: &mut [u8], base: u8, factor: f32) {
        for value in values {
            *value = blend(base, *value, factor);
        }
    }

    fn luma_sum(r: &[u8], g: &[u8], b: &[u8]) -> u64 {
        let mut sum = 0;
        // 32 bits hold the sum of so many.
        const PART: usize = 1 << 16;
        for ((r, g), b) in r.chunks(PART).zip(g.chunks(PART)).zip(b.chunks(PART)) {
            let mut part = 0u32;
            for ((r, g), b) in r.iter().zip(g).zip(b) {
                part += u32::from(luma(*r, *g, *b));
            }
            sum += u64::from(part);
        }
        sum
    }

    fn blend_gray(r: &mut [u8], g: &mut [u8], b: &mut [u8], factor: f32) {
        for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
            let gray = luma(*r, *g, *b);
            *r = blend(gray, *r, factor);
            *g = blend(gray, *g, factor);
            *b = blend(gray, *b, factor);
        }
    }

    fn gray(r: &mut [u8], g: &mut [u8], b: &mut [u8]) {
        for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
            let gray = luma(*r, *g, *b);
            (*r, *g, *b) = (gray, gray, gray);
        }
    }

    fn turn(r: &mut [u8], g: &mut [u8], b: &mut [u8], shift: u8) {
        for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
            let [h, s, v] = to_hsv(i32::from(*r), i32::from(*g), i32::from(*b));
            let rgb = to_rgb((h + i32::from(shift)) & 255, s, v);
            [*r, *g, *b] = rgb.map(|value| value as u8);
        }
    }
}

/// A number that is not negative, cut to a whole one.
#[inline(always)]
fn cut(value: f32) -> i32 {
    // SAFETY: all callers stay within 0 and a few thousand.
    unsafe { value.to_int_unchecked() }
}

/// The whole part of 255 times a share, as if the product were not rounded.
#[inline(always)]
fn of_255(share: f32) -> i32 {
    let whole = cut(share * 255.0);
    // The product may have been rounded up to a whole number. 256 times the share is exact, and so is this
    // difference of near numbers.
    let above = share * 256.0 - whole as f32;
    whole - i32::from(above < share)
}

/// All bits of a condition, to choose with [`pick`]: a comparison that stays one, however the compiler would
/// like to branch on it or look it up, so that many pixels go through at once.
#[inline(always)]
fn mask(condition: bool) -> i32 {
    -i32::from(condition)
}

#[inline(always)]
fn pick(mask: i32, yes: i32, no: i32) -> i32 {
    no ^ ((yes ^ no) & mask)
}

/// Pillow's conversion mixes single and double precision. Everything here is in single precision and without
/// branches, so that it is done for many pixels at once; the results are the same for all colours, which the
/// tests go through.
#[inline(always)]
fn to_hsv(r: i32, g: i32, b: i32) -> [i32; 3] {
    let max = r.max(g).max(b);
    let min = r.min(g).min(b);
    let middle = r + g + b - max - min;
    // Of a gray both quotients are 0, and its hue does not matter.
    let range = (max - min) as f32;
    let saturation = range / max.max(1) as f32;
    let below = (max - middle) as f32 / range.max(1.0);
    // Sectors of 60 degrees around red, green and blue, and on which side of them the hue lies.
    let (red, green) = (mask(r == max), mask(g == max));
    let center = pick(red, 0, pick(green, 2, 4));
    let behind = pick(red, b, pick(green, r, g));
    let side = pick(mask(behind == min), 1, -1);
    let hue = (center + side) as f32 - side as f32 * below;
    let turned = hue / 6.0;
    let turned = if hue < 0.0 { 1.0 + turned } else { turned };
    [of_255(turned), of_255(saturation), max]
}

#[inline(always)]
fn to_rgb(h: i32, s: i32, v: i32) -> [i32; 3] {
    const BY_255: f32 = 1.0 / 255.0;
    const BY_255_SQUARED: f32 = 1.0 / 65025.0;
    let sector = cut((6 * h) as f32 * BY_255 + 0.5 * BY_255);
    let part = 6 * h - 255 * sector;
    // Rising in even sectors, falling in odd ones.
    let part = pick(mask(sector & 1 == 1), part, 255 - part);
    // Numerators below 2^24, which single precision holds exactly.
    let between = cut((v * (65025 - s * part)) as f32 * BY_255_SQUARED + 0.5);
    let least = cut((v * (255 - s)) as f32 * BY_255 + 0.5);
    let either = |a: i32, b: i32| mask(sector == a) | mask(sector == b);
    // A hue of 255 is that of 0, in sector 6, where what rises has not begun to.
    let last = mask(sector == 6);
    let among = |top: i32, low: i32| pick(top, v, pick(low, least, between));
    [
        among(either(0, 5) | last, either(2, 3)),
        among(either(1, 2), either(4, 5)),
        among(either(3, 4), either(0, 1) | last),
    ]
}

/// The four operations of torchvision's `ColorJitter`, with their factors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Jitter {
    /// [`brightness`].
    Brightness(f64),
    /// [`contrast`].
    Contrast(f64),
    /// [`saturation`].
    Saturation(f64),
    /// [`hue`].
    Hue(f64),
}

impl Jitter {
    /// Changes the picture.
    pub fn apply(self, planes: &mut Planes) {
        match self {
            Self::Brightness(factor) => brightness(planes, factor),
            Self::Contrast(factor) => contrast(planes, factor),
            Self::Saturation(factor) => saturation(planes, factor),
            Self::Hue(factor) => hue(planes, factor),
        }
    }
}
