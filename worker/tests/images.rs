//! Pictures against recorded ones.

use std::path::Path;

use rocket_worker::parity;

#[test]
fn pictures_and_operations_are_the_recorded_ones() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/images/images.json");
    let groups = parity::check(&file).unwrap();
    let report = &groups[0].report;
    let wrong: Vec<_> = report
        .checks
        .iter()
        .filter(|check| !check.passed())
        .collect();
    assert!(report.checks.len() > 500, "{} checks", report.checks.len());
    assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
    println!("worst: {:?}", report.worst());
}

use rocket_common::experiment::Augment;
use rocket_worker::image::{
    DecodeError, ImageViews, Need, Picture, Recipe, ViewsError, decode, decode_part, ends_early,
    eval_transform, sample_crop,
};
use rocket_worker::random::{Purpose, Stream};

/// Regression: what two levels of a pixel are was allowed where all pixels are equal, and a wrong CRC was passed over.
#[test]
fn a_changed_value_fails() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/images");
    let mut value: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("images.json")).unwrap()).unwrap();
    value["ops"]["hue_0.1"]["factor"] = 0.2.into();
    value["ops"]["hue_0.1"]["crc32"] = 1.into();
    let image = &mut value["images"]["gray.jpg"];
    for key in ["first8", "center8"] {
        let first = &mut image["eval_tensor"][key][0];
        *first = (first.as_f64().unwrap() + 1e-4).into();
    }
    for key in ["sum", "abs_sum", "l2", "min", "max"] {
        let figure = &mut image["eval_tensor"][key];
        *figure = (figure.as_f64().unwrap() * 1.001).into();
    }
    for key in ["decoded_crc32", "eval_crop_crc32", "decoded_sum"] {
        let picture = &mut value["images"]["rgb.png"];
        picture[key] = (picture[key].as_u64().unwrap() + 1).into();
    }
    let source = parity::Source {
        path: folder.join("images.json"),
        value,
    };
    let report = parity::images::check(&source).unwrap();
    let wrong: Vec<&str> = report
        .checks
        .iter()
        .filter(|check| !check.passed())
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(
        wrong,
        [
            "gray.jpg.sum",
            "gray.jpg.abs_sum",
            "gray.jpg.l2",
            "gray.jpg.min",
            "gray.jpg.max",
            "gray.jpg.first8.0",
            "gray.jpg.center8.0",
            "rgb.png.decoded.crc32",
            "rgb.png.decoded_sum",
            "rgb.png.eval.crc32",
            "hue_0.1.crc32",
            "hue_0.1.mean",
            "hue_0.1.large"
        ]
    );
}

/// A decoder of others that panics has met a broken file (here of image-webp, where the first picture of an
/// animation has another size than its frame).
#[test]
fn a_decoder_that_panics_has_met_a_broken_file() {
    let file = include_bytes!("fuzz/found/webp/frame-of-other-size.webp");
    let error = decode(file).unwrap_err().to_string();
    assert!(error.starts_with("the WebP data is broken: "), "{error}");
}

#[test]
fn what_is_no_picture_is_refused() {
    assert_eq!(decode(b""), Err(DecodeError::Empty));
    assert_eq!(
        decode(b"<html>").unwrap_err().to_string(),
        "the file is neither JPEG, PNG, WebP, GIF nor BMP (it begins with 3c 68 74 6d)"
    );
    for start in [
        &b"\xff\xd8\xff\xe0"[..],
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"\xff\xd8",
        b"BM",
        b"RIFF\x20\0\0\0WEBPVP8 ",
    ] {
        assert!(
            matches!(decode(start), Err(DecodeError::Broken { .. })),
            "{start:?}"
        );
    }
}

