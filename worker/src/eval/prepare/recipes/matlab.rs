//! Sets whose labels are in MATLAB's files.

use std::collections::HashMap;

use super::{Found, Planned, PrepareError, Role, after, is, is_image, item, name, planned, role};
use crate::eval::prepare::mat::{self, Mat};

const CARS_METAS: [&str; 4] = [
    "cars_train_annos.mat",
    "cars_test_annos_withlabels.mat",
    "cars_meta.mat",
    "cars_annos.mat",
];

pub(super) fn cars_role(path: &str) -> Role {
    if let Some(meta) = CARS_METAS.iter().find(|meta| is(path, meta)) {
        return Role::Meta((*meta).to_owned());
    }
    let folder = ["cars_train", "cars_test", "car_ims"]
        .into_iter()
        .find_map(|folder| Some(format!("{folder}/{}", after(path, folder)?)));
    folder
        .filter(|f| is_image(f))
        .map_or(Role::Other, Role::Image)
}

pub(super) fn cars(found: &Found) -> Planned {
    let mut items = Vec::new();
    if found.has("cars_annos.mat") {
        let file = "cars_annos.mat";
        let variables = matlab(found, file)?;
        let names = car_names(found, file, &variables)?;
        let all = variable(found, file, &variables, "annotations")?;
        let images = texts(found, file, all, "relative_im_path")?;
        let tests = numbers(found, file, all, "test")?;
        for ((image, class), test) in images
            .iter()
            .zip(numbers(found, file, all, "class")?)
            .zip(tests)
        {
            let split = if test == 1 { "test" } else { "train" };
            items.push(item(
                *image,
                split,
                class_of(found, file, &names, class)?,
                name(image),
            ));
        }
        return planned(items);
    }
    let meta = matlab(found, "cars_meta.mat")?;
    let names = car_names(found, "cars_meta.mat", &meta)?;
    for (split, file) in [("train", CARS_METAS[0]), ("test", CARS_METAS[1])] {
        let variables = matlab(found, file)?;
        let all = variable(found, file, &variables, "annotations")?;
        let images = texts(found, file, all, "fname")?;
        for (image, class) in images.iter().zip(numbers(found, file, all, "class")?) {
            let class = class_of(found, file, &names, class)?;
            items.push(item(format!("cars_{split}/{image}"), split, class, image));
        }
    }
    planned(items)
}

/// Folders of the classes, as VISSL's script writes them.
fn car_names(
    found: &Found,
    file: &str,
    variables: &[(String, Mat)],
) -> Result<Vec<String>, PrepareError> {
    let Mat::Cells(cells) = variable(found, file, variables, "class_names")? else {
        return Err(found.form(file, "has class names that are no cells of text"));
    };
    let folder = |(i, cell): (usize, &Mat)| {
        let name = cell
            .text()
            .ok_or_else(|| found.form(file, "has a class name that is no text"))?;
        Ok(format!("{i:03}_{}", name.replace([' ', '/'], "_")))
    };
    cells.iter().enumerate().map(folder).collect()
}

fn class_of<'a>(
    found: &Found,
    file: &str,
    names: &'a [String],
    class: i64,
) -> Result<&'a str, PrepareError> {
    usize::try_from(class - 1)
        .ok()
        .and_then(|index| names.get(index))
        .map(String::as_str)
        .ok_or_else(|| {
            found.form(
                file,
                format!(
                    "has class {class}, but there are classes 1 to {}",
                    names.len()
                ),
            )
        })
}

fn matlab(found: &Found, file: &str) -> Result<Vec<(String, Mat)>, PrepareError> {
    mat::read(found.meta(file)?).map_err(|problem| found.form(file, problem))
}

fn variable<'a>(
    found: &Found,
    file: &str,
    variables: &'a [(String, Mat)],
    name: &str,
) -> Result<&'a Mat, PrepareError> {
    let value = variables.iter().find(|(known, _)| known == name);
    value
        .map(|(_, value)| value)
        .ok_or_else(|| found.form(file, format!("has no variable '{name}'")))
}

fn texts<'a>(
    found: &Found,
    file: &str,
    structs: &'a Mat,
    field: &str,
) -> Result<Vec<&'a str>, PrepareError> {
    structs
        .field(field)
        .and_then(|values| values.into_iter().map(Mat::text).collect())
        .ok_or_else(|| found.form(file, format!("has no text in the field '{field}'")))
}

