//! What each set is published as, and how it becomes folders. The splits are those of VISSL's
//! scripts, which the original's README sends people to, where these can be had again.

mod converted;
mod drawn;
mod listed;
mod matlab;

use super::camelyon;
use super::{Found, Item, Plan, PrepareError, Role};

type Planned = Result<Plan, PrepareError>;

/// How a set is made.
pub struct Recipe {
    /// Name in the catalog.
    pub set: &'static str,
    /// What belongs into the source, for people.
    pub from: &'static str,
    /// Split that is scored, by its folder in the original's catalog.
    pub test: &'static str,
    pub(super) role: fn(&str) -> Role,
    pub(super) plan: fn(&Found) -> Planned,
}

/// All sets that are prepared.
pub static RECIPES: [Recipe; 19] = [
    Recipe {
        set: "imagenet",
        test: "val",
        role: matlab::imagenet_role,
        plan: matlab::imagenet,
        from: "ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz (and ILSVRC2012_img_train.tar for its training split), or the folder ILSVRC of Kaggle's archive with LOC_val_solution.csv",
    },
    Recipe {
        set: "food101",
        test: "test",
        role: listed::food101_role,
        plan: listed::food101,
        from: "food-101.tar.gz",
    },
    Recipe {
        set: "cub200",
        test: "val",
        role: listed::cub200_role,
        plan: listed::cub200,
        from: "CUB_200_2011.tgz",
    },
    Recipe {
        set: "cars",
        test: "test",
        role: matlab::cars_role,
        plan: matlab::cars,
        from: "cars_train.tgz, cars_test.tgz, car_devkit.tgz and cars_test_annos_withlabels.mat, or car_ims.tgz and cars_annos.mat",
    },
    Recipe {
        set: "aircraft",
        test: "test",
        role: listed::aircraft_role,
        plan: listed::aircraft,
        from: "fgvc-aircraft-2013b.tar.gz",
    },
    Recipe {
        set: "dtd",
        test: "test",
        role: listed::dtd_role,
        plan: listed::dtd,
        from: "dtd-r1.0.1.tar.gz",
    },
    Recipe {
        set: "pets",
        test: "test",
        role: listed::pets_role,
        plan: listed::pets,
        from: "images.tar.gz and annotations.tar.gz",
    },
    Recipe {
        set: "caltech101",
        test: "test",
        role: drawn::caltech101_role,
        plan: drawn::caltech101,
        from: "caltech-101.zip or 101_ObjectCategories.tar.gz",
    },
    Recipe {
        set: "flowers",
        test: "test",
        role: matlab::flowers_role,
        plan: matlab::flowers,
        from: "102flowers.tgz, imagelabels.mat and setid.mat",
    },
    Recipe {
        set: "eurosat",
        test: "val",
        role: drawn::eurosat_role,
        plan: drawn::eurosat,
        from: "EuroSAT.zip (or EuroSAT_RGB.zip)",
    },
    Recipe {
        set: "resisc45",
        test: "test",
        role: drawn::resisc45_role,
        plan: drawn::resisc45,
        from: "the folder NWPU-RESISC45, unpacked from NWPU-RESISC45.rar (unrar x NWPU-RESISC45.rar)",
    },
    Recipe {
        set: "gtsrb",
        test: "test",
        role: converted::gtsrb_role,
        plan: converted::gtsrb,
        from: "GTSRB-Training_fixed.zip, GTSRB_Final_Test_Images.zip and GTSRB_Final_Test_GT.zip",
    },
    Recipe {
        set: "kitti_distance",
        test: "val",
        role: drawn::kitti_role,
        plan: drawn::kitti,
        from: "data_object_image_2.zip and data_object_label_2.zip",
    },
    Recipe {
        set: "country211",
        test: "test",
        role: listed::country211_role,
        plan: listed::as_it_lies,
        from: "country211.tgz",
    },
    Recipe {
        set: camelyon::SET,
        test: "val",
        role: |_| Role::Other,
        plan: |_| Ok(Plan::default()),
        from: "camelyonpatch_level_2_split_{train,valid}_{x,y}.h5.gz, packed or not",
    },
    Recipe {
        set: "ucf101_frames",
        test: "val",
        role: listed::ucf101_role,
        plan: listed::ucf101,
        from: "the folder UCF-101, unpacked from UCF101.rar (unrar x UCF101.rar), and UCF101TrainTestSplits-RecognitionTask.zip",
    },
    Recipe {
        set: "clevr_counts",
        test: "val",
        role: converted::clevr_role,
        plan: converted::clevr,
        from: "CLEVR_v1.0.zip",
    },
    Recipe {
        set: "hateful_memes",
        test: "dev",
        role: listed::hateful_role,
        plan: listed::hateful,
        from: "train.jsonl, dev.jsonl (or dev_seen.jsonl) and the folder img",
    },
    Recipe {
        set: "rendered_sst2",
        test: "test",
        role: listed::sst2_role,
        plan: listed::as_it_lies,
        from: "rendered-sst2.tgz",
    },
];

/// What follows the last `folder/` of a path.
fn after<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let mut found = None;
    let mut from = 0;
    while let Some(at) = path[from..].find(folder).map(|at| from + at) {
        let begins = at == 0 || path.as_bytes()[at - 1] == b'/';
        if begins && path.as_bytes().get(at + folder.len()) == Some(&b'/') {
            found = Some(&path[at + folder.len() + 1..]);
        }
        from = at + 1;
    }
    found
}

/// Whether a path is this file, in whatever folder.
fn is(path: &str, file: &str) -> bool {
    path == file || (path.ends_with(file) && path.as_bytes()[path.len() - file.len() - 1] == b'/')
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The last `count` parts of a path.
fn last(path: &str, count: usize) -> Option<Vec<&str>> {
    let mut parts: Vec<&str> = path.rsplit('/').take(count).collect();
    parts.reverse();
    (parts.len() == count).then_some(parts)
}

/// One of these descriptions, or an image below a folder.
fn role(path: &str, metas: &[&str], folder: &str) -> Role {
    if let Some(meta) = metas.iter().find(|meta| is(path, meta)) {
        return Role::Meta((*meta).to_owned());
    }
    after(path, folder)
        .filter(|image| is_image(image))
        .map_or(Role::Other, |image| Role::Image(image.to_owned()))
}

fn is_image(path: &str) -> bool {
    let ending = path.rsplit('.').next().unwrap_or("").to_ascii_lowercase();
    ["jpg", "jpeg", "png", "ppm"].contains(&ending.as_str())
}

fn item(image: impl Into<String>, split: &str, class: &str, file: &str) -> Item {
    Item {
        image: image.into(),
        dest: format!("{split}/{class}/{file}"),
    }
}

fn planned(items: Vec<Item>) -> Planned {
    Ok(Plan {
        items,
        lists: Vec::new(),
    })
}

/// Lines of two words.
fn pairs(found: &Found, file: &str) -> Result<Vec<(String, String)>, PrepareError> {
    let lines = found.lines(file)?;
    let pair = |line: &String| {
        let (first, second) = line
            .split_once(' ')
            .ok_or_else(|| found.form(file, format!("has a line of one word: '{line}'")))?;
        Ok((first.to_owned(), second.trim().to_owned()))
    };
    lines.iter().map(pair).collect()
}
