//! Colour operations against Pillow's steps written one after the other, for every colour there is.

use super::*;

fn to_hsv_by_steps(r: u8, g: u8, b: u8) -> [u8; 3] {
    let max = r.max(g).max(b);
    let min = r.min(g).min(b);
    if max == min {
        return [0, 0, max];
    }
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

fn to_rgb_by_steps(h: u8, s: u8, v: u8) -> [u8; 3] {
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

/// All colours with one value of red, as planes.
fn slice(red: u8) -> Planes {
    let mut planes = Planes {
        width: 256,
        height: 256,
        data: vec![red; 3 << 16],
    };
    let [_, g, b] = planes.channels_mut();
    for (at, (g, b)) in g.iter_mut().zip(b).enumerate() {
        (*g, *b) = ((at >> 8) as u8, at as u8);
    }
    planes
}

#[test]
fn hues_of_all_colours_are_those_of_single_steps() {
    for red in 0..=255u8 {
        // As many shifts as there are slices; each colour meets one of them.
        let shift = red.wrapping_mul(89);
        let mut planes = slice(red);
        let [r, g, b] = planes.channels_mut();
        turn(r, g, b, shift);
        for at in 0..1 << 16 {
            let (green, blue) = ((at >> 8) as u8, at as u8);
            let [h, s, v] = to_hsv_by_steps(red, green, blue);
            let want = to_rgb_by_steps(h.wrapping_add(shift), s, v);
            assert_eq!([r[at], g[at], b[at]], want, "{red} {green} {blue} {shift}");
        }
    }
}

#[test]
fn all_of_hsv_goes_back_to_the_same_colours() {
    for h in 0..=255 {
        for s in 0..=255 {
            for v in 0..=255 {
                let [r, g, b] = to_rgb_by_steps(h, s, v).map(i32::from);
                let rgb = to_rgb(i32::from(h), i32::from(s), i32::from(v));
                assert_eq!(rgb, [r, g, b], "{h} {s} {v}");
            }
        }
    }
}

#[test]
fn blends_saturate_and_truncate() {
    for factor in [0.6f64, 1.0, 1.4, 0.0, 30.0, -2.0, f64::NAN, f64::INFINITY] {
        let mut planes = slice(200);
        let before = planes.clone();
        brightness(&mut planes, factor);
        let factor = if factor.is_finite() {
            factor as f32
        } else {
            1.0
        };
        for (after, before) in planes.data.iter().zip(&before.data) {
            assert_eq!(
                *after,
                (factor * f32::from(*before)) as u8,
                "{factor} {before}"
            );
        }
    }
}
