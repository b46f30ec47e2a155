//! `rocket-worker data prepare-eval`: archives as they are published become folders of classes. The
//! archives here have every class, and an image or two of each; those with MATLAB's and HDF5 files
//! are made by Python (`eval_published.rs`).

mod eval_support;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use eval_support::{no_decode, write_json};
use rocket_worker::eval::prepare::RECIPES;
use rocket_worker::eval::{Catalog, EvalSet, Labels, Split, Templates, published};
use serde_json::json;
use tempfile::TempDir;

/// A file of an archive.
type Entry = (String, Vec<u8>);
type Entries = Vec<Entry>;

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, bytes.as_slice())
            .expect("appended");
    }
    archive.into_inner().expect("an archive")
}

fn tar_gz(entries: &[Entry]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&tar(entries)).expect("packed");
    packed.finish().expect("packed")
}

fn zip(entries: &[Entry]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        archive
            .start_file(name.as_str(), zip::write::SimpleFileOptions::default())
            .expect("started");
        archive.write_all(bytes).expect("written");
    }
    archive.finish().expect("an archive").into_inner()
}

/// A source folder, a destination, and a catalog that leads there.
struct Prepare {
    dir: TempDir,
    set: &'static str,
}

impl Prepare {
    fn new(set: &'static str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("source")).expect("created");
        Self { dir, set }
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    fn dest(&self) -> PathBuf {
        self.dir.path().join("data").join(self.set)
    }

    fn put(&self, file: &str, bytes: &[u8]) {
        let path = self.source().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        fs::write(path, bytes).expect("written");
    }

    /// Code, stdout and stderr, the temporary folder left out.
    fn run(&self, more: &[&str]) -> (Option<i32>, String, String) {
        fs::create_dir_all(self.dir.path().join("data")).expect("created");
        let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
            .args(["data", "prepare-eval", self.set])
            .args([self.source(), self.dest()])
            .args(more)
            .output()
            .expect("rocket-worker starts");
        let plain = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).replace(&self.dir.path().display().to_string(), "[DIR]")
        };
        (
            output.status.code(),
            plain(&output.stdout),
            plain(&output.stderr),
        )
    }

    #[track_caller]
    fn succeeds(&self) -> String {
        let (code, out, err) = self.run(&[]);
        assert_eq!(code, Some(0), "{err}");
        out
    }

    #[track_caller]
    fn fails(&self) -> String {
        let (code, _, err) = self.run(&[]);
        assert_ne!(code, Some(0));
        err
    }

    fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.dest().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }

    /// The set as the repository's catalog opens it.
    fn open(&self, split: Split) -> EvalSet {
        let entry = {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dataset_catalog.json");
            let all: serde_json::Value =
                serde_json::from_slice(&fs::read(file).expect("a catalog")).expect("JSON");
            let mut entry = all[self.set].clone();
            entry["path"] = self.dest().display().to_string().into();
            entry
        };
        let catalog = self.dir.path().join("catalog.json");
        write_json(&catalog, &json!({self.set: entry}));
        let none = Path::new("/nowhere.json");
        EvalSet::open_split(
            self.set,
            split,
            &Catalog::load(&catalog, self.dir.path()).expect("a catalog"),
            &Labels::load_if_there(none).expect("labels"),
            &Templates::load_if_there(none).expect("prompts"),
            no_decode(),
        )
        .unwrap_or_else(|e| panic!("{e}"))
    }

    /// All classes have images, and sorted folders are in the order of the labels, for programs that
    /// go by that.
    #[track_caller]
    fn assert_ordered(&self, split: Split) {
        let open = self.open(split);
        let targets: Vec<usize> = (0..open.samples.len())
            .map(|i| open.samples.target(i))
            .collect();
        assert!(targets.is_sorted(), "{}: {targets:?}", self.set);
        let last = open.class_names.len() - 1;
        assert_eq!((targets.first(), targets.last()), (Some(&0), Some(&last)));
    }
}

/// An image, which nothing looks into.
fn image(name: &str) -> Entry {
    (name.to_owned(), format!("image {name}").into_bytes())
}

