//! Sets whose files list the images of each split, or lie in folders of splits.

use std::collections::HashMap;

use serde::Deserialize;

use super::{Found, Item, Planned, Role, is, is_image, item, last, name, pairs, planned, role};

/// Images that lie in folders of split and class already.
pub(super) fn as_it_lies(found: &Found) -> Planned {
    let items = found.images.iter().filter_map(|image| {
        let (split, rest) = image.split_once('/')?;
        let split = if split == "valid" { "val" } else { split };
        Some(Item {
            image: image.clone(),
            dest: format!("{split}/{rest}"),
        })
    });
    planned(items.collect())
}

pub(super) fn splits_role(path: &str) -> Role {
    match last(path, 3) {
        Some(parts) if is_image(path) && ["train", "valid", "test"].contains(&parts[0]) => {
            Role::Image(parts.join("/"))
        }
        _ => Role::Other,
    }
}

pub(super) fn country211_role(path: &str) -> Role {
    splits_role(path)
}

pub(super) fn sst2_role(path: &str) -> Role {
    splits_role(path)
}

pub(super) fn food101_role(path: &str) -> Role {
    role(path, &["meta/train.txt", "meta/test.txt"], "images")
}

pub(super) fn food101(found: &Found) -> Planned {
    let mut items = Vec::new();
    for split in ["train", "test"] {
        for line in found.lines(&format!("meta/{split}.txt"))? {
            items.push(Item {
                image: format!("{line}.jpg"),
                dest: format!("{split}/{line}.jpg"),
            });
        }
    }
    planned(items)
}

pub(super) fn cub200_role(path: &str) -> Role {
    role(path, &["train_test_split.txt", "images.txt"], "images")
}

pub(super) fn cub200(found: &Found) -> Planned {
    let splits = pairs(found, "train_test_split.txt")?;
    let splits: HashMap<&str, &str> = splits
        .iter()
        .map(|(id, train)| (id.as_str(), train.as_str()))
        .collect();
    let images = pairs(found, "images.txt")?;
    let items = images.iter().map(|(id, path)| {
        let split = match splits.get(id.as_str()) {
            Some(&"1") => "train",
            Some(&"0") => "val",
            _ => {
                return Err(found.form(
                    "train_test_split.txt",
                    format!("has no split for image {id}"),
                ));
            }
        };
        Ok(Item {
            image: path.clone(),
            dest: format!("{split}/{path}"),
        })
    });
    planned(items.collect::<Result<_, _>>()?)
}

const AIRCRAFT: [&str; 3] = [
    "images_variant_train.txt",
    "images_variant_val.txt",
    "images_variant_test.txt",
];

pub(super) fn aircraft_role(path: &str) -> Role {
    role(path, &AIRCRAFT, "images")
}

pub(super) fn aircraft(found: &Found) -> Planned {
    let mut items = Vec::new();
    for (split, file) in ["train", "val", "test"].into_iter().zip(AIRCRAFT) {
        for (image, variant) in pairs(found, file)? {
            let image = format!("{image}.jpg");
            items.push(item(
                image.clone(),
                split,
                &variant.replace('/', "-"),
                &image,
            ));
        }
    }
    planned(items)
}

const DTD: [&str; 3] = ["labels/train1.txt", "labels/val1.txt", "labels/test1.txt"];

pub(super) fn dtd_role(path: &str) -> Role {
    role(path, &DTD, "images")
}

pub(super) fn dtd(found: &Found) -> Planned {
    let mut items = Vec::new();
    for (split, file) in ["train", "val", "test"].into_iter().zip(DTD) {
        for image in found.lines(file)? {
            let dest = format!("{split}/{image}");
            items.push(Item { image, dest });
        }
    }
    planned(items)
}

pub(super) fn pets_role(path: &str) -> Role {
    role(
        path,
        &["annotations/trainval.txt", "annotations/test.txt"],
        "images",
    )
}

pub(super) fn pets(found: &Found) -> Planned {
    let mut items = Vec::new();
    for (split, file) in [
        ("train", "annotations/trainval.txt"),
        ("test", "annotations/test.txt"),
    ] {
        for line in found.lines(file)? {
            let image = line.split(' ').next().unwrap_or_default();
            let (breed, _) = image.rsplit_once('_').ok_or_else(|| {
                found.form(file, format!("names an image without a number: '{image}'"))
            })?;
            let image = format!("{image}.jpg");
            items.push(item(image.clone(), split, breed, &image));
        }
    }
    planned(items)
}

pub(super) fn ucf101_role(path: &str) -> Role {
    for list in ["trainlist01.txt", "testlist01.txt"] {
        if is(path, list) {
            return Role::Meta(list.to_owned());
        }
    }
    match last(path, 2) {
        Some(parts) if path.ends_with(".avi") => Role::Image(parts.join("/")),
        _ => Role::Other,
    }
}

pub(super) fn ucf101(found: &Found) -> Planned {
    let mut items = Vec::new();
    for (split, file) in [("train", "trainlist01.txt"), ("val", "testlist01.txt")] {
        for line in found.lines(file)? {
            let video = line.split(' ').next().unwrap_or_default();
            let frame = video.strip_suffix(".avi").unwrap_or(video);
            items.push(Item {
                image: video.to_owned(),
                dest: format!("{split}/{frame}.jpg"),
            });
        }
    }
    planned(items)
}

pub(super) fn hateful_role(path: &str) -> Role {
    role(path, &["train.jsonl", "dev.jsonl", "dev_seen.jsonl"], "img")
}

#[derive(Deserialize)]
struct Meme {
    img: String,
    label: u8,
}

pub(super) fn hateful(found: &Found) -> Planned {
    let dev = if found.has("dev_seen.jsonl") {
        "dev_seen.jsonl"
    } else {
        "dev.jsonl"
    };
    let mut items = Vec::new();
    for (split, file) in [("train", "train.jsonl"), ("dev", dev)] {
        for (i, line) in found.lines(file)?.iter().enumerate() {
            let meme: Meme = serde_json::from_str(line)
                .map_err(|error| found.form(file, format!("line {}: {error}", i + 1)))?;
            let image = name(&meme.img);
            items.push(item(image, split, &meme.label.to_string(), image));
        }
    }
    planned(items)
}
