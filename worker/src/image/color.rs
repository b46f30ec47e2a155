//! Colour operations as Pillow's ImageEnhance, ImageOps and mode conversions (and torchvision's
//! hue) do them on uint8 RGB.

use super::Picture;

/// Luma of ITU-R 601 in 16-bit fixed point: Pillow's `convert("L")`.
fn luma(pixel: &[u8]) -> u8 {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
}

/// Pillow's `Image.blend` of one value: from `base` at 0 over `value` at 1 and beyond, truncated.
fn blend(base: u8, value: u8, factor: f32) -> u8 {
    let mixed = f32::from(base) + factor * (f32::from(value) - f32::from(base));
    // `as` truncates toward zero and saturates.
    mixed as u8
}

/// Blends with black: 0 is black, 1 the picture itself.
pub fn brightness(picture: &mut Picture, factor: f64) {
    let table: [u8; 256] = std::array::from_fn(|value| blend(0, value as u8, factor as f32));
    for value in &mut picture.data {
        *value = table[usize::from(*value)];
    }
}

/// Blends with the picture's mean gray.
pub fn contrast(picture: &mut Picture, factor: f64) {
    let pixels = (picture.width * picture.height).max(1) as f64;
    let sum: u64 = picture
        .data
        .chunks_exact(3)
        .map(|pixel| u64::from(luma(pixel)))
        .sum();
    let mean = (sum as f64 / pixels + 0.5) as u8;
    let table: [u8; 256] = std::array::from_fn(|value| blend(mean, value as u8, factor as f32));
    for value in &mut picture.data {
        *value = table[usize::from(*value)];
    }
}

/// Blends with the picture in gray.
pub fn saturation(picture: &mut Picture, factor: f64) {
    let factor = factor as f32;
    for pixel in picture.data.chunks_exact_mut(3) {
        let gray = luma(pixel);
        for value in pixel {
            *value = blend(gray, *value, factor);
        }
    }
}

/// Turns hues by `factor` (a share of the circle, -0.5 to 0.5), through 8-bit HSV, which loses
/// a little even at 0.
pub fn hue(picture: &mut Picture, factor: f64) {
    // The shift wraps modulo 256, as uint8 arithmetic does.
    let shift = (factor * 255.0) as i32 as u8;
    for pixel in picture.data.chunks_exact_mut(3) {
        let [h, s, v] = to_hsv(pixel[0], pixel[1], pixel[2]);
        pixel.copy_from_slice(&to_rgb(h.wrapping_add(shift), s, v));
    }
}

fn to_hsv(r: u8, g: u8, b: u8) -> [u8; 3] {
    let max = r.max(g).max(b);
    let min = r.min(g).min(b);
    if max == min {
        return [0, 0, max];
    }
    // Single and double precision are mixed as in Pillow's C, where 255.0 and 6.0 are doubles.
    let range = f32::from(max - min);
    let saturation = range / f32::from(max);
    let [rc, gc, bc] = [r, g, b].map(|value| f32::from(max - value) / range);
    let hue = if r == max {
        bc - gc
    } else if g == max {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let hue = ((f64::from(hue) / 6.0 + 1.0) % 1.0) as f32;
    [
        (f64::from(hue) * 255.0) as u8,
        (f64::from(saturation) * 255.0) as u8,
        max,
    ]
}

fn to_rgb(h: u8, s: u8, v: u8) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let scaled = f64::from(f32::from(h)) * 6.0 / 255.0;
    let sector = scaled.floor();
    let f = (scaled - f64::from(sector as f32)) as f32;
    let fs = (f64::from(f32::from(s)) / 255.0) as f32;
    let value = f64::from(f32::from(v));
    let round = |x: f64| x.round() as u8;
    let p = round(value * (1.0 - f64::from(fs)));
    let q = round(value * (1.0 - f64::from(fs * f)));
    let t = round(value * (1.0 - f64::from(fs) * (1.0 - f64::from(f))));
    match sector as u8 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

/// Gray in three channels.
pub fn grayscale(picture: &mut Picture) {
    for pixel in picture.data.chunks_exact_mut(3) {
        let gray = luma(pixel);
        pixel.fill(gray);
    }
}

/// Inverts values from 128 up.
pub fn solarize(picture: &mut Picture) {
    for value in &mut picture.data {
        if *value >= 128 {
            *value = 255 - *value;
        }
    }
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
    pub fn apply(self, picture: &mut Picture) {
        match self {
            Self::Brightness(factor) => brightness(picture, factor),
            Self::Contrast(factor) => contrast(picture, factor),
            Self::Saturation(factor) => saturation(picture, factor),
            Self::Hue(factor) => hue(picture, factor),
        }
    }
}