fn text(name: &str, lines: &[String]) -> Entry {
    (name.to_owned(), (lines.join("\n") + "\n").into_bytes())
}

fn folders(set: &str, write: impl Fn(&str) -> String) -> Vec<String> {
    match &published::facts(set).expect("facts").folders {
        Some(folders) => folders.clone(),
        None => {
            let names = published::class_names(set).expect("names");
            names.iter().map(|name| write(name)).collect()
        }
    }
}

fn underscored(name: &str) -> String {
    name.replace(' ', "_")
}

#[test]
fn every_set_that_is_not_special_has_a_recipe() {
    let recipes: Vec<&str> = RECIPES.iter().map(|recipe| recipe.set).collect();
    let sets: Vec<&str> = published::names()
        .filter(|set| !rocket_worker::eval::special::SETS.contains(set))
        .collect();
    assert_eq!(recipes, sets);
}

#[test]
fn food101_goes_by_its_lists() {
    let this = Prepare::new("food101");
    let classes = folders("food101", underscored);
    let mut entries = Entries::new();
    let mut lists = [Vec::new(), Vec::new()];
    for class in &classes {
        for i in 0..3 {
            entries.push(image(&format!("food-101/images/{class}/{i}.jpg")));
            lists[usize::from(i == 2)].push(format!("{class}/{i}"));
        }
    }
    entries.push(text("food-101/meta/train.txt", &lists[0]));
    entries.push(text("food-101/meta/test.txt", &lists[1]));
    this.put("food-101.tar.gz", &tar_gz(&entries));
    insta::assert_snapshot!(this.succeeds(), @r"
    food101: 303 images in [DIR]/data/food101
      test: 101 images, 101 classes
      train: 202 images, 101 classes
    note: train has 202 images; the published one has 75750
    note: test has 101 images; the published one has 25250
    ");
    assert_eq!(
        this.read("test/apple_pie/2.jpg"),
        image("food-101/images/apple_pie/2.jpg").1
    );
    this.assert_ordered(Split::Test);
    this.assert_ordered(Split::Train);
    // A second call finds it done.
    insta::assert_snapshot!(this.succeeds(), @r"
    food101: 303 images in [DIR]/data/food101, prepared already
      test: 101 images, 101 classes
      train: 202 images, 101 classes
    note: train has 202 images; the published one has 75750
    note: test has 101 images; the published one has 25250
    ");
}

#[test]
fn cub200_goes_by_its_lists() {
    let this = Prepare::new("cub200");
    let names = published::class_names("cub200").expect("names");
    let mut entries = Entries::new();
    let (mut images, mut splits) = (Vec::new(), Vec::new());
    for (name, number) in names.iter().zip(1..) {
        for train in [0, 1] {
            let path = format!("{number:03}.{}/a_{train}.jpg", underscored(name));
            entries.push(image(&format!("CUB_200_2011/images/{path}")));
            images.push(format!("{} {path}", images.len() + 1));
            splits.push(format!("{} {train}", images.len()));
        }
    }
    entries.push(text("CUB_200_2011/images.txt", &images));
    entries.push(text("CUB_200_2011/train_test_split.txt", &splits));
    this.put("CUB_200_2011.tgz", &tar_gz(&entries));
    insta::assert_snapshot!(this.succeeds(), @r"
    cub200: 400 images in [DIR]/data/cub200
      train: 200 images, 200 classes
      val: 200 images, 200 classes
    note: train has 200 images; the published one has 5994
    note: val has 200 images; the published one has 5794
    ");
    assert!(
        this.dest()
            .join("val/001.Black_footed_Albatross/a_0.jpg")
            .is_file()
    );
    this.assert_ordered(Split::Test);
}

#[test]
fn aircraft_dtd_and_pets_go_by_their_lists() {
    let this = Prepare::new("aircraft");
    let variants = published::class_names("aircraft").expect("names");
    let mut entries = Entries::new();
    for (split, offset) in [("train", 0), ("val", 100), ("test", 200)] {
        let lines: Vec<String> = variants
            .iter()
            .zip(offset..)
            .map(|(variant, i)| format!("{i:07} {variant}"))
            .collect();
        entries.push(text(
            &format!("fgvc-aircraft-2013b/data/images_variant_{split}.txt"),
            &lines,
        ));
    }
    entries.extend((0..300).map(|i| image(&format!("fgvc-aircraft-2013b/data/images/{i:07}.jpg"))));
    this.put("fgvc-aircraft-2013b.tar.gz", &tar_gz(&entries));
    insta::assert_snapshot!(this.succeeds(), @r"
    aircraft: 300 images in [DIR]/data/aircraft
      test: 100 images, 100 classes
      train: 100 images, 100 classes
      val: 100 images, 100 classes
    note: train has 100 images; the published one has 3334
    note: test has 100 images; the published one has 3333
    ");
    assert!(this.dest().join("test/F-16A-B/0000272.jpg").is_file());
    this.assert_ordered(Split::Test);

    // Unpacked, as a folder.
    let this = Prepare::new("dtd");
    let classes = folders("dtd", str::to_owned);
    for (split, i) in [("train", 0), ("val", 1), ("test", 2)] {
        let lines: Vec<String> = classes.iter().map(|c| format!("{c}/{c}_{i}.jpg")).collect();
        let (name, bytes) = text(&format!("dtd/labels/{split}1.txt"), &lines);
        this.put(&name, &bytes);
        lines
            .iter()
            .for_each(|line| this.put(&format!("dtd/images/{line}"), b"image"));
    }
    insta::assert_snapshot!(this.succeeds(), @r"
    dtd: 141 images in [DIR]/data/dtd
      test: 47 images, 47 classes
      train: 47 images, 47 classes
      val: 47 images, 47 classes
    note: train has 47 images; the published one has 1880
    note: test has 47 images; the published one has 1880
    ");
    this.assert_ordered(Split::Test);

    let this = Prepare::new("pets");
    let classes = folders("pets", underscored);
    let mut images = Entries::new();
    let mut annotations = Entries::new();
    for (list, i) in [("trainval", 1), ("test", 20)] {
        let lines: Vec<String> = classes.iter().map(|c| format!("{c}_{i} 1 1 1")).collect();
        annotations.push(text(&format!("annotations/{list}.txt"), &lines));
        images.extend(
            classes
                .iter()
                .map(|c| image(&format!("images/{c}_{i}.jpg"))),
        );
    }
    // What macOS leaves behind, and what the archive has besides.
    images.push(image("images/._Abyssinian_1.jpg"));
    images.push(("images/Abyssinian_34.mat".to_owned(), Vec::new()));
    this.put("images.tar.gz", &tar_gz(&images));
    this.put("annotations.tar.gz", &tar_gz(&annotations));
    insta::assert_snapshot!(this.succeeds(), @r"
    pets: 74 images in [DIR]/data/pets
      test: 37 images, 37 classes
      train: 37 images, 37 classes
    note: train has 37 images; the published one has 3680
    note: test has 37 images; the published one has 3669
    ");
    this.assert_ordered(Split::Test);
}

#[test]
fn caltech101_eurosat_and_resisc45_are_split_the_same_way_everywhere() {
    let this = Prepare::new("caltech101");
    let classes = folders("caltech101", str::to_owned);
    let names = |class: &String| {
        (0..32)
            .map(move |i| format!("101_ObjectCategories/{class}/image_{i:04}.jpg"))
            .collect::<Vec<_>>()
    };
    let mut inner: Entries = classes
        .iter()
        .flat_map(names)
        .map(|name| image(&name))
        .collect();
    inner.push(image("101_ObjectCategories/BACKGROUND_Google/tmp"));
    // An archive within an archive.
    let outer = [(
        "caltech-101/101_ObjectCategories.tar.gz".to_owned(),
        tar_gz(&inner),
    )];
    this.put("caltech-101.zip", &zip(&outer));
    insta::assert_snapshot!(this.succeeds(), @r"
    caltech101: 3265 images in [DIR]/data/caltech101
      test: 205 images, 102 classes
      train: 3060 images, 102 classes
    note: test has 205 images; the published one has 6085
    ");
    this.assert_ordered(Split::Test);
    let list = |folder: &str| {
        let mut files: Vec<String> = fs::read_dir(this.dest().join(folder))
            .expect("a folder")
            .map(|e| {
                e.expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        files.sort();
        files
    };
    // Those of the largest digests.
    assert_eq!(list("test/Faces"), CALTECH_FACES);
    // The one without an ending gets one.
    let background = ["train", "test"].map(|split| list(&format!("{split}/BACKGROUND_Google")));
    assert_eq!(background.concat().len(), 33);
    assert!(background.concat().contains(&"tmp.jpg".to_owned()));

    let this = Prepare::new("eurosat");
    let classes = folders("eurosat", str::to_owned);
    let names = |class: &String| {
        (0..1502)
            .map(move |i| format!("2750/{class}/{class}_{i}.jpg"))
            .collect::<Vec<_>>()
    };
    let entries: Entries = classes
        .iter()
        .flat_map(names)
        .map(|name| (name, vec![1]))
        .collect();
    this.put("EuroSAT.zip", &zip(&entries));
    insta::assert_snapshot!(this.succeeds(), @r"
    eurosat: 15000 images in [DIR]/data/eurosat
      train: 10000 images, 10 classes
      val: 5000 images, 10 classes
    ");
    // Sorted as text: '998' and '999' come last, 1,500 are taken.
    assert!(!this.dest().join("val/River/River_999.jpg").exists());
    assert!(this.dest().join("val/River/River_997.jpg").exists());
    this.assert_ordered(Split::Test);

    let this = Prepare::new("resisc45");
    for class in folders("resisc45", underscored) {
        for i in 1..=10 {
            this.put(
                &format!("NWPU-RESISC45/{class}/{class}_{i:03}.jpg"),
                b"image",
            );
        }
    }
    insta::assert_snapshot!(this.succeeds(), @r"
    resisc45: 450 images in [DIR]/data/resisc45
      test: 90 images, 45 classes
      train: 360 images, 45 classes
    note: train has 360 images; the published one has 25200
    note: test has 90 images; the published one has 6300
    ");
    this.assert_ordered(Split::Test);
    let test = |class: &str| {
        let mut files: Vec<String> = fs::read_dir(this.dest().join("test").join(class))
            .expect("a folder")
            .map(|e| {
                e.expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        files.sort();
        files
    };
    // Python: r = random.Random(42), then r.shuffle of each class's ten files; the last two of ten.
    assert_eq!([test("airplane"), test("wetland")], RESISC45);
}

const CALTECH_FACES: [&str; 2] = ["image_0023.jpg", "image_0026.jpg"];
const RESISC45: [[&str; 2]; 2] = [
    ["airplane_001.jpg", "airplane_002.jpg"],
    ["wetland_001.jpg", "wetland_007.jpg"],
];

/// A PPM of two pixels.
const PPM: &[u8] = b"P6\n# a comment\n2 1\n255\n\x01\x02\x03\xFF\xFE\xFD";

#[test]
fn gtsrb_becomes_png_without_loss() {
    let this = Prepare::new("gtsrb");
    let train: Entries = (0..43)
        .map(|class| {
            (
                format!("GTSRB/Training/{class:05}/00000_00000.ppm"),
                PPM.to_vec(),
            )
        })
        .collect();
    this.put("GTSRB-Training_fixed.zip", &zip(&train));
    let test: Entries = (0..43)
        .map(|i| (format!("GTSRB/Final_Test/Images/{i:05}.ppm"), PPM.to_vec()))
        .collect();
    this.put("GTSRB_Final_Test_Images.zip", &zip(&test));
    let mut lines = vec!["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId".to_owned()];
    lines.extend((0..43).map(|i| format!("{i:05}.ppm;2;1;0;0;1;0;{}\r", 42 - i)));
    this.put(
        "GTSRB_Final_Test_GT.zip",
        &zip(&[text("GT-final_test.csv", &lines)]),
    );
    insta::assert_snapshot!(this.succeeds(), @r"
    gtsrb: 86 images in [DIR]/data/gtsrb
      test: 43 images, 43 classes
      train: 43 images, 43 classes
    note: train has 43 images; the published one has 26640
    note: test has 43 images; the published one has 12630
    ");
    this.assert_ordered(Split::Test);
    let picture = rocket_worker::image::decode(&this.read("test/00042/00000.png")).expect("a PNG");
    assert_eq!((picture.width, picture.height), (2, 1));
    assert_eq!(picture.data, [1, 2, 3, 255, 254, 253]);
}

#[test]
fn kitti_goes_by_the_nearest_vehicle() {
    let this = Prepare::new("kitti_distance");
    let line =
        |kind: &str, z: f64| format!("{kind} 0.0 0 -1.5 1 2 3 4 1.5 1.6 3.9 0.5 1.7 {z} -1.6");
    let mut images = Entries::new();
    let mut labels = Entries::new();
    for i in 0..40 {
        let objects = match i % 4 {
            0 => vec![line("Car", 30.0), line("Pedestrian", 2.0)],
            1 => vec![line("Car", 30.0), line("Truck", 15.5)],
            2 => vec![line("Van", 8.0), line("Car", 9.0)],
            _ => vec![line("DontCare", 1.0)],
        };
        images.push(image(&format!("training/image_2/{i:06}.png")));
        images.push(image(&format!("testing/image_2/{i:06}.png")));
        labels.push(text(&format!("training/label_2/{i:06}.txt"), &objects));
    }
    this.put("data_object_image_2.zip", &zip(&images));
    this.put("data_object_label_2.zip", &zip(&labels));
    insta::assert_snapshot!(this.succeeds(), @r"
    kitti_distance: 40 images in [DIR]/data/kitti_distance
      train: 32 images, 4 classes
      val: 8 images, 4 classes
    note: train has 32 images; the published one has 5985
    note: val has 8 images; the published one has 1496
    ");
    let open = this.open(Split::Train);
    assert!(
        (0..open.samples.len())
            .map(|i| open.samples.target(i))
            .is_sorted()
    );
    for (i, class) in ["above_20", "below_20", "below_8", "no_vehicle"]
        .iter()
        .enumerate()
    {
        let there = |split: &str| {
            this.dest()
                .join(format!("{split}/{class}/{i:06}.png"))
                .exists()
        };
        assert!(there("train") || there("val"), "{class}");
    }
}

#[test]
fn country211_and_sst2_lie_as_they_are_used() {
    let this = Prepare::new("country211");
    let mut entries = Entries::new();
    for code in folders("country211", str::to_owned) {
        entries.extend(
            ["train", "valid", "test"].map(|s| image(&format!("country211/{s}/{code}/a.jpg"))),
        );
    }
    this.put("country211.tgz", &tar_gz(&entries));
    insta::assert_snapshot!(this.succeeds(), @r"
    country211: 633 images in [DIR]/data/country211
      test: 211 images, 211 classes
      train: 211 images, 211 classes
      val: 211 images, 211 classes
    note: train has 211 images; the published one has 31650
    note: test has 211 images; the published one has 21100
    ");
    this.assert_ordered(Split::Test);

    let this = Prepare::new("rendered_sst2");
    let mut entries = Entries::new();
    for class in ["negative", "positive"] {
        entries.extend(
            ["train", "valid", "test"].map(|s| image(&format!("rendered-sst2/{s}/{class}/0.png"))),
        );
    }
    this.put("rendered-sst2.tgz", &tar_gz(&entries));
    insta::assert_snapshot!(this.succeeds(), @r"
    rendered_sst2: 6 images in [DIR]/data/rendered_sst2
      test: 2 images, 2 classes
      train: 2 images, 2 classes
      val: 2 images, 2 classes
    note: train has 2 images; the published one has 6920
    note: test has 2 images; the published one has 1821
    ");
    this.assert_ordered(Split::Test);
}

#[test]
fn clevr_becomes_a_file_list() {
    let this = Prepare::new("clevr_counts");
    let mut entries = Entries::new();
    for split in ["train", "val"] {
        let mut scenes = Vec::new();
        for objects in 3..=10 {
            let file = format!("CLEVR_{split}_{objects:06}.png");
            entries.push(image(&format!("CLEVR_v1.0/images/{split}/{file}")));
            let objects = vec![json!({"shape": "cube"}); objects];
            scenes.push(json!({"image_filename": file, "objects": objects, "split": split}));
        }
        let scenes = json!({"info": {}, "scenes": scenes}).to_string();
        entries.push((
            format!("CLEVR_v1.0/scenes/CLEVR_{split}_scenes.json"),
            scenes.into_bytes(),
        ));
    }
    entries.push(image("CLEVR_v1.0/images/test/CLEVR_test_000000.png"));
    this.put("CLEVR_v1.0.zip", &zip(&entries));
    insta::assert_snapshot!(this.succeeds(), @r"
    clevr_counts: 16 images in [DIR]/data/clevr_counts
      train: 8 images, 8 classes
      val: 8 images, 8 classes
    note: train has 8 images; the published one has 70000
    note: val has 8 images; the published one has 15000
    ");
    let open = this.open(Split::Test);
    let targets: Vec<usize> = (0..8).map(|i| open.samples.target(i)).collect();
    assert_eq!(targets, [1, 2, 3, 4, 5, 6, 7, 0]);
    assert_eq!(
        this.read("images/val/CLEVR_val_000003.png"),
        image("CLEVR_v1.0/images/val/CLEVR_val_000003.png").1
    );
}

#[test]
fn hateful_memes_go_by_their_jsonl() {
    let this = Prepare::new("hateful_memes");
    for (split, ids) in [("train", 0..4), ("dev", 4..6)] {
        let lines: Vec<String> = ids
            .clone()
            .map(|id| {
                json!({"id": id, "img": format!("img/{id:05}.png"), "label": id % 2, "text": "x"})
                    .to_string()
            })
            .collect();
        let (name, bytes) = text(&format!("data/{split}.jsonl"), &lines);
        this.put(&name, &bytes);
        ids.for_each(|id| this.put(&format!("data/img/{id:05}.png"), b"image"));
    }
    insta::assert_snapshot!(this.succeeds(), @r"
    hateful_memes: 6 images in [DIR]/data/hateful_memes
      dev: 2 images, 2 classes
      train: 4 images, 2 classes
    note: train has 4 images; the published one has 8500
    note: dev has 2 images; the published one has 500
    ");
    this.assert_ordered(Split::Test);
    this.put(
        "data/dev_seen.jsonl",
        b"{\"id\": 4, \"img\": \"img/00004.png\"}\n",
    );
    fs::remove_dir_all(this.dest()).expect("removed");
    insta::assert_snapshot!(this.fails(), @"error: [DIR]/source: dev_seen.jsonl: line 1: missing field `label` at line 1 column 33");
}

#[test]
fn imagenet_of_kaggle_goes_by_its_list() {
    let this = Prepare::new("imagenet");
    let ids = folders("imagenet", str::to_owned);
    let mut entries = Entries::new();
    let mut lines = vec!["ImageId,PredictionString".to_owned()];
    for (i, id) in ids.iter().enumerate() {
        let name = format!("ILSVRC2012_val_{:08}", i + 1);
        entries.push(image(&format!("ILSVRC/Data/CLS-LOC/val/{name}.JPEG")));
        entries.push(image(&format!(
            "ILSVRC/Data/CLS-LOC/train/{id}/{id}_{i}.JPEG"
        )));
        lines.push(format!("{name},{id} 85 1 499 272 {id} 1 2 3 4"));
    }
    entries.push(text("LOC_val_solution.csv", &lines));
    this.put("imagenet.tar", &tar(&entries));
    insta::assert_snapshot!(this.succeeds(), @r"
    imagenet: 2000 images in [DIR]/data/imagenet
      train: 1000 images, 1000 classes
      val: 1000 images, 1000 classes
    note: train has 1000 images; the published one has 1281167
    note: val has 1000 images; the published one has 50000
    ");
    this.assert_ordered(Split::Test);
    this.assert_ordered(Split::Train);
}

#[test]
fn an_interrupted_call_goes_on_where_it_was() {
    let this = Prepare::new("rendered_sst2");
    let name = |split: &str, class: &str| format!("rendered-sst2/{split}/{class}/0.png");
    let mut entries = Entries::new();
    for class in ["negative", "positive"] {
        entries.extend(["train", "valid", "test"].map(|split| image(&name(split, class))));
    }
    // Cut off in its last file, as a download that ended early.
    let whole = tar(&entries);
    this.put("rendered-sst2.tar", &whole[..5 * 1024 + 520]);
    let said = this.fails();
    insta::assert_snapshot!(said, @"error: [DIR]/source/rendered-sst2.tar: this archive cannot be read: unexpected EOF during skip; fetch it again");
    assert!(!this.dest().exists());

    // As if it had been killed after one file: that file is kept, and half a file is written again.
    let partial = this.dest().with_file_name("rendered_sst2.preparing");
    fs::create_dir_all(partial.join("test/negative")).expect("created");
    fs::create_dir_all(partial.join("test/positive")).expect("created");
    fs::write(partial.join("test/negative/0.png"), b"kept").expect("written");
    fs::write(partial.join("test/positive/0.png.part"), b"ha").expect("written");
    this.put("rendered-sst2.tar", &whole);
    insta::assert_snapshot!(this.succeeds(), @r"
    rendered_sst2: 6 images in [DIR]/data/rendered_sst2, 1 of them from an earlier call
      test: 2 images, 2 classes
      train: 2 images, 2 classes
      val: 2 images, 2 classes
    note: train has 2 images; the published one has 6920
    note: test has 2 images; the published one has 1821
    ");
    assert_eq!(this.read("test/negative/0.png"), b"kept");
    assert_eq!(
        this.read("test/positive/0.png"),
        image(&name("test", "positive")).1
    );
    assert!(!partial.exists());
}

#[test]
fn what_cannot_be_prepared_is_said_in_a_sentence() {
    let mut said = String::new();
    let mut say = |this: &Prepare| said += &(this.fails() + "\n");
    // Unknown and special sets.
    say(&Prepare::new("food102"));
    say(&Prepare::new("mnist"));
    // Nothing there; a list without its images; an image that is not listed.
    let empty = Prepare::new("pets");
    say(&empty);
    empty.put(
        "annotations/trainval.txt",
        b"Abyssinian_1 1 1 1\nBengal_1 1 1 1\n",
    );
    empty.put("annotations/test.txt", b"Abyssinian_2 1 1 1\n");
    empty.put("images/Abyssinian_1.jpg", b"");
    say(&empty);
    // A path that leads out of the archive, in a zip and in a tar.
    let trap = Prepare::new("eurosat");
    let mut bytes = zip(&[image("2750/River/aa/escape_1.jpg")]);
    // In both places where a zip has it.
    while let Some(at) = bytes.windows(2).position(|w| w == b"aa") {
        bytes[at..at + 2].copy_from_slice(b"..");
    }
    trap.put("a.zip", &bytes);
    say(&trap);
    let trap = Prepare::new("eurosat");
    trap.put("a.tgz", &trap_tar());
    say(&trap);
    // A class that is no folder's name.
    let odd = Prepare::new("aircraft");
    for split in ["train", "val", "test"] {
        odd.put(&format!("images_variant_{split}.txt"), b"0000001 ..\n");
    }
    odd.put("images/0000001.jpg", b"");
    say(&odd);
    // No archive, a damaged one, and a destination in use.
    let damaged = Prepare::new("eurosat");
    damaged.put("EuroSAT.zip", b"PK\x03\x04 and then nothing");
    say(&damaged);
    let used = Prepare::new("eurosat");
    fs::create_dir_all(used.dest()).expect("created");
    fs::write(used.dest().join("mine.txt"), "").expect("written");
    say(&used);
    write_json(
        &used.dest().join("prepared.json"),
        &json!({"version": 1, "set": "pets", "source": "/x", "images": {}, "classes": {}}),
    );
    say(&used);
    insta::assert_snapshot!(said, @r"
    error: there is no evaluation set 'food102'; did you mean 'food101'? the sets are imagenet, food101, cub200, cars, aircraft, dtd, pets, caltech101, flowers, eurosat, resisc45, gtsrb, kitti_distance, country211, patch_camelyon, ucf101_frames, clevr_counts, hateful_memes, rendered_sst2

    error: 'mnist' is read as it is published: unpack it into its folder of the catalog, or run 'rocket-worker data fetch mnist FOLDER'

    error: [DIR]/source: there is no file annotations/trainval.txt; 'pets' is made of images.tar.gz and annotations.tar.gz

    error: [DIR]/source: 2 of the 3 listed images are not there: 'Bengal_1.jpg', 'Abyssinian_2.jpg'; 'pets' is made of images.tar.gz and annotations.tar.gz

    error: [DIR]/source/a.zip: '2750/River/../escape_1.jpg' cannot be read: its path leads out of the archive; such an archive is damaged or a trap: fetch it again

    error: [DIR]/source/a.tgz: '2750/../../evil.jpg' cannot be read: its path leads out of the archive; such an archive is damaged or a trap: fetch it again

    error: [DIR]/source: names an image or class that is no file name: 'train/../0000001.jpg'

    error: [DIR]/source/EuroSAT.zip: this archive cannot be read: invalid Zip archive: Could not find EOCD; fetch it again

    error: [DIR]/data/eurosat: there is something there that this command did not make; name another folder

    error: [DIR]/data/eurosat: the set 'pets' was prepared there; name another folder
    ");
}

/// A gzipped tar with a file `../evil.jpg`, which no library writes.
fn trap_tar() -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    let name = b"2750/../../evil.jpg";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_cksum();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(header.as_bytes()).expect("packed");
    packed.write_all(&[0; 1024]).expect("packed");
    packed.finish().expect("packed")
}

#[test]
fn the_folder_is_the_catalogs_if_none_is_named() {
    let this = Prepare::new("rendered_sst2");
    for (split, class) in [("train", "negative"), ("train", "positive")] {
        this.put(&format!("rendered-sst2/{split}/{class}/0.png"), b"image");
    }
    let catalog = this.dir.path().join("catalog.json");
    let entry =
        json!({"path": "sets/sst2", "type": "imagefolder", "train": "train", "test": "test"});
    write_json(&catalog, &json!({"rendered_sst2": entry}));
    let call = |set: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
            .args(["data", "prepare-eval", set, "--json", "--catalog"])
            .args([&catalog, &this.source()])
            .output()
            .expect("rocket-worker starts");
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).replace(&this.dir.path().display().to_string(), "[DIR]")
    };
    insta::assert_snapshot!(call("rendered_sst2"), @r#"
    {
      "version": 1,
      "set": "rendered_sst2",
      "source": "[DIR]/source",
      "images": {
        "train": 2
      },
      "classes": {
        "train": 2
      },
      "found_written": 0,
      "notes": [
        "train has 2 images; the published one has 6920",
        "there is no split 'test', which is the one that is scored"
      ]
    }
    "#);
    assert!(
        this.dir
            .path()
            .join("sets/sst2/train/positive/0.png")
            .is_file()
    );
    insta::assert_snapshot!(call("pets"), @"error: [DIR]/catalog.json: there is no entry 'pets'; it has 'rendered_sst2'. Choose one of these or add 'pets' to the file");
}

#[test]
fn a_source_that_is_no_archive_is_named() {
    let this = Prepare::new("eurosat");
    let file = this.dir.path().join("EuroSAT.rar");
    File::create(&file).expect("created");
    let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
        .args(["data", "prepare-eval", "eurosat"])
        .args([&file, &this.dest()])
        .output()
        .expect("rocket-worker starts");
    let said = String::from_utf8_lossy(&output.stderr)
        .replace(&this.dir.path().display().to_string(), "[DIR]");
    insta::assert_snapshot!(said, @"error: [DIR]/EuroSAT.rar: this is no archive that can be read (.zip, .tar, .tar.gz, .tgz); name one, or the folder that holds the set's files");
}