#[test]
fn files_that_end_early_keep_what_they_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/images/images/src");
    for name in ["rgb.png", "rgb16.png", "rgb420.jpg", "gray.jpg", "cmyk.jpg"] {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let whole = decode(&bytes).unwrap();
        for share in [3, 2] {
            let part = decode(&bytes[..bytes.len() * (share - 1) / share]).unwrap();
            assert_eq!((part.width, part.height), (whole.width, whole.height));
            let quarter = whole.data.len() / 4;
            assert_eq!(part.data[..quarter], whole.data[..quarter], "{name}");
            assert_ne!(part.data, whole.data, "{name}");
        }
    }
    let bytes = std::fs::read(folder.join("tiny.png")).unwrap();
    assert_eq!(eval_transform(&bytes, 32).unwrap().len(), 3 * 32 * 32);
}

#[test]
fn the_first_frame_of_a_gif_is_drawn_where_it_belongs() {
    let gif = |screen: [u8; 2], at: [u8; 2], control: &[u8]| {
        let [width, height] = screen;
        let [left, top] = at;
        // Four grays, of which the second is said to be the background; two pixels, of the colours 1 and 2.
        [
            b"GIF89a".as_slice(),
            &[width, 0, height, 0, 0x81, 1, 0],
            &[10, 10, 10, 20, 20, 20, 30, 30, 30, 40, 40, 40],
            control,
            &[b',', left, 0, top, 0, 2, 0, 1, 0, 0],
            &[2, 2, 0x8c, 0x0a, 0, b';'],
        ]
        .concat()
    };
    let grays = |bytes: &[u8]| {
        let picture = decode(bytes).unwrap();
        let grays: Vec<u8> = picture.data.chunks(3).map(|pixel| pixel[0]).collect();
        (picture.width, picture.height, grays)
    };
    // Screens that are smaller than the frame, and none.
    for screen in [[1, 1], [0, 0]] {
        assert_eq!(grays(&gif(screen, [0, 0], b"")), (2, 1, vec![20, 30]));
    }
    assert_eq!(grays(&gif([1, 1], [1, 0], b"")), (3, 1, vec![10, 20, 30]));
    // The rest has the first colour, or the transparent one.
    let part = gif([3, 2], [1, 1], b"");
    assert_eq!(grays(&part), (3, 2, vec![10, 10, 10, 10, 20, 30]));
    let transparent = gif([3, 2], [1, 1], b"!\xf9\x04\x01\0\0\x03\0");
    assert_eq!(grays(&transparent), (3, 2, vec![40, 40, 40, 40, 20, 30]));
    // Ends early: the block of data is not all there, or there is none; or the frame does not begin.
    for length in [part.len() - 3, part.len() - 5] {
        assert!(ends_early(&part[..length]));
        assert_eq!(grays(&part[..length]), (3, 2, vec![10; 6]));
    }
    assert!(decode(&part[..part.len() - 6]).is_err());
}

/// Headers of pictures of `side` x `side` pixels, and nothing behind them.
fn headers(side: u32) -> Vec<Vec<u8>> {
    let be = side.to_be_bytes();
    let le = side.to_le_bytes();
    let mut chunk = [b"IHDR".as_slice(), &be, &be, &[8, 2, 0, 0, 0]].concat();
    let crc = crc32fast::hash(&chunk);
    chunk.extend(crc.to_be_bytes());
    let png = [b"\x89PNG\r\n\x1a\n\0\0\0\x0d".as_slice(), &chunk].concat();
    let jpeg = [
        b"\xff\xd8\xff\xc0\0\x11\x08".as_slice(),
        &be[2..],
        &be[2..],
        b"\x03\x01\x22\0\x02\x11\0\x03\x11\0",
        b"\xff\xda\0\x0c\x03\x01\0\x02\0\x03\0\0\x3f\0",
    ]
    .concat();
    let sides = [&le[..2], &le[..2]].concat();
    let frame = [b",\0\0\0\0".as_slice(), &sides, &[0, 2]].concat();
    let gif = [b"GIF89a".as_slice(), &sides, &[0, 0, 0], &frame].concat();
    let bmp = [
        b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".as_slice(),
        &le,
        &le,
        &[1, 0, 24, 0],
        &[0; 24],
    ]
    .concat();
    vec![png, jpeg, gif, bmp]
}

