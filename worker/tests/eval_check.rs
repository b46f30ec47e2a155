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
    insta::assert_snapshot!(said, @r"
    set             state        images     train  classes    texts
    mnist           ready             3         -       10       10
        note: 3 images; the published set has 10000
        note: 7 of 10 classes have no image
        note: prompts from [DIR]/templates.json, which are those published for pets
        note: there is no training split, which only linear probes need
    cifar10         missing           -         -        -        -
        [DIR]/catalog.json: entry 'cifar10': path '${ROCKET_NOWHERE}/cifar10': the environment variable ROCKET_NOWHERE is not set; set it, or write the path out
    cifar100        missing           -         -        -        -
        [DIR]/catalog.json: entry 'cifar100': there is none of the files [DIR]/sets/cifar100/cifar-100-python/test, [DIR]/sets/cifar100/test, [DIR]/sets/cifar100/cifar-100-binary/test.bin, [DIR]/sets/cifar100/test.bin; unpack cifar-100-python.tar.gz there, or run 'rocket-worker data fetch cifar100 [DIR]/sets/cifar100'
    stl10           malformed         -         -        -        -
        [DIR]/sets/stl10: the class folders of 'stl10' do not match its labels in [DIR]/labels.json:
          label 2 is 'bird', but class 2 of the set is 'car' and 'bird' is class 1
          label 7 is 'horse', but class 7 of the set is 'monkey' and 'horse' is class 6
        give the labels in the set's own order
    gtsrb           missing           -         -        -        -
        [DIR]/catalog.json: entry 'gtsrb': there is no folder [DIR]/sets/gtsrb/val; make it with 'rocket-worker data prepare-eval gtsrb SOURCE', or correct 'path' and 'test'
    kitti_distance  malformed         -         -        -        -
        [DIR]/sets/kitti/val: the class folders of 'kitti_distance' do not match its labels in rocket's own list:
          5 class folders, but 4 classes
          no class for 1 folder: 'backup'
        remove what is too much, and add what is missing
    rendered_sst2   malformed         -         -        -        -
        [DIR]/sets/sst2/val: no image in a class folder of 'rendered_sst2': positive; add images (.jpg .jpeg .png .ppm .bmp .pgm .tif .tiff .webp) or remove the class from folders and labels
    patch_camelyon  malformed         2         -        2        2
        [DIR]/sets/camelyon/val/no_tumor/0.jpg: this image of the evaluation set cannot be read: the file is empty; replace it or remove it from the set
    clevr_counts    malformed         8         -        8        8
        [DIR]/sets/clevr/val_images.npy: lists 8 images of 8 that are not there; the first is [DIR]/sets/clevr/images/1.png
    zoo             malformed         -         -        -        -
        there are no class names of 'zoo': [DIR]/labels.json has 'stl10', and they are not among the published ones that rocket carries. Add 'zoo' to the file
    1 ready, 3 missing, 6 malformed
    ");
    assert_eq!(code, Some(4));

    // What is missing is no error, unless it was asked for by name.
    let (code, said) = sets.check(&["--datasets", "mnist"]);
    insta::assert_snapshot!(said, @r"
    set    state        images     train  classes    texts
    mnist  ready             3         -       10       10
        note: 3 images; the published set has 10000
        note: 7 of 10 classes have no image
        note: prompts from [DIR]/templates.json, which are those published for pets
        note: there is no training split, which only linear probes need
    1 ready, 0 missing, 0 malformed
    ");
    assert_eq!(code, Some(0));
    let (code, said) = sets.check(&["--datasets", "mnist,gtsrb", "--json"]);
    insta::assert_snapshot!(said, @r#"
    [
      {
        "set": "mnist",
        "state": "ready",
        "images": 3,
        "train_images": null,
        "classes": 10,
        "texts": 10,
        "matched": "published",
        "notes": [
          "3 images; the published set has 10000",
          "7 of 10 classes have no image",
          "prompts from [DIR]/templates.json, which are those published for pets",
          "there is no training split, which only linear probes need"
        ]
      },
      {
        "set": "gtsrb",
        "state": "missing",
        "problem": "[DIR]/catalog.json: entry 'gtsrb': there is no folder [DIR]/sets/gtsrb/val; make it with 'rocket-worker data prepare-eval gtsrb SOURCE', or correct 'path' and 'test'",
        "images": null,
        "train_images": null,
        "classes": null,
        "texts": null,
        "matched": null,
        "notes": []
      }
    ]
    "#);
    assert_eq!(code, Some(4));
    let (code, said) = sets.check(&["--datasets", "minst"]);
    insta::assert_snapshot!(said, @"error: [DIR]/catalog.json: there is no entry 'minst'; it has 'mnist', 'cifar10', 'cifar100', 'stl10', 'gtsrb', 'kitti_distance', 'rendered_sst2', 'patch_camelyon', 'clevr_counts', 'zoo'. Choose one of these or add 'minst' to the file");
    assert_eq!(code, Some(3));
    // Nothing is decoded if nothing is to be.
    let (code, said) = sets.check(&["--datasets", "patch_camelyon", "--decode", "0"]);
    insta::assert_snapshot!(said, @r"
    set             state        images     train  classes    texts
    patch_camelyon  ready             2         -        2        2
        note: 2 images; the published set has 32768
        note: there is no training split, which only linear probes need
    1 ready, 0 missing, 0 malformed
    ");
    assert_eq!(code, Some(0));
}

#[test]
fn a_catalog_that_says_what_cannot_be_is_refused_whole() {
    let sets = Sets::new(&json!({
        "mnist": {"path": "sets/mnist", "type": "idx"},
        "pets": {"path": "sets/pets", "type": "imagefolder"},
    }));
    let (code, said) = sets.check(&[]);
    insta::assert_snapshot!(said, @r"
    error: [DIR]/catalog.json: entry 'mnist': unknown type 'idx'; the types are 'imagefolder', 'filelist', 'special'
    [DIR]/catalog.json: entry 'pets': the key 'test' is missing; name the folder below 'path' that holds the class folders ('.' if they lie in 'path' itself)
    ");
    assert_eq!(code, Some(3));
    fs::remove_file(sets.path("catalog.json")).expect("removed");
    let (code, said) = sets.check(&[]);
    insta::assert_snapshot!(said, @"error: [DIR]/catalog.json: cannot read this file: No such file or directory (os error 2)");
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
