//! `rocket-worker data prepare-eval`: archives as they are published become folders of classes. The
//! archives here have every class, and an image or two of each; those with MATLAB's and HDF5 files
//! are made by Python (`eval_published.rs`).

mod eval_support;
mod prepare_support;

use std::fs;

use prepare_support::{Entries, Prepare, folders, image, tar_gz, text, underscored, zip};
use rocket_worker::eval::prepare::RECIPES;
use rocket_worker::eval::{Split, published};

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
