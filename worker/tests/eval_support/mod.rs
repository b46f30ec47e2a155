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
