//! Sets that are published without a split. The splits are those of VISSL's scripts, where these
//! can be had again.

use std::collections::{BTreeMap, HashMap};

use super::{Found, Planned, Role, after, is_image, item, last, planned, role};
use crate::eval::prepare::shuffle::{self, Python};

/// The one image of the set whose name has no ending. VISSL counts it, and so do the published 6,085.
const TMP: &str = "BACKGROUND_Google/tmp";

pub(super) fn caltech101_role(path: &str) -> Role {
    const FOLDER: &str = "101_ObjectCategories";
    match after(path, FOLDER) {
        Some(TMP) => Role::Image(TMP.to_owned()),
        _ => role(path, &[], FOLDER),
    }
}

/// 30 images of each class for training, the others for testing, as the VTAB protocol has it. VISSL
/// draws them in an order that depends on the file system; here by digest.
pub(super) fn caltech101(found: &Found) -> Planned {
    let images = shuffle::by_digest("caltech101", found.images.iter().map(String::as_str));
    let mut taken: HashMap<&str, usize> = HashMap::new();
    let mut items = Vec::new();
    for image in images {
        let Some((class, file)) = image.split_once('/') else {
            continue;
        };
        let taken = taken.entry(class).or_default();
        *taken += 1;
        let split = if *taken <= 30 { "train" } else { "test" };
        let file = if image == TMP { "tmp.jpg" } else { file };
        items.push(item(image, split, class, file));
    }
    planned(items)
}

pub(super) fn eurosat_role(path: &str) -> Role {
    match role(path, &[], "2750") {
        Role::Other => role(path, &[], "EuroSAT_RGB"),
        image => image,
    }
}

/// Of each class in sorted order, 1,000 images for training and the next 500 for validation.
pub(super) fn eurosat(found: &Found) -> Planned {
    let mut items = Vec::new();
    for (class, files) in by_class(found) {
        for (i, file) in files.into_iter().take(1500).enumerate() {
            let split = if i < 1000 { "train" } else { "val" };
            items.push(item(format!("{class}/{file}"), split, class, file));
        }
    }
    planned(items)
}

/// Classes and their files, both sorted.
fn by_class<'a>(found: &'a Found) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut classes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for image in &found.images {
        if let Some((class, file)) = image.split_once('/') {
            classes.entry(class).or_default().push(file);
        }
    }
    classes
}

pub(super) fn resisc45_role(path: &str) -> Role {
    let Some(parts) = last(path, 2).filter(|_| is_image(path)) else {
        return Role::Other;
    };
    // `airplane/airplane_001.jpg`, in whatever folder.
    let numbered = parts[1]
        .strip_prefix(parts[0])
        .is_some_and(|rest| rest.starts_with('_'));
    if numbered {
        Role::Image(parts.join("/"))
    } else {
        Role::Other
    }
}

/// Four fifths of each class for training, after a shuffle from seed 42 that goes on from class to class.
pub(super) fn resisc45(found: &Found) -> Planned {
    let mut random = Python::new(42);
    let mut items = Vec::new();
    for (class, mut files) in by_class(found) {
        random.shuffle(&mut files);
        let train = (0.8 * files.len() as f64) as usize;
        let test = (0.2 * files.len() as f64) as usize;
        for (i, file) in files.into_iter().take(train + test).enumerate() {
            let split = if i < train { "train" } else { "test" };
            items.push(item(format!("{class}/{file}"), split, class, file));
        }
    }
    planned(items)
}

pub(super) fn kitti_role(path: &str) -> Role {
    if let Some(label) = after(path, "training/label_2") {
        return Role::Meta(label.to_owned());
    }
    role(path, &[], "training/image_2")
}

/// The class of an image is the distance of its nearest car, van or truck. VISSL's split is drawn
/// without a seed; here by digest, four fifths for training.
pub(super) fn kitti(found: &Found) -> Planned {
    let drawn = shuffle::by_digest("kitti_distance", found.images.iter().map(String::as_str));
    let train = (drawn.len() as f64 * 0.8).round() as usize;
    let mut items = Vec::new();
    for (i, image) in drawn.into_iter().enumerate() {
        let file = format!(
            "{}.txt",
            image.rsplit_once('.').map_or(image, |(stem, _)| stem)
        );
        let mut nearest = f64::NEG_INFINITY;
        for line in found.lines(&file)? {
            let words: Vec<&str> = line.split_whitespace().collect();
            if ["Car", "Van", "Truck"].contains(&words[0]) {
                let distance: Option<f64> = words.get(13).and_then(|word| word.parse().ok());
                let distance = distance.ok_or_else(|| {
                    found.form(&file, format!("has a vehicle without a place: '{line}'"))
                })?;
                nearest = if nearest.is_infinite() {
                    distance
                } else {
                    nearest.min(distance)
                };
            }
        }
        let class = match nearest {
            distance if distance <= 0.0 => "no_vehicle",
            distance if distance <= 8.0 => "below_8",
            distance if distance <= 20.0 => "below_20",
            _ => "above_20",
        };
        let split = if i < train { "train" } else { "val" };
        items.push(item(image, split, class, image));
    }
    planned(items)
}
