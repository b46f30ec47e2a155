//! Turns the archives that evaluation sets are published as into folders of classes and file lists.
//!
//! A set's recipe says which files of a source are its images and which describe them, and makes a
//! plan of these; the source is then read a second time, and what the plan wants is written. Nothing
//! is unpacked that is not wanted. All is written to `DEST.preparing`, each file whole or not at all,
//! and renamed when it is complete, so that an interrupted call goes on where it was.

mod camelyon;
mod convert;
mod error;
mod mat;
mod members;
mod recipes;
mod record;
mod shuffle;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rocket_common::atomic;
use sha2::{Digest, Sha256};

use super::error::some_of;
use super::special;
use crate::data::npy_write;
pub use error::PrepareError;
pub use recipes::{RECIPES, Recipe};
pub use record::{RECORD, Record};

/// Name of the file, while a set is being prepared, that says of which images.
const PLAN: &str = "plan.sha256";

/// What a file of the source is to a set.
pub(crate) enum Role {
    /// It describes the images; by the name that the recipe asks for it with.
    Meta(String),
    /// An image, by the name that the plan asks for it with.
    Image(String),
    /// Nothing that is needed.
    Other,
}

/// What was found in a source.
pub(crate) struct Found<'a> {
    source: &'a Path,
    recipe: &'a Recipe,
    metas: HashMap<String, Vec<u8>>,
    images: BTreeSet<String>,
}

/// One image and where it goes, by a path below the destination.
pub(crate) struct Item {
    image: String,
    dest: String,
}

/// What is to be written.
#[derive(Default)]
pub(crate) struct Plan {
    items: Vec<Item>,
    /// File lists: split, and per image its path below the destination and its label.
    lists: Vec<(&'static str, Vec<(String, String)>)>,
}

/// How a call ended.
#[derive(Debug)]
pub struct Prepared {
    /// What is there now.
    pub record: Record,
    /// Files that an earlier call had written already; all, if it was complete.
    pub found_written: usize,
    /// What differs from the published numbers.
    pub notes: Vec<String>,
}

/// Prepares the set `set` from `source` into `dest`. `progress` is told how many files are written,
/// out of how many.
///
/// # Errors
/// See [`PrepareError`]. What was written stays in `DEST.preparing` for the next call.
pub fn prepare(
    set: &str,
    source: &Path,
    dest: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Prepared, PrepareError> {
    let recipe = recipe(set)?;
    if let Some(record) = record::earlier(recipe, dest)? {
        let found_written = record.images.values().sum();
        return Ok(Prepared {
            notes: record::notes(&record),
            record,
            found_written,
        });
    }
    let partial = partial(dest)?;
    let (plan, found_written) = if recipe.set == camelyon::SET {
        camelyon::write(recipe, source, &partial, progress)?
    } else {
        let plan = plan(recipe, source)?;
        let items = plan.items.iter();
        let items: String = items
            .map(|item| format!("{}\n{}\n", item.image, item.dest))
            .collect();
        begin(&partial, &items)?;
        let found_written = write(recipe, source, &plan.items, &partial, progress)?;
        for (split, images) in &plan.lists {
            write_list(&partial, split, images)?;
        }
        (plan, found_written)
    };
    let record = record::record(recipe, source, &plan);
    let file = partial.join(RECORD);
    atomic::write_json(&file, &record)
        .map_err(|error| PrepareError::io("write", &file, std::io::Error::other(error)))?;
    let _ = fs::remove_file(partial.join(PLAN));
    // An empty folder may stand in the place.
    let _ = fs::remove_dir(dest);
    fs::rename(&partial, dest).map_err(|cause| PrepareError::io("put in place", dest, cause))?;
    Ok(Prepared {
        notes: record::notes(&record),
        record,
        found_written,
    })
}

fn recipe(set: &str) -> Result<&'static Recipe, PrepareError> {
    if let Some(recipe) = RECIPES.iter().find(|recipe| recipe.set == set) {
        return Ok(recipe);
    }
    if special::SETS.contains(&set) {
        return Err(PrepareError::Set(format!(
            "'{set}' is read as it is published: unpack it into its folder of the catalog, or run 'rocket-worker data fetch {set} FOLDER'"
        )));
    }
    let known: Vec<&str> = RECIPES.iter().map(|recipe| recipe.set).collect();
    let near = rocket_common::run_dir::suggest(set, known.iter().copied())
        .map_or_else(String::new, |near| format!("did you mean '{near}'? "));
    Err(PrepareError::Set(format!(
        "there is no evaluation set '{set}'; {near}the sets are {}",
        known.join(", ")
    )))
}

fn partial(dest: &Path) -> Result<PathBuf, PrepareError> {
    let Some(name) = dest.file_name() else {
        return Err(PrepareError::Dest {
            dest: dest.to_owned(),
            problem: "this is no folder that can be made; name one".to_owned(),
        });
    };
    let mut name = name.to_owned();
    name.push(".preparing");
    Ok(dest.with_file_name(name))
}

/// Makes the folder, or goes on in the one that an earlier call left; but not if that one wrote other images,
/// which would stay among these: `images` says which they are.
fn begin(partial: &Path, images: &str) -> Result<(), PrepareError> {
    fs::create_dir_all(partial).map_err(|cause| PrepareError::io("make", partial, cause))?;
    let digest = format!("{:x}", Sha256::digest(images));
    let file = partial.join(PLAN);
    match fs::read_to_string(&file) {
        Ok(earlier) if earlier == digest => Ok(()),
        Ok(_) => Err(PrepareError::Dest {
            dest: partial.to_owned(),
            problem: "an earlier call, which did not end, began it from a source with other images; remove it, and run this again"
                .to_owned(),
        }),
        Err(_) => write_whole(&file, digest.as_bytes()),
    }
}

/// Reads what describes the images, and the names of all images.
fn plan(recipe: &Recipe, source: &Path) -> Result<Plan, PrepareError> {
    let mut found = Found {
        source,
        recipe,
        metas: HashMap::new(),
        images: BTreeSet::new(),
    };
    members::visit(source, &mut |member| {
        match role(recipe, &member.path) {
            Role::Meta(name) => {
                let bytes = member.bytes()?;
                found.metas.entry(name).or_insert(bytes);
            }
            Role::Image(name) => {
                found.images.insert(name);
            }
            Role::Other => {}
        }
        Ok(())
    })?;
    let plan = (recipe.plan)(&found)?;
    let missing: Vec<&str> = plan
        .items
        .iter()
        .map(|item| item.image.as_str())
        .filter(|image| !found.images.contains(*image))
        .collect();
    if !missing.is_empty() {
        return Err(found.missing(format!(
            "{} of the {} listed images are not there: {}",
            missing.len(),
            plan.items.len(),
            some_of(&missing)
        )));
    }
    if plan.items.is_empty() {
        return Err(found.missing("there is no image of the set".to_owned()));
    }
    for item in &plan.items {
        let parts = item.dest.split('/');
        if parts
            .clone()
            .any(|part| part.is_empty() || part == "." || part == "..")
        {
            return Err(PrepareError::Form {
                what: source.display().to_string(),
                problem: format!(
                    "names an image or class that is no file name: '{}'",
                    item.dest
                ),
            });
        }
    }
    Ok(plan)
}

/// What a file is; files that an operating system leaves behind are nothing.
fn role(recipe: &Recipe, path: &str) -> Role {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.starts_with("._") || path.starts_with("__MACOSX/") {
        return Role::Other;
    }
    (recipe.role)(path)
}

impl Found<'_> {
    fn missing(&self, what: String) -> PrepareError {
        PrepareError::Missing {
            place: self.source.to_owned(),
            set: self.recipe.set,
            what,
            from: self.recipe.from,
        }
    }

