//! PatchCamelyon (B. S. Veeling et al. 2018): HDF5 files with pixels `[n, 96, 96, 3]` and labels
//! `[n, 1, 1, 1]`, packed by gzip.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use flate2::read::GzDecoder;
use hdf5_reader::{Hdf5File, OpenOptions, SliceInfo, SliceInfoElem};

use super::{Item, Plan, PrepareError, Recipe, begin, convert, write_whole};

pub(super) const SET: &str = "patch_camelyon";
const CLASSES: [&str; 2] = ["no_tumor", "tumor"];
/// Width and height of an image.
const SIDE: u64 = 96;
/// Images that are read at once: a chunk of the published files.
const ROWS: u64 = 1024;
/// Most bytes that are read at once, whatever a damaged file says; the rows above have 28 MB.
const LIMIT: usize = 64 << 20;

/// Writes the splits as PNG; VISSL's script writes JPEG, which loses something.
pub(super) fn write(
    recipe: &Recipe,
    source: &Path,
    partial: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Plan, usize), PrepareError> {
    let mut splits = Vec::new();
    let mut made = Vec::new();
    let mut total = 0;
    let mut found = Vec::new();
    for (split, theirs) in [("train", "train"), ("val", "valid")] {
        let [x, y] = ["x", "y"].map(|what| file(source, theirs, what));
        let (Some(x), Some(y)) = (x, y) else {
            if split == "train" {
                continue;
            }
            return Err(PrepareError::Missing {
                place: source.to_owned(),
                set: SET,
                what: "there is no file camelyonpatch_level_2_split_valid_x.h5 or _y.h5".to_owned(),
                from: recipe.from,
            });
        };
        found.push((split, x, y));
    }
    begin(partial, &state(&found)?)?;
    for (split, x, y) in found {
        let (x, y) = (unpacked(&x, partial)?, unpacked(&y, partial)?);
        made.extend(
            [&x, &y]
                .into_iter()
                .filter(|path| path.starts_with(partial))
                .cloned(),
        );
        let labels = labels(&y)?;
        total += labels.len();
        splits.push((split, x, labels));
    }
    let mut plan = Plan::default();
    let (mut done, mut found_written) = (0, 0);
    for (split, x, labels) in &splits {
        for class in CLASSES {
            let folder = partial.join(split).join(class);
            fs::create_dir_all(&folder)
                .map_err(|cause| PrepareError::io("make", &folder, cause))?;
        }
        let failed = |error: hdf5_reader::error::Error| form(x, error.to_string());
        let pixels = open(x).and_then(|file| file.dataset("x")).map_err(failed)?;
        let shape = pixels.shape().to_vec();
        let [count, SIDE, SIDE, 3] = shape[..] else {
            return Err(form(
                x,
                format!("'x' has the shape {shape:?}, not [n, 96, 96, 3]"),
            ));
        };
        if count as usize != labels.len() {
            return Err(form(
                x,
                format!("has {count} images, but there are {} labels", labels.len()),
            ));
        }
        for first in (0..count).step_by(ROWS as usize) {
            let last = count.min(first + ROWS);
            let dests: Vec<String> = (first..last)
                .map(|i| format!("{split}/{}/img_{i}.png", CLASSES[labels[i as usize]]))
                .collect();
            let there = dests
                .iter()
                .filter(|dest| partial.join(dest).exists())
                .count();
            found_written += there;
            if there < dests.len() {
                let mut selection = SliceInfo::all(4);
                selection.selections[0] = SliceInfoElem::Slice {
                    start: first,
                    end: last,
                    step: 1,
                };
                let rows = pixels.read_slice::<u8>(&selection).map_err(failed)?;
                let rows = rows.iter().copied().collect::<Vec<u8>>();
                for (dest, image) in dests
                    .iter()
                    .zip(rows.chunks_exact((SIDE * SIDE * 3) as usize))
                {
                    let png = convert::rgb_to_png(SIDE as u32, SIDE as u32, image)
                        .map_err(|error| form(x, error))?;
                    write_whole(&partial.join(dest), &png)?;
                }
            }
            done += dests.len();
            progress(done, total);
            plan.items.extend(dests.into_iter().map(|dest| Item {
                image: String::new(),
                dest,
            }));
        }
    }
    // What was unpacked here is of no more use.
    for path in made {
        fs::remove_file(&path).map_err(|cause| PrepareError::io("remove", &path, cause))?;
    }
    Ok((plan, found_written))
}

fn form(file: &Path, problem: String) -> PrepareError {
    PrepareError::Form {
        what: file.display().to_string(),
        problem,
    }
}

fn open(path: &Path) -> Result<Hdf5File, hdf5_reader::error::Error> {
    let options = OpenOptions {
        max_read_bytes: LIMIT,
        max_chunk_bytes: LIMIT,
        ..OpenOptions::default()
    };
    Hdf5File::open_with_options(path, options)
}

fn file(source: &Path, split: &str, what: &str) -> Option<PathBuf> {
    let name = format!("camelyonpatch_level_2_split_{split}_{what}.h5");
    [source.join(&name), source.join(name + ".gz")]
        .into_iter()
        .find(|path| path.is_file())
}

/// What tells the files from others, without reading their gigabytes: name, size and time of change.
fn state(found: &[(&str, PathBuf, PathBuf)]) -> Result<String, PrepareError> {
    let mut state = String::new();
    for path in found.iter().flat_map(|(_, x, y)| [x, y]) {
        let about = fs::metadata(path).map_err(|cause| PrepareError::io("read", path, cause))?;
        let changed = about
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .unwrap_or_default();
        let name = path.file_name().unwrap_or_default().display();
        state += &format!("{name}\n{}\n{}\n", about.len(), changed.as_nanos());
    }
    Ok(state)
}

/// The file itself, or unpacked into the folder that is being made.
fn unpacked(path: &Path, partial: &Path) -> Result<PathBuf, PrepareError> {
    if path.extension().is_none_or(|ending| ending != "gz") {
        return Ok(path.to_owned());
    }
    let out = partial.join(path.file_stem().unwrap_or_default());
    if out.is_file() {
        return Ok(out);
    }
    let aside = out.with_extension("part");
    let copy = || {
        let mut packed = GzDecoder::new(BufReader::new(File::open(path)?));
        let mut file = BufWriter::new(File::create(&aside)?);
        std::io::copy(&mut packed, &mut file)?;
        file.into_inner()
            .map_err(std::io::IntoInnerError::into_error)?;
        fs::rename(&aside, &out)
    };
    copy().map_err(|cause| PrepareError::io("unpack", path, cause))?;
    Ok(out)
}

/// The labels of a file.
fn labels(path: &Path) -> Result<Vec<usize>, PrepareError> {
    let values = open(path)
        .and_then(|file| file.dataset("y"))
        .and_then(|labels| labels.read_array::<u8>())
        .map_err(|error| form(path, error.to_string()))?;
    let label = |&value: &u8| {
        Some(usize::from(value))
            .filter(|&value| value < CLASSES.len())
            .ok_or_else(|| {
                form(
                    path,
                    format!("has the label {value}, which is neither 0 nor 1"),
                )
            })
    };
    values.iter().map(label).collect()
}