#[test]
fn pictures_of_too_many_pixels_are_refused_before_memory_is_taken() {
    let before = resident_bytes();
    for header in headers(60_000) {
        let error = decode_part(&header, |_, _| panic!("asked what is needed")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the picture is 60000 x 60000 pixels; at most 178956970 pixels are read"
        );
    }
    let taken = resident_bytes().saturating_sub(before);
    assert!(taken < 200 << 20, "{taken} bytes");
    for header in headers(0) {
        assert!(decode(&header).is_err());
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_part_of_a_picture_is_that_part_of_the_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/images/images/src");
    for name in [
        "rgb420.jpg",
        "gray.jpg",
        "cmyk.jpg",
        "rgb444_portrait.jpg",
        "rgb.png",
    ] {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let whole = decode(&bytes).unwrap();
        for rows in [1, 17, whole.height - 1, whole.height, whole.height + 9] {
            let mut asked = (0, 0);
            let need = |width, height| {
                asked = (width, height);
                Need { rows, reduction: 1 }
            };
            let part = decode_part(&bytes, need).unwrap();
            assert_eq!(asked, (whole.width, whole.height));
            assert!(part.height >= rows.min(whole.height) && part.width == whole.width);
            assert!(part.data == whole.data[..part.data.len()], "{name} {rows}");
        }
        for reduction in [2, 4, 8] {
            let need = |_, rows| Need { rows, reduction };
            let part = decode_part(&bytes, need).unwrap();
            if name.ends_with(".jpg") {
                let side = |side: usize| side.div_ceil(reduction);
                let want = (side(whole.width), side(whole.height));
                assert_eq!((part.width, part.height), want, "{name} {reduction}");
            } else {
                assert_eq!(part, whole);
            }
        }
    }
}

#[test]
fn pictures_are_reduced_only_as_far_as_no_crop_has_less_pixels_than_its_view() {
    let views = |scale: f64| {
        let augment = Augment {
            weak_min_scale: scale,
            multicrop_min_scale: scale,
            ..Augment::default()
        };
        ImageViews::new(&augment, 32, 2).unwrap()
    };
    for sample in 0..300 {
        for (side, scale) in [(64, 0.9), (200, 0.3), (700, 0.5), (40, 0.08)] {
            let views = views(scale);
            let plans = views.plan(side, side, 1, 0, sample);
            let need = Need::of(&plans, true);
            let smallest = plans
                .iter()
                .map(|plan| plan.rect.width.min(plan.rect.height));
            let smallest = smallest.min().unwrap();
            let lowest = plans.iter().map(|plan| plan.rect.top + plan.rect.height);
            assert_eq!(need.rows, lowest.max().unwrap());
            assert!(need.reduction == 1 || smallest / need.reduction >= 32);
            assert!(need.reduction == 8 || smallest / (need.reduction * 2) < 32);
            assert_eq!(Need::of(&plans, false).reduction, 1);
        }
    }
}

#[test]
fn views_of_a_reduced_picture_are_near_those_of_the_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/images/images/src");
    let bytes = std::fs::read(folder.join("rgb420.jpg")).unwrap();
    let views = ImageViews::new(
        &Augment {
            weak_augment: true,
            ..Augment::default()
        },
        96,
        1,
    )
    .unwrap();
    let whole = decode(&bytes).unwrap();
    let size = (whole.width, whole.height);
    for sample in 0..20 {
        let plans = views.plan(size.0, size.1, 3, 0, sample);
        let need = Need::of(&plans, true);
        assert_eq!(need.reduction, 2, "crops of half of 500 x 333 pixels");
        let reduced = decode_part(&bytes, |_, _| need).unwrap();
        for plan in plans {
            let want = plan.clone().draw(&whole, size);
            let got = plan.draw(&reduced, size);
            let differences = want.data.iter().zip(&got.data);
            let sum: u64 = differences.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            let mean = sum as f64 / want.data.len() as f64;
            assert!(mean < 4.0, "{mean}");
        }
    }
}

