//! An evaluation set, opened: images with label indices, and the texts of the classes.

use std::path::{Path, PathBuf};

use super::catalog::{Catalog, ClassOrder, ClassesKey, SetKind};
use super::classes::{self, Matched};
use super::imagefolder::{self, EXTENSIONS_TEXT};
use super::labels::{Labels, Prompts, Templates};
use super::metrics::Metric;
use super::{EvalError, json};

/// Labelled images, whatever they are stored in.
pub trait Samples: Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Label index of a sample.
    fn target(&self, index: usize) -> usize;

    /// Decodes a sample into `out`, the values of `[3, side, side]`, normalised for the model.
    /// Called from many threads.
    ///
    /// # Errors
    /// [`EvalError::Image`].
    fn pixels(&self, index: usize, side: usize, out: &mut [f32]) -> Result<(), EvalError>;
}

/// Turns an encoded image (a JPEG or PNG file's bytes) into normalised pixels `[3, side, side]`.
pub type Decode = dyn Fn(&[u8], usize, &mut [f32]) -> Result<(), String> + Send + Sync;

/// Images in files.
pub struct Files {
    /// Path and label index of each.
    pub samples: Vec<(PathBuf, usize)>,
    /// Decoder and evaluation transform.
    pub decode: Box<Decode>,
}

impl Samples for Files {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn target(&self, index: usize) -> usize {
        self.samples[index].1
    }

    fn pixels(&self, index: usize, side: usize, out: &mut [f32]) -> Result<(), EvalError> {
        let path = &self.samples[index].0;
        std::fs::read(path)
            .map_err(|error| error.to_string())
            .and_then(|bytes| (self.decode)(&bytes, side, out))
            .map_err(|cause| EvalError::Image {
                path: path.clone(),
                cause,
            })
    }
}

/// A set that is ready to be scored.
pub struct EvalSet {
    /// Name in the catalog.
    pub name: String,
    /// Its images.
    pub samples: Box<dyn Samples>,
    /// First name of each class.
    pub class_names: Vec<String>,
    /// Texts of each class.
    pub prompts: Prompts,
    /// How folders and labels were matched.
    pub matched: Matched,
    /// What the set is reported by.
    pub metric: Metric,
}

impl EvalSet {
    /// Opens the set `name` of a catalog with its labels and templates.
    ///
    /// # Errors
    /// Every reason why the set cannot be scored as it lies there; see [`EvalError`].
    pub fn open(
        name: &str,
        catalog: &Catalog,
        labels: &Labels,
        templates: &Templates,
        decode: Box<Decode>,
    ) -> Result<Self, EvalError> {
        let entry = catalog.entry(name)?;
        if entry.kind != SetKind::ImageFolder {
            return Err(EvalError::NotInThisVersion {
                file: catalog.file().to_owned(),
                set: name.to_owned(),
                kind: entry.kind.name(),
            });
        }
        let names = labels.of(name)?;
        let prompts = Prompts::new(&names, &templates.of(name)?);
        let root = catalog.root(entry)?;
        let folder = root.join(entry.test.as_deref().unwrap_or("."));
        if !folder.is_dir() {
            return Err(EvalError::MissingFolder {
                file: catalog.file().to_owned(),
                set: name.to_owned(),
                folder,
            });
        }
        let order = match &entry.classes {
            None => None,
            Some(ClassesKey::Inline(order)) => Some(order.clone()),
            Some(ClassesKey::File(file)) => {
                let file = catalog.expanded(entry, "classes", file, |variable| {
                    std::env::var(variable).ok()
                })?;
                Some(read_order(&root.join(file))?)
            }
        };

        let folders = imagefolder::list(&folder)?;
        let folder_names: Vec<String> = folders.iter().map(|f| f.name.clone()).collect();
        let (index, matched) = classes::match_folders(&folder_names, &names, order.as_ref())
            .map_err(|mismatch| EvalError::Classes {
                folder: folder.clone(),
                set: name.to_owned(),
                labels: labels.file().to_owned(),
                differences: mismatch.differences,
                advice: mismatch.advice,
            })?;
        let empty: Vec<String> = folders
            .iter()
            .filter(|f| f.images.is_empty())
            .map(|f| f.name.clone())
            .collect();
        if !empty.is_empty() {
            return Err(EvalError::EmptyClasses {
                folder,
                set: name.to_owned(),
                classes: empty,
                extensions: EXTENSIONS_TEXT,
            });
        }
        let samples = folders
            .into_iter()
            .zip(index)
            .flat_map(|(folder, label)| folder.images.into_iter().map(move |image| (image, label)))
            .collect();
        Ok(Self {
            name: name.to_owned(),
            samples: Box::new(Files { samples, decode }),
            class_names: names
                .into_iter()
                .map(|mut names| names.swap_remove(0))
                .collect(),
            prompts,
            matched,
            metric: Metric::of(name),
        })
    }
}

fn read_order(file: &Path) -> Result<ClassOrder, EvalError> {
    let value: serde_json::Value = json::read(file)?;
    ClassOrder::parse(&value).map_err(|problem| EvalError::Form {
        file: file.to_owned(),
        problems: vec![problem],
    })
}
