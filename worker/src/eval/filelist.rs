//! Sets of type filelist: `<split>_images.npy` with the paths of images, and `<split>_labels.npy`
//! with a label each, a number or text, as VISSL's disk_filelist has them.

use std::path::{Path, PathBuf};

use super::EvalError;
use crate::data::npy::{self, Column};

/// The labels of a file list.
#[derive(Debug)]
pub enum ListLabels {
    /// Label indices.
    Numbers(Vec<i64>),
    /// Names of classes, one per image.
    Texts(Vec<String>),
}

/// An opened file list.
#[derive(Debug)]
pub struct FileList {
    /// Path of each image.
    pub images: Vec<PathBuf>,
    /// Label of each image.
    pub labels: ListLabels,
}

/// The two files of a split: images and labels.
#[must_use]
pub fn files(root: &Path, split: &str) -> [PathBuf; 2] {
    ["images", "labels"].map(|what| root.join(format!("{split}_{what}.npy")))
}

/// Reads both files. Relative paths of images begin at `root`.
///
/// # Errors
/// A file is missing, is no npy file of the right kind, or their lengths differ.
pub fn read(root: &Path, split: &str) -> Result<FileList, EvalError> {
    let [images_file, labels_file] = files(root, split);
    let images = match column(&images_file)? {
        Column::Texts(paths) => paths.iter().map(|path| root.join(path)).collect::<Vec<_>>(),
        Column::Integers(_) => {
            return Err(malformed(
                &images_file,
                "holds numbers where the paths of images belong; write an array of text".to_owned(),
            ));
        }
    };
    let labels = match column(&labels_file)? {
        Column::Integers(numbers) => ListLabels::Numbers(numbers),
        Column::Texts(texts) => ListLabels::Texts(texts),
    };
    let count = match &labels {
        ListLabels::Numbers(numbers) => numbers.len(),
        ListLabels::Texts(texts) => texts.len(),
    };
    if count != images.len() {
        let problem = format!(
            "has {count} labels, but {} has {} images; write both from one list",
            images_file.display(),
            images.len()
        );
        return Err(malformed(&labels_file, problem));
    }
    if images.is_empty() {
        return Err(malformed(
            &images_file,
            "lists no image; write the paths of the split's images".to_owned(),
        ));
    }
    Ok(FileList { images, labels })
}

fn column(file: &Path) -> Result<Column, EvalError> {
    let bytes = std::fs::read(file).map_err(|cause| EvalError::Io {
        path: file.to_owned(),
        what: "read this file of an evaluation set",
        cause,
    })?;
    npy::column(&bytes).map_err(|error| malformed(file, error.to_string()))
}

fn malformed(file: &Path, problem: String) -> EvalError {
    EvalError::Malformed {
        file: file.to_owned(),
        problem,
    }
}