#[test]
fn crops_stay_inside_and_follow_their_ranges() {
    let mut areas = 0.0;
    for sample in 0..2000 {
        let mut stream = Stream::new(0, 0, sample, Purpose::Image(0));
        let rect = sample_crop(500, 375, (0.08, 1.0), &mut stream);
        assert!(rect.left + rect.width <= 500 && rect.top + rect.height <= 375);
        let ratio = rect.width as f64 / rect.height as f64;
        assert!((0.74..1.35).contains(&ratio), "{rect:?}");
        areas += (rect.width * rect.height) as f64 / (500.0 * 375.0);
    }
    // The mean of torchvision's way of drawing, for this size and range, over 200,000 draws: large
    // ones that do not fit are drawn again.
    assert!((areas / 2000.0 - 0.4332).abs() < 0.02, "{}", areas / 2000.0);
    for (width, height) in [(1, 1), (1, 900), (900, 1), (2, 3)] {
        let rect = sample_crop(
            width,
            height,
            (0.5, 1.0),
            &mut Stream::new(0, 0, 0, Purpose::Image(0)),
        );
        assert!(rect.width > 0 && rect.height > 0 && rect.width <= width && rect.height <= height);
    }
}

fn views(augment: &Augment) -> Result<ImageViews, ViewsError> {
    ImageViews::new(augment, 32, 2)
}

#[test]
fn settings_decide_recipes() {
    let weak = |views: &ImageViews, view: usize| matches!(views.recipe(view), Recipe::Weak { .. });
    let plain = views(&Augment::default()).unwrap();
    assert!(weak(&plain, 0) && !weak(&plain, 1) && !weak(&plain, 2));
    let all_weak = views(&Augment {
        weak_augment: true,
        ..Augment::default()
    })
    .unwrap();
    assert!((0..3).all(|view| weak(&all_weak, view)));
    let all_strong = views(&Augment {
        strong_augment: true,
        ..Augment::default()
    })
    .unwrap();
    assert!((0..3).all(|view| !weak(&all_strong, view)));
    let either = views(&Augment {
        randaugment: true,
        ..Augment::default()
    })
    .unwrap();
    assert!(matches!(either.recipe(0), Recipe::Either(..)));
    let byol = views(&Augment {
        byol_augment: true,
        ..Augment::default()
    })
    .unwrap();
    let numbers = |view: usize| match byol.recipe(view) {
        Recipe::Strong(recipe) => (recipe.blur_prob, recipe.solarize_prob, recipe.jitter[2]),
        other => panic!("{other:?}"),
    };
    assert_eq!([numbers(1), numbers(2)], [(1.0, 0.0, 0.2), (0.1, 0.2, 0.2)]);
    let both = Augment {
        weak_augment: true,
        strong_augment: true,
        ..Augment::default()
    };
    assert_eq!(views(&both), Err(ViewsError::WeakAndStrong));
    let three = Augment {
        byol_augment: true,
        num_augs: 3,
        ..Augment::default()
    };
    assert_eq!(
        ImageViews::new(&three, 32, 3),
        Err(ViewsError::ByolViews(3))
    );
}

#[test]
fn views_are_functions_of_their_key() {
    let mut picture = Picture::black(60, 40);
    let mut stream = Stream::new(5, 0, 0, Purpose::Order);
    picture
        .data
        .iter_mut()
        .for_each(|value| *value = stream.below(256) as u8);
    let views = views(&Augment {
        solarize_prob: 0.5,
        ..Augment::default()
    })
    .unwrap();
    let draw = |view, epoch, sample| views.draw(&picture, view, 9, epoch, sample);
    for view in 0..3 {
        assert_eq!(draw(view, 0, 1), draw(view, 0, 1));
        assert_ne!(draw(view, 0, 1), draw(view, 1, 1));
        assert_ne!(draw(view, 0, 1), draw(view, 0, 2));
    }
    assert_ne!(draw(1, 0, 1), draw(2, 0, 1));
}
