//! Sets whose images or labels take another form.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Found, Item, Plan, Planned, Role, after, is, is_image, item, planned, role};

pub(super) fn gtsrb_role(path: &str) -> Role {
    if is(path, "GT-final_test.csv") {
        return Role::Meta("GT-final_test.csv".to_owned());
    }
    let image = if let Some(image) = after(path, "Final_Test/Images") {
        format!("test/{image}")
    } else if let Some(image) =
        after(path, "Final_Training/Images").or_else(|| after(path, "Training"))
    {
        format!("train/{image}")
    } else {
        return Role::Other;
    };
    if is_image(&image) {
        Role::Image(image)
    } else {
        Role::Other
    }
}

pub(super) fn gtsrb(found: &Found) -> Planned {
    const FILE: &str = "GT-final_test.csv";
    // PPM files become PNG.
    let png = |file: &str| format!("{}.png", file.strip_suffix(".ppm").unwrap_or(file));
    let mut items: Vec<Item> = found
        .images
        .iter()
        .filter(|image| image.starts_with("train/"))
        .map(|image| Item {
            image: image.clone(),
            dest: png(image),
        })
        .collect();
    for line in found.lines(FILE)?.iter().skip(1) {
        let cells: Vec<&str> = line.split(';').collect();
        let class: Option<u32> = cells.last().and_then(|class| class.parse().ok());
        let class = class
            .ok_or_else(|| found.form(FILE, format!("has a line without a class: '{line}'")))?;
        items.push(item(
            format!("test/{}", cells[0]),
            "test",
            &format!("{class:05}"),
            &png(cells[0]),
        ));
    }
    planned(items)
}

const CLEVR: [(&str, &str); 2] = [
    ("train", "CLEVR_train_scenes.json"),
    ("val", "CLEVR_val_scenes.json"),
];

pub(super) fn clevr_role(path: &str) -> Role {
    let metas: Vec<&str> = CLEVR.iter().map(|split| split.1).collect();
    match role(path, &metas, "images") {
        // The test split has no scenes.
        Role::Image(image) if image.starts_with("test/") => Role::Other,
        role => role,
    }
}

#[derive(Deserialize)]
struct Scenes {
    scenes: Vec<Scene>,
}

#[derive(Deserialize)]
struct Scene {
    image_filename: String,
    objects: Vec<IgnoredAny>,
}

/// A file list whose labels are `count_<number of objects>`.
pub(super) fn clevr(found: &Found) -> Planned {
    let mut plan = Plan::default();
    for (split, file) in CLEVR {
        if split == "train" && !found.has(file) {
            continue;
        }
        let scenes: Scenes = serde_json::from_slice(found.meta(file)?)
            .map_err(|error| found.form(file, error.to_string()))?;
        let mut list = Vec::new();
        for scene in scenes.scenes {
            let image = format!("{split}/{}", scene.image_filename);
            let dest = format!("images/{image}");
            list.push((dest.clone(), format!("count_{}", scene.objects.len())));
            plan.items.push(Item { image, dest });
        }
        plan.lists.push((split, list));
    }
    Ok(plan)
}
