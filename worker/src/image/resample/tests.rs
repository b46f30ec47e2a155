//! The passes for a processor's wide registers against those for any.

use super::*;
use crate::random::{Purpose, Stream};

fn noise(width: usize, height: usize, stream: &mut Stream) -> Picture {
    let mut picture = Picture::black(width, height);
    for value in &mut picture.data {
        // Many at the ends of the range, where the cubic overshoots.
        *value = [0, 255, stream.below(256) as u8][stream.index(3)];
    }
    picture
}

#[cfg(target_arch = "x86_64")]
#[test]
fn wide_registers_give_the_same_bits() {
    if !std::is_x86_feature_detected!("avx2") {
        return;
    }
    let mut stream = Stream::new(1, 0, 0, Purpose::Order);
    for _ in 0..300 {
        let (width, height) = (1 + stream.index(90), 1 + stream.index(60));
        let picture = noise(width, height, &mut stream);
        let (columns, rows) = (1 + stream.index(70), 1 + stream.index(50));
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            let kernel = Kernel::new(width, (0.0, width as f64), columns, filter);
            let mut plain = Picture::black(columns, height);
            plain::horizontal(&picture.data, width * 3, &kernel, &mut plain, 0);
            let mut wide = Picture::black(columns, height);
            // SAFETY: the processor has the feature.
            unsafe { avx2::horizontal(&picture.data, width * 3, &kernel, &mut wide) };
            assert!(plain == wide, "{width} to {columns}");

            let kernel = Kernel::new(height, (0.0, height as f64), rows, filter);
            let mut plain = Picture::black(width, rows);
            plain::vertical(&picture.data, &kernel, &mut plain);
            let mut wide = Picture::black(width, rows);
            // SAFETY: the processor has the feature.
            unsafe { avx2::vertical(&picture.data, &kernel, &mut wide) };
            assert!(plain == wide, "{height} to {rows}");
        }
    }
}

#[test]
fn a_reduced_picture_gives_nearly_the_same_crop() {
    // A smooth picture, and the same at half its size.
    let value = |x: f64, y: f64| (128.0 + 100.0 * (x / 37.0).sin() * (y / 23.0).cos()) as u8;
    let mut whole = Picture::black(201, 151);
    for (at, pixel) in whole.data.chunks_exact_mut(3).enumerate() {
        pixel.fill(value((at % 201) as f64, (at / 201) as f64));
    }
    let half = resize(&whole, whole.bounds(), 101, 76, Filter::Bilinear);
    let rect = Rect {
        top: 13,
        left: 31,
        height: 101,
        width: 99,
    };
    let want = resize(&whole, rect, 32, 32, Filter::Bicubic);
    let got = resize_reduced(&half, (201, 151), rect, 32, 32, Filter::Bicubic);
    let worst = want
        .data
        .iter()
        .zip(&got.data)
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    assert!(worst.unwrap() <= 3, "{worst:?}");
    let same = resize_reduced(&whole, (201, 151), rect, 32, 32, Filter::Bicubic);
    assert_eq!(same, want);
}
