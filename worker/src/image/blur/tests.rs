//! The blur against one written pixel by pixel, and its wide registers against none.

use super::*;
use crate::random::{Purpose, Stream};

fn noise(width: usize, height: usize, stream: &mut Stream) -> Planes {
    let values =
        (0..3 * width * height).map(|_| [0, 255, stream.below(256) as u8][stream.index(3)]);
    Planes {
        width,
        height,
        data: values.collect(),
    }
}

/// Each pass with whole 64-bit sums over clamped places.
fn by_pixels(planes: &Planes, sigma: f64) -> Planes {
    let weights = Window::new(box_radius(sigma as f32));
    let radius = weights.radius as isize;
    let mut planes = planes.clone();
    let (width, height) = (planes.width as isize, planes.height as isize);
    for (dx, dy) in [(1, 0), (1, 0), (1, 0), (0, 1), (0, 1), (0, 1)] {
        let before = planes.clone();
        for (c, out) in planes.channels_mut().into_iter().enumerate() {
            let pixel = |x: isize, y: isize| {
                let (x, y) = (x.clamp(0, width - 1), y.clamp(0, height - 1));
                u64::from(before.channels()[c][(y * width + x) as usize])
            };
            for (at, out) in out.iter_mut().enumerate() {
                let (x, y) = (at as isize % width, at as isize / width);
                let place = |offset: isize| pixel(x + dx * offset, y + dy * offset);
                let inside: u64 = (-radius..=radius).map(place).sum();
                let edges = place(-radius - 1) + place(radius + 1);
                let sum = inside * u64::from(weights.inner) + edges * u64::from(weights.edge);
                *out = ((sum + (1 << 23)) >> 24) as u8;
            }
        }
    }
    planes
}

#[test]
fn blurs_of_all_radii_are_those_of_single_pixels() {
    let mut stream = Stream::new(2, 0, 0, Purpose::Order);
    for round in 0..60 {
        let (width, height) = (1 + stream.index(50), 1 + stream.index(30));
        let planes = noise(width, height, &mut stream);
        let sigma = stream.range(0.1, [2.0, 9.0][round % 2]);
        let mut blurred = planes.clone();
        gaussian_blur(&mut blurred, sigma);
        assert!(
            blurred == by_pixels(&planes, sigma),
            "{width} x {height}, {sigma}"
        );
    }
}

#[test]
fn rows_without_wide_registers_are_the_same() {
    let mut stream = Stream::new(3, 0, 0, Purpose::Order);
    for _ in 0..50 {
        let width = 1 + stream.index(70);
        let planes = noise(width, 2, &mut stream);
        let row = |at: usize| &planes.data[at * width..][..width];
        let weights = Window::new(box_radius(stream.range(0.1, 2.0) as f32));
        let (mut any, mut plain) = (vec![0; width], vec![0; width]);
        let inside = [row(0), row(1), row(2)];
        mix(&mut any, inside, row(3), row(4), &weights);
        mix_plain(&mut plain, inside, row(3), row(4), &weights);
        assert_eq!(any, plain);
        mix(&mut any, [row(0)], row(3), row(4), &weights);
        mix_plain(&mut plain, [row(0)], row(3), row(4), &weights);
        assert_eq!(any, plain);
    }
}