fn numbers(
    found: &Found,
    file: &str,
    structs: &Mat,
    field: &str,
) -> Result<Vec<i64>, PrepareError> {
    structs
        .field(field)
        .and_then(|values| {
            values
                .into_iter()
                .map(|v| v.number().map(|n| n as i64))
                .collect()
        })
        .ok_or_else(|| found.form(file, format!("has no numbers in the field '{field}'")))
}

fn row(found: &Found, file: &str, name: &str) -> Result<Vec<usize>, PrepareError> {
    let variables = matlab(found, file)?;
    let numbers = variable(found, file, &variables, name)?.numbers();
    numbers
        .map(|numbers| numbers.iter().map(|&n| n as usize).collect())
        .ok_or_else(|| found.form(file, format!("has no numbers in '{name}'")))
}

pub(super) fn flowers_role(path: &str) -> Role {
    role(path, &["imagelabels.mat", "setid.mat"], "jpg")
}

pub(super) fn flowers(found: &Found) -> Planned {
    let labels = row(found, "imagelabels.mat", "labels")?;
    let mut items = Vec::new();
    for (ids, split) in [("trnid", "train"), ("valid", "train"), ("tstid", "test")] {
        for id in row(found, "setid.mat", ids)? {
            let class = id
                .checked_sub(1)
                .and_then(|at| labels.get(at))
                .ok_or_else(|| {
                    found.form(
                        "setid.mat",
                        format!("names image {id}, but there are {} labels", labels.len()),
                    )
                })?;
            let image = format!("image_{id:05}.jpg");
            // Padded, so that sorted folders are in the order of the classes.
            items.push(item(image.clone(), split, &format!("{class:03}"), &image));
        }
    }
    planned(items)
}

pub(super) fn imagenet_role(path: &str) -> Role {
    for meta in [
        "ILSVRC2012_validation_ground_truth.txt",
        "meta.mat",
        "LOC_val_solution.csv",
    ] {
        if is(path, meta) {
            return Role::Meta(meta.to_owned());
        }
    }
    let file = name(path);
    if !file.ends_with(".JPEG") {
        return Role::Other;
    }
    if file.starts_with("ILSVRC2012_val_") {
        return Role::Image(file.to_owned());
    }
    // `n01440764_10026.JPEG`, below a folder or an archive of its class.
    match file.split_once('_') {
        Some((id, _)) if id.len() == 9 && id.starts_with('n') => Role::Image(file.to_owned()),
        _ => Role::Other,
    }
}

pub(super) fn imagenet(found: &Found) -> Planned {
    let mut items = Vec::new();
    for image in &found.images {
        if let Some((id, _)) = image.split_once('_').filter(|_| image.starts_with('n')) {
            items.push(item(image.as_str(), "train", id, image));
        }
    }
    if found.has("LOC_val_solution.csv") {
        const FILE: &str = "LOC_val_solution.csv";
        for line in found.lines(FILE)?.iter().skip(1) {
            let (image, boxes) = line
                .split_once(',')
                .ok_or_else(|| found.form(FILE, format!("has a line without a class: '{line}'")))?;
            let id = boxes.split(' ').next().unwrap_or_default();
            let image = format!("{image}.JPEG");
            items.push(item(image.clone(), "val", id, &image));
        }
        return planned(items);
    }
    const TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";
    let variables = matlab(found, "meta.mat")?;
    let synsets = variable(found, "meta.mat", &variables, "synsets")?;
    let ids = texts(found, "meta.mat", synsets, "WNID")?;
    let numbers = numbers(found, "meta.mat", synsets, "ILSVRC2012_ID")?;
    let of_number: HashMap<i64, &str> = numbers.into_iter().zip(ids).collect();
    for (i, line) in found.lines(TRUTH)?.iter().enumerate() {
        let id = line
            .parse()
            .ok()
            .and_then(|number: i64| of_number.get(&number));
        let id = id.ok_or_else(|| {
            found.form(
                TRUTH,
                format!("line {}: '{line}' is no class of meta.mat", i + 1),
            )
        })?;
        let image = format!("ILSVRC2012_val_{:08}.JPEG", i + 1);
        items.push(item(image.clone(), "val", id, &image));
    }
    planned(items)
}