    fn has(&self, name: &str) -> bool {
        self.metas.contains_key(name)
    }

    fn meta(&self, name: &str) -> Result<&[u8], PrepareError> {
        self.metas
            .get(name)
            .map(Vec::as_slice)
            .ok_or_else(|| self.missing(format!("there is no file {name}")))
    }

    /// Lines that are not empty.
    fn lines(&self, name: &str) -> Result<Vec<String>, PrepareError> {
        let text = String::from_utf8_lossy(self.meta(name)?).into_owned();
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(lines.map(str::to_owned).collect())
    }

    fn form(&self, file: &str, problem: impl Into<String>) -> PrepareError {
        PrepareError::Form {
            what: format!("{}: {file}", self.source.display()),
            problem: problem.into(),
        }
    }
}

/// Writes what the plan wants; returns how many files an earlier call had written.
fn write(
    recipe: &Recipe,
    source: &Path,
    items: &[Item],
    partial: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<usize, PrepareError> {
    let mut wanted: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut folders = HashSet::new();
    let mut found_written = 0;
    for item in items {
        if partial.join(&item.dest).exists() {
            found_written += 1;
            continue;
        }
        wanted.entry(&item.image).or_default().push(&item.dest);
        if let Some((folder, _)) = item.dest.rsplit_once('/')
            && folders.insert(folder)
        {
            let folder = partial.join(folder);
            fs::create_dir_all(&folder)
                .map_err(|cause| PrepareError::io("make", &folder, cause))?;
        }
    }
    let (mut done, total) = (found_written, items.len());
    progress(done, total);
    if wanted.is_empty() {
        return Ok(found_written);
    }
    let mut converter = convert::Converter::default();
    members::visit(source, &mut |member| {
        let Role::Image(name) = role(recipe, &member.path) else {
            return Ok(());
        };
        // Taken out, so that a second file of that name is not read again.
        let Some(dests) = wanted.remove(name.as_str()) else {
            return Ok(());
        };
        let bytes = member.bytes()?;
        let bytes = converter.convert(&member.path, bytes)?;
        for dest in dests {
            write_whole(&partial.join(dest), &bytes)?;
            done += 1;
        }
        progress(done, total);
        Ok(())
    })?;
    Ok(found_written)
}

/// Writes a file aside and renames it. The images are many and can be made again: they are not
/// flushed to the disk one by one.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), PrepareError> {
    let failed = |cause| PrepareError::io("write", path, cause);
    let mut aside = path.as_os_str().to_owned();
    aside.push(".part");
    let aside = PathBuf::from(aside);
    fs::File::create(&aside)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(failed)?;
    fs::rename(&aside, path).map_err(failed)
}

/// `<split>_images.npy` and `<split>_labels.npy`.
fn write_list(folder: &Path, split: &str, images: &[(String, String)]) -> Result<(), PrepareError> {
    let paths: Vec<&str> = images.iter().map(|image| image.0.as_str()).collect();
    let labels: Vec<&str> = images.iter().map(|image| image.1.as_str()).collect();
    let [images_file, labels_file] = super::filelist::files(folder, split);
    write_whole(&images_file, &npy_write::texts(&paths))?;
    write_whole(&labels_file, &npy_write::texts(&labels))
}
