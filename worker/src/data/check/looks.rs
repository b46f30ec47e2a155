//! A fingerprint of how a picture looks, which survives scaling and another compression: which of two
//! neighbours in a coarse grid of gray values is the lighter one, across and down (the "difference
//! hash" of N. Krawetz), with the mean colour and the contrast, since pictures on an even ground have
//! much of the former in common.

use crate::image::Picture;

/// Cells a side of the grid: eight differences a line.
const GRID: usize = 9;
/// Pixels a side that are looked at, about: more changes nothing in a mean.
const LOOKED_AT: usize = 144;
/// Pictures whose cells differ by less than this of 255 have no look: an even colour, a blank page.
const FLAT: f64 = 6.0;
/// Differing bits up to which two pictures look alike.
pub(super) const ALIKE: u32 = 3;
/// And how far apart their colours, of 255, and their contrasts may be.
const SAME_COLOR: u8 = 6;
const SAME_CONTRAST: u8 = 16;

/// How a picture looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// Which cells are lighter than their neighbours, in four parts.
    pub(super) bands: [u32; 4],
    /// Means of red, green and blue.
    pub(super) color: [u8; 3],
    /// Between the darkest and the lightest cell.
    pub(super) contrast: u8,
}

impl Fingerprint {
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let bands = self.bands.iter().zip(&other.bands);
        let bits: u32 = bands.map(|(a, b)| (a ^ b).count_ones()).sum();
        let mut colors = self.color.iter().zip(&other.color);
        bits <= ALIKE
            && colors.all(|(a, b)| a.abs_diff(*b) <= SAME_COLOR)
            && self.contrast.abs_diff(other.contrast) <= SAME_CONTRAST
    }
}

/// The fingerprint of a picture, if it has one.
pub(super) fn fingerprint(picture: &Picture) -> Option<Fingerprint> {
    let (grid, color) = grid(picture)?;
    let cells = grid.iter().flatten();
    let least = cells.clone().copied().fold(f64::INFINITY, f64::min);
    let most = cells.copied().fold(f64::NEG_INFINITY, f64::max);
    if most - least < FLAT {
        return None;
    }
    let mut bits = 0_u128;
    let places = (0..GRID - 1).flat_map(|line| (0..GRID - 1).map(move |place| (line, place)));
    for (line, place) in places {
        let across = grid[line][place] < grid[line][place + 1];
        let down = grid[place][line] < grid[place + 1][line];
        bits = bits << 2 | u128::from(across) << 1 | u128::from(down);
    }
    Some(Fingerprint {
        bands: std::array::from_fn(|band| (bits >> (32 * band)) as u32),
        color,
        contrast: (most - least).round() as u8,
    })
}

/// Mean gray value of each cell, and the mean colour; none if there are fewer pixels than cells.
fn grid(picture: &Picture) -> Option<([[f64; GRID]; GRID], [u8; 3])> {
    let (width, height) = (picture.width, picture.height);
    if width < GRID || height < GRID {
        return None;
    }
    let step = |side: usize| (side / LOOKED_AT).max(1);
    let mut sums = [[(0_u64, 0_u64); GRID]; GRID];
    let (mut color, mut count) = ([0_u64; 3], 0_u64);
    for y in (0..height).step_by(step(height)) {
        let row = picture.row(y);
        let line = &mut sums[y * GRID / height];
        for x in (0..width).step_by(step(width)) {
            let pixel = &row[x * 3..x * 3 + 3];
            // Weights of ITU-R 601, of 256.
            let gray =
                77 * u64::from(pixel[0]) + 150 * u64::from(pixel[1]) + 29 * u64::from(pixel[2]);
            let cell = &mut line[x * GRID / width];
            cell.0 += gray;
            cell.1 += 1;
            for (sum, &value) in color.iter_mut().zip(pixel) {
                *sum += u64::from(value);
            }
            count += 1;
        }
    }
    let grid = sums.map(|line| line.map(|(sum, count)| sum as f64 / 256.0 / count.max(1) as f64));
    Some((grid, color.map(|sum| (sum / count.max(1)) as u8)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Filter, decode, resize};

    const PHOTO: &[u8] = include_bytes!("../../../tests/golden/images/images/src/rgb420.jpg");
    const OTHER: &[u8] =
        include_bytes!("../../../tests/golden/images/images/src/rgb444_portrait.jpg");

    #[test]
    fn the_same_picture_in_another_form_looks_alike() {
        let photo = decode(PHOTO).expect("a photo");
        let look = fingerprint(&photo).expect("a look");
        for (width, height) in [(120, 90), (333, 250), (90, 200)] {
            let small = resize(&photo, photo.bounds(), width, height, Filter::Bicubic);
            let other = fingerprint(&small).expect("a look");
            assert!(look.is_like(&other), "{width} x {height}");
        }
        let mut mirrored = photo.clone();
        for row in mirrored.data.chunks_exact_mut(photo.width * 3) {
            row.reverse();
            row.chunks_exact_mut(3).for_each(<[u8]>::reverse);
        }
        let mirrored = fingerprint(&mirrored).expect("a look");
        assert!(!look.is_like(&mirrored));
        let other = decode(OTHER).expect("a photo");
        let other = fingerprint(&other).expect("a look");
        assert!(!look.is_like(&other));
        // The same in other colours: a flag is not another one.
        let mut tinted = photo;
        for pixel in tinted.data.chunks_exact_mut(3) {
            pixel.rotate_left(1);
        }
        let tinted = fingerprint(&tinted).expect("a look");
        assert!(!look.is_like(&tinted));
    }

    #[test]
    fn an_even_picture_has_no_look() {
        assert_eq!(fingerprint(&Picture::black(100, 100)), None);
        assert_eq!(fingerprint(&Picture::black(5, 100)), None);
    }
}
