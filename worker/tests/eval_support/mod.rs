//! What the evaluation tests share.
#![allow(dead_code)]

use std::fs;
use std::path::Path;

use rocket_worker::eval::set::Decode;
use serde_json::Value;

/// Writes a JSON file.
pub(crate) fn write_json(path: &Path, value: &Value) {
    fs::write(path, serde_json::to_vec_pretty(value).expect("JSON")).expect("written");
}

/// Class folders with one file `0.jpg` each.
pub(crate) fn image_folder(folder: &Path, classes: &[&str]) {
    fs::create_dir_all(folder).expect("created");
    for class in classes {
        fs::create_dir_all(folder.join(class)).expect("created");
        fs::write(folder.join(class).join("0.jpg"), b"").expect("written");
    }
}

/// For sets whose images are not looked at.
pub(crate) fn no_decode() -> Box<Decode> {
    Box::new(|_, _, _| Err("not decoded in this test".to_owned()))
}

/// A number in [-1, 1) that is a function of a name and a counter (splitmix64 over FNV-1a).
pub(crate) fn hash(name: &str, i: u64) -> f32 {
    let start = 0xCBF2_9CE4_8422_2325_u64;
    let seed = name.bytes().fold(start, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3)
    });
    let mut z = seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
}
