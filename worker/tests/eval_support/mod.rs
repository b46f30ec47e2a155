//! What the evaluation tests share.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};

use rocket_worker::eval::set::Decode;
use rocket_worker::eval::{Catalog, EvalError, EvalSet, Labels, Split, Templates, special};
use serde_json::{Value, json};
use tempfile::TempDir;

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

/// One set `name` in `data`, with published labels and prompts unless a file is written.
pub(crate) struct Set {
    pub(crate) dir: TempDir,
    name: &'static str,
}

impl Set {
    pub(crate) fn new(name: &'static str, kind: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let entry = json!({"path": "data", "type": kind, "train": "train", "test": "val"});
        write_json(&dir.path().join("catalog.json"), &json!({name: entry}));
        fs::create_dir_all(dir.path().join("data")).expect("created");
        Self { dir, name }
    }

    pub(crate) fn labels(self, labels: &Value) -> Self {
        write_json(
            &self.dir.path().join("labels.json"),
            &json!({self.name: labels}),
        );
        self
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn write(&self, file: &str, bytes: &[u8]) {
        let path = self.data().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        fs::write(path, bytes).expect("written");
    }

    pub(crate) fn open_split(&self, split: Split) -> Result<EvalSet, EvalError> {
        let at = |file: &str| self.dir.path().join(file);
        EvalSet::open_split(
            self.name,
            split,
            &Catalog::load(&at("catalog.json"), self.dir.path())?,
            &Labels::load_if_there(&at("labels.json"))?,
            &Templates::load_if_there(&at("templates.json"))?,
            no_decode(),
        )
    }

    pub(crate) fn open(&self) -> EvalSet {
        self.open_split(Split::Test)
            .unwrap_or_else(|e| panic!("{e}"))
    }

    pub(crate) fn error(&self) -> String {
        let error = self.open_split(Split::Test).err().expect("an error");
        error
            .to_string()
            .replace(&format!("{}/", self.dir.path().display()), "")
            .replace(&self.dir.path().display().to_string(), "[DIR]")
    }

    /// First colour of each image, and its class.
    pub(crate) fn read(&self, split: Split) -> Vec<([u8; 3], usize)> {
        let at = |file: &str| self.dir.path().join(file);
        let images = special::read(&at("catalog.json"), self.name, &self.data(), split)
            .unwrap_or_else(|e| panic!("{e}"));
        (0..images.len())
            .map(|i| {
                let data = images.picture(i).data;
                ([data[0], data[1], data[2]], images.labels()[i])
            })
            .collect()
    }
}

/// STL-10's files of a split, with these labels.
pub(crate) fn stl10(set: &Set, split: &str, labels: &[u8]) {
    // A column of ones at the left of each plane: columns come first.
    let plane = [vec![1; 96], vec![0; 95 * 96]].concat();
    let image = [plane.clone(), plane.clone(), plane].concat();
    set.write(
        &format!("stl10_binary/{split}_X.bin"),
        &image.repeat(labels.len()),
    );
    set.write(&format!("stl10_binary/{split}_y.bin"), labels);
}
