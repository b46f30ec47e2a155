//! The published sets: their lists, and folders as they come.

mod eval_support;

use std::fs;
use std::path::Path;

use eval_support::{Set, image_folder, stl10};
use rocket_common::experiment::PUBLISHED_SETS;
use rocket_worker::eval::classes::Matched;
use rocket_worker::eval::{Catalog, Labels, Templates, published, special};
use serde_json::json;

#[test]
fn the_published_lists_are_whole() {
    let none = Path::new("/nowhere/labels.json");
    let labels = Labels::load_if_there(none).expect("labels");
    let templates = Templates::load_if_there(none).expect("templates");
    let mut table = String::new();
    for set in published::names() {
        let (names, _) = labels.of(set).expect("names");
        let (prompts, _) = templates.of(set).expect("prompts");
        let facts = published::facts(set).expect("facts");
        let folders = facts.folders.as_ref();
        assert!(folders.is_none_or(|f| f.len() == names.len()), "{set}");
        table += &format!(
            "{set} {} classes {} prompts {} + {} images\n",
            names.len(),
            prompts.len(),
            facts.images.train,
            facts.images.test
        );
    }
    insta::assert_snapshot!(table, @r"
    imagenet 1000 classes 80 prompts 1281167 + 50000 images
    mnist 10 classes 1 prompts 60000 + 10000 images
    food101 101 classes 1 prompts 75750 + 25250 images
    cifar10 10 classes 18 prompts 50000 + 10000 images
    cifar100 100 classes 18 prompts 50000 + 10000 images
    cub200 200 classes 1 prompts 5994 + 5794 images
    cars 196 classes 8 prompts 8144 + 8041 images
    aircraft 100 classes 2 prompts 3334 + 3333 images
    dtd 47 classes 8 prompts 1880 + 1880 images
    pets 37 classes 1 prompts 3680 + 3669 images
    caltech101 102 classes 34 prompts 3060 + 6085 images
    flowers 102 classes 1 prompts 2040 + 6149 images
    stl10 10 classes 2 prompts 5000 + 8000 images
    eurosat 10 classes 3 prompts 10000 + 5000 images
    resisc45 45 classes 18 prompts 25200 + 6300 images
    gtsrb 43 classes 3 prompts 26640 + 12630 images
    kitti_distance 4 classes 1 prompts 5985 + 1496 images
    country211 211 classes 5 prompts 31650 + 21100 images
    patch_camelyon 2 classes 1 prompts 262144 + 32768 images
    ucf101_frames 101 classes 48 prompts 9537 + 3783 images
    clevr_counts 8 classes 1 prompts 70000 + 15000 images
    hateful_memes 2 classes 1 prompts 8500 + 500 images
    rendered_sst2 2 classes 1 prompts 6920 + 1821 images
    ");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let catalog = Catalog::load(&repository.join("dataset_catalog.json"), &repository);
    let catalog = catalog.expect("the repository's catalog");
    let entries: Vec<&str> = catalog.entries().iter().map(|e| e.name.as_str()).collect();
    assert_eq!(entries, published::names().collect::<Vec<_>>());
    assert_eq!(entries, PUBLISHED_SETS);
}

/// Each set's folders, as published, open without any list of the user's, and each in its place.
#[test]
fn folders_of_every_published_set_find_their_labels() {
    for set in published::names() {
        if special::SETS.contains(&set) {
            continue;
        }
        let this = Set::new(set, "imagefolder");
        let names = published::class_names(set).expect("names");
        let folders: Vec<String> = match &published::facts(set).expect("facts").folders {
            Some(folders) => folders.clone(),
            None => names.iter().map(|n| n.replace([' ', '/'], "_")).collect(),
        };
        let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
        image_folder(&this.data().join("val"), &folders);
        let open = this.open();
        assert_ne!(open.matched, Matched::SortedOrder, "{set}");
        // One image per folder, in sorted order of the folders.
        let mut sorted: Vec<(&str, usize)> = folders.iter().copied().zip(0..).collect();
        sorted.sort_unstable();
        let targets: Vec<usize> = (0..names.len()).map(|i| open.samples.target(i)).collect();
        assert_eq!(
            targets,
            sorted.iter().map(|s| s.1).collect::<Vec<_>>(),
            "{set}"
        );
    }
}

/// As VISSL's scripts and archives name folders: the numbers of flowers unpadded, birds numbered,
/// aircraft with signs replaced (three of which sort otherwise than their names).
#[test]
fn other_ways_to_write_folders_find_their_labels_too() {
    let flowers = Set::new("flowers", "imagefolder");
    let numbers: Vec<String> = (1..=102).map(|i| i.to_string()).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    image_folder(&flowers.data().join("val"), &numbers);
    let open = flowers.open();
    assert_eq!(open.matched, Matched::Published);
    // '1', '10', '100', ...
    assert_eq!([0, 1, 2].map(|i| open.samples.target(i)), [0, 9, 99]);

    let birds = Set::new("cub200", "imagefolder");
    let names = published::class_names("cub200").expect("names");
    let folders: Vec<String> = names
        .iter()
        .zip(1..)
        .map(|(name, i)| format!("{i:03}.{}", name.replace(' ', "_")))
        .collect();
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    image_folder(&birds.data().join("val"), &folders);
    let open = birds.open();
    assert_eq!(open.matched, Matched::ByName);
    assert!((0..200).all(|i| open.samples.target(i) == i));

    let aircraft = Set::new("aircraft", "imagefolder");
    let names = published::class_names("aircraft").expect("names");
    let folders: Vec<String> = names.iter().map(|n| n.replace([' ', '/'], "-")).collect();
    let mut folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    image_folder(&aircraft.data().join("val"), &folders);
    let open = aircraft.open();
    assert_eq!(open.matched, Matched::ByName);
    folders.sort_unstable();
    let at = folders.iter().position(|f| *f == "BAE-125").expect("there");
    assert_eq!(names[open.samples.target(at)], "BAE-125");
}

#[test]
fn what_does_not_fit_a_published_set_is_refused_with_the_difference() {
    let codes = |set: &str| {
        published::facts(set)
            .and_then(|f| f.folders.clone())
            .expect("folders")
    };
    let extra = Set::new("gtsrb", "imagefolder");
    let mut folders = codes("gtsrb");
    folders.push("00043".to_owned());
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    image_folder(&extra.data().join("val"), &folders);
    insta::assert_snapshot!(extra.error(), @r"
    data/val: the class folders of 'gtsrb' do not match its labels in rocket's own list:
      44 class folders, but 43 classes
      no class for 1 folder: '00043'
    remove what is too much, and add what is missing
    ");

    let missing = Set::new("kitti_distance", "imagefolder");
    image_folder(
        &missing.data().join("val"),
        &["above_20", "below_8", "no_vehicle"],
    );
    insta::assert_snapshot!(missing.error(), @r"
    data/val: the class folders of 'kitti_distance' do not match its labels in rocket's own list:
      3 class folders, but 4 classes
      no folder for 1 class: 'below_20 (a photo i took with a car nearby.)'
    remove what is too much, and add what is missing
    ");

    let empty = Set::new("patch_camelyon", "imagefolder");
    image_folder(&empty.data().join("val"), &["no_tumor", "tumor"]);
    fs::remove_file(empty.data().join("val/tumor/0.jpg")).expect("removed");
    insta::assert_snapshot!(empty.error(), @"data/val: no image in a class folder of 'patch_camelyon': tumor; add images (.jpg .jpeg .png .ppm .bmp .pgm .tif .tiff .webp) or remove the class from folders and labels");

    // The right number of labels, but another set's.
    let other = Set::new("stl10", "special").labels(&json!(published::class_names("cifar10")));
    stl10(&other, "test", &[1, 10]);
    insta::assert_snapshot!(other.error(), @r"
    data: the class folders of 'stl10' do not match its labels in labels.json:
      label 2 is 'bird', but class 2 of the set is 'car' and 'bird' is class 1
      label 7 is 'horse', but class 7 of the set is 'monkey' and 'horse' is class 6
    give the labels in the set's own order
    ");
    let other = Set::new("eurosat", "imagefolder").labels(&json!([
        "forest",
        "annual crop land",
        "brushland",
        "highway",
        "industry",
        "pasture",
        "orchards",
        "homes",
        "river",
        "lake"
    ]));
    let folders = codes("eurosat");
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    image_folder(&other.data().join("val"), &folders);
    insta::assert_snapshot!(other.error(), @r"
    data/val: the class folders of 'eurosat' do not match its labels in labels.json:
      label 0 is 'forest', but class 0 of the set is 'annual crop land' and 'forest' is class 1
      label 1 is 'annual crop land', but class 1 of the set is 'forest' and 'annual crop land' is class 0
    give the labels in the set's own order
    ");
}
