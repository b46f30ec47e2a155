//! Pictures in the layout of tensors, one plane per channel: what colour operations and the blur work
//! on, since every pixel's channels are then apart and whole rows go through the processor's lanes.

use super::Picture;
use super::wide::vectorised;

/// An 8-bit RGB picture, one plane per channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Planes {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[3, height, width]`.
    pub data: Vec<u8>,
}

impl Planes {
    /// The same pixels, channel by channel.
    #[must_use]
    pub fn of(picture: &Picture) -> Self {
        let mut data = vec![0; picture.data.len()];
        let pixels = picture.width * picture.height;
        let (r, rest) = data.split_at_mut(pixels);
        let (g, b) = rest.split_at_mut(pixels);
        separate(&picture.data, r, g, b);
        Self {
            width: picture.width,
            height: picture.height,
            data,
        }
    }

    /// The same pixels, interleaved.
    #[must_use]
    pub fn to_picture(&self) -> Picture {
        let [r, g, b] = self.channels();
        let mut picture = Picture::black(self.width, self.height);
        let pixels = picture.data.chunks_exact_mut(3);
        for (pixel, ((r, g), b)) in pixels.zip(r.iter().zip(g).zip(b)) {
            pixel.copy_from_slice(&[*r, *g, *b]);
        }
        picture
    }

    /// Red, green and blue.
    #[must_use]
    pub fn channels(&self) -> [&[u8]; 3] {
        let pixels = self.width * self.height;
        let (r, rest) = self.data.split_at(pixels);
        let (g, b) = rest.split_at(pixels);
        [r, g, b]
    }

    /// Red, green and blue, to be changed.
    pub fn channels_mut(&mut self) -> [&mut [u8]; 3] {
        let pixels = self.width * self.height;
        let (r, rest) = self.data.split_at_mut(pixels);
        let (g, b) = rest.split_at_mut(pixels);
        [r, g, b]
    }
}

vectorised! {
    /// Interleaved pixels to three planes.
    fn separate(pixels: &[u8], r: &mut [u8], g: &mut [u8], b: &mut [u8]) {
        let planes = r.iter_mut().zip(g).zip(b);
        for (pixel, ((r, g), b)) in pixels.chunks_exact(3).zip(planes) {
            *r = pixel[0];
            *g = pixel[1];
            *b = pixel[2];
        }
    }
}
