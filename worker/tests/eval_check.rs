//! `rocket-worker data check --catalog`: sets that are ready, missing and malformed.

mod eval_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use eval_support::{image_folder, write_json};
use rocket_worker::data::npy_write::texts;
use rocket_worker::eval::published;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A catalog and its sets, all in `sets`.
struct Sets {
    dir: TempDir,
}

impl Sets {
    fn new(catalog: &Value) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        write_json(&dir.path().join("catalog.json"), catalog);
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        fs::write(path, bytes).expect("written");
    }

    /// Code and what was said, the temporary folder left out.
    fn check(&self, more: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
            .args(["data", "check", "--catalog"])
            .arg(self.path("catalog.json"))
            .args(more)
            .env_remove("ROCKET_NOWHERE")
            .output()
            .expect("rocket-worker starts");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        (
            output.status.code(),
            said.replace(&self.dir.path().display().to_string(), "[DIR]"),
        )
    }
}

/// MNIST's test files with these labels.
fn mnist(sets: &Sets, folder: &str, labels: &[u8]) {
    let count = (labels.len() as u32).to_be_bytes();
    let side = 28_u32.to_be_bytes();
    let head: Vec<u8> = [[0, 0, 8, 3], count, side, side].concat();
    let pixels: Vec<u8> = labels.iter().flat_map(|&label| [label * 20; 784]).collect();
    sets.write(
        &format!("{folder}/t10k-images-idx3-ubyte"),
        &[head, pixels].concat(),
    );
    let head: Vec<u8> = [[0, 0, 8, 1], count].concat();
    sets.write(
        &format!("{folder}/t10k-labels-idx1-ubyte"),
        &[head.as_slice(), labels].concat(),
    );
}

fn folders(path: &str) -> Value {
    json!({"path": path, "type": "imagefolder", "train": "train", "test": "val"})
}

#[test]
fn each_set_is_ready_missing_or_malformed_with_the_difference() {
    let special = |path: &str| json!({"path": path, "type": "special"});
    let sets = Sets::new(&json!({
        "mnist": special("sets/mnist"),
        "cifar10": special("${ROCKET_NOWHERE}/cifar10"),
        "cifar100": special("sets/cifar100"),
        "stl10": special("sets/stl10"),
        "gtsrb": folders("sets/gtsrb"),
        "kitti_distance": folders("sets/kitti"),
        "rendered_sst2": folders("sets/sst2"),
        "patch_camelyon": folders("sets/camelyon"),
        "clevr_counts": {"path": "sets/clevr", "type": "filelist", "train": "train", "test": "val"},
        "zoo": folders("sets/zoo"),
    }));
    mnist(&sets, "sets/mnist", &[7, 2, 1]);
    // Prompts of another set.
    write_json(
        &sets.path("templates.json"),
        &json!({"mnist": ["a photo of a {}, a type of pet."]}),
    );
    // Names of another set with as many classes.
    write_json(
        &sets.path("labels.json"),
        &json!({"stl10": published::class_names("cifar10")}),
    );
    sets.write("sets/stl10/stl10_binary/test_X.bin", &[0; 3 * 96 * 96]);
    sets.write("sets/stl10/stl10_binary/test_y.bin", &[1]);
    // A folder too many, a class without an image, an image that is none.
    image_folder(
        &sets.path("sets/kitti/val"),
        &["above_20", "backup", "below_20", "below_8", "no_vehicle"],
    );
    image_folder(&sets.path("sets/sst2/val"), &["negative", "positive"]);
    fs::remove_file(sets.path("sets/sst2/val/positive/0.jpg")).expect("removed");
    image_folder(&sets.path("sets/camelyon/val"), &["no_tumor", "tumor"]);
    // A list of files that are not there.
    let counts: Vec<String> = (3..=10).map(|n| format!("count_{n}")).collect();
    let counts: Vec<&str> = counts.iter().map(String::as_str).collect();
    sets.write("sets/clevr/val_images.npy", &texts(&["images/1.png"; 8]));
    sets.write("sets/clevr/val_labels.npy", &texts(&counts));
    let (code, said) = sets.check(&[]);
    insta::assert_snapshot!(said, @"");
    assert_eq!(code, Some(4));

    // What is missing is no error, unless it was asked for by name.
    let (code, said) = sets.check(&["--datasets", "mnist"]);
    insta::assert_snapshot!(said, @"");
    assert_eq!(code, Some(0));
    let (code, said) = sets.check(&["--datasets", "mnist,gtsrb", "--json"]);
    insta::assert_snapshot!(said, @"");
    assert_eq!(code, Some(4));
    let (code, said) = sets.check(&["--datasets", "minst"]);
    insta::assert_snapshot!(said, @"");
    assert_eq!(code, Some(3));
    // Nothing is decoded if nothing is to be.
    let (code, said) = sets.check(&["--datasets", "patch_camelyon", "--decode", "0"]);
    insta::assert_snapshot!(said, @"");
    assert_eq!(code, Some(0));
}

#[test]
fn a_catalog_that_says_what_cannot_be_is_refused_whole() {
    let sets = Sets::new(&json!({
        "mnist": {"path": "sets/mnist", "type": "idx"},
        "pets": {"path": "sets/pets", "type": "imagefolder"},
    }));
    let (code, said) = sets.check(&[]);
    insta::assert_snapshot!(said, @"");
    assert_eq!(code, Some(3));
    fs::remove_file(sets.path("catalog.json")).expect("removed");
    let (code, said) = sets.check(&[]);
    insta::assert_snapshot!(said, @"");
    assert_eq!(code, Some(4));
}

/// The catalog of this repository, without any data.
#[test]
fn the_repositorys_catalog_is_read_as_it_is() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dataset_catalog.json");
    let text = fs::read_to_string(file).expect("a catalog");
    let sets = Sets::new(&json!({}));
    let nowhere = sets.path("nowhere").display().to_string();
    sets.write(
        "catalog.json",
        text.replace("${ROCKET_DATASETS}", &nowhere).as_bytes(),
    );
    let (code, said) = sets.check(&[]);
    assert!(
        said.ends_with("0 ready, 23 missing, 0 malformed\n"),
        "{said}"
    );
    assert_eq!(code, Some(0));
}
