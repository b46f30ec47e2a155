//! An evaluation set, opened: images with label indices, and the texts of the classes.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::catalog::{Catalog, ClassOrder, ClassesKey, SetKind};
use super::classes::{self, Matched, Mismatch};
use super::filelist::{self, FileList, ListLabels};
use super::imagefolder::{self, EXTENSIONS_TEXT};
use super::labels::{Labels, Names, Origin, Prompts, Templates};
use super::metrics::Metric;
use super::{EvalError, json, prepare, published, special};
use crate::data::index::Stamp;
use crate::image::Picture;

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

    /// A word that differs where the images do, as far as that shows without decoding them; `None` if it
    /// does not.
    fn identity(&self) -> Option<String> {
        None
    }

    /// Decodes a sample into `out`, the values of `[3, side, side]`, normalised for the model.
    /// Called from many threads.
    ///
    /// # Errors
    /// [`EvalError::Image`].
    fn pixels(&self, index: usize, side: usize, out: &mut [f32]) -> Result<(), EvalError>;
}

/// What an image comes as.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A file's bytes (JPEG, PNG, ...).
    File(&'a [u8]),
    /// Pixels.
    Picture(&'a Picture),
}

/// Turns an image into normalised pixels `[3, side, side]`.
pub type Decode = dyn Fn(Source, usize, &mut [f32]) -> Result<(), String> + Send + Sync;

/// The pixels of an image in a file, `[3, side, side]`.
///
/// # Errors
/// [`EvalError::Image`].
pub(super) fn read_pixels(
    path: &Path,
    decode: &Decode,
    side: usize,
    out: &mut [f32],
) -> Result<(), EvalError> {
    std::fs::read(path)
        .map_err(|error| error.to_string())
        .and_then(|bytes| decode(Source::File(&bytes), side, out))
        .map_err(|cause| EvalError::Image {
            path: path.to_path_buf(),
            cause,
        })
}

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

    /// Of paths, sizes and times: to read the images takes as long as to score them.
    fn identity(&self) -> Option<String> {
        let mut hash = Sha256::new();
        for (path, _) in &self.samples {
            // One that is not there differs from all that are.
            hash.update(format!("{path:?} {:?}\n", Stamp::of(path).ok()));
        }
        Some(format!("{:x}", hash.finalize()))
    }

    fn pixels(&self, index: usize, side: usize, out: &mut [f32]) -> Result<(), EvalError> {
        read_pixels(&self.samples[index].0, &*self.decode, side, out)
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

/// The two parts of a set that a catalog's entry names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// For training, as linear probes need it.
    Train,
    /// That is scored.
    Test,
}

impl Split {
    /// The catalog's key.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// Labels of a set, and what is known of their order.
struct Classes<'a> {
    names: Vec<Names>,
    origin: Origin,
    order: Option<ClassOrder>,
    published: Option<&'a [String]>,
}

impl EvalSet {
    /// Opens the split of the set `name` of a catalog that is scored, with its labels and templates.
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
        Self::open_split(name, Split::Test, catalog, labels, templates, decode)
    }

    /// Opens a split of the set `name` of a catalog with its labels and templates.
    ///
    /// # Errors
    /// Every reason why the set cannot be scored as it lies there; see [`EvalError`].
    pub fn open_split(
        name: &str,
        split: Split,
        catalog: &Catalog,
        labels: &Labels,
        templates: &Templates,
        decode: Box<Decode>,
    ) -> Result<Self, EvalError> {
        let entry = catalog.entry(name)?;
        let (names, origin) = labels.of(name)?;
        let prompts = Prompts::new(&names, &templates.of(name)?.0);
        let root = catalog.root(entry)?;
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
        let classes = Classes {
            published: published::facts(name).and_then(|facts| facts.folders.as_deref()),
            names,
            origin,
            order,
        };
        let (samples, matched): (Box<dyn Samples>, Matched) = match entry.kind {
            SetKind::Special => {
                let images = special::read(catalog.file(), name, &root, split)?;
                classes.check_numbered(name, &root)?;
                if let Some((file, names)) = &images.names {
                    classes.check_beside(name, file, names)?;
                }
                (
                    Box::new(special::ImageSamples { images, decode }),
                    Matched::Published,
                )
            }
            SetKind::FileList => {
                let stem = catalog.split(entry, split)?;
                let files = filelist::files(&root, stem).into_iter();
                let missing: Vec<PathBuf> = files.filter(|file| !file.exists()).collect();
                if !missing.is_empty() {
                    return Err(EvalError::MissingFile {
                        file: catalog.file().to_owned(),
                        set: name.to_owned(),
                        paths: missing,
                        advice: how_to_get(name, split, "write both lists"),
                    });
                }
                let list = filelist::read(&root, stem)?;
                let (samples, matched) = classes.of_list(name, &root, list)?;
                (Box::new(Files { samples, decode }), matched)
            }
            SetKind::ImageFolder => {
                let folder = root.join(catalog.split(entry, split)?);
                if !folder.is_dir() {
                    return Err(EvalError::MissingFolder {
                        file: catalog.file().to_owned(),
                        set: name.to_owned(),
                        folder,
                        advice: how_to_get(name, split, "put the class folders there"),
                    });
                }
                let (samples, matched) = classes.of_folders(name, &folder)?;
                (Box::new(Files { samples, decode }), matched)
            }
        };
        Ok(Self {
            name: name.to_owned(),
            samples,
            class_names: classes
                .names
                .into_iter()
                .map(|mut names| names.swap_remove(0))
                .collect(),
            prompts,
            matched,
            metric: Metric::of(name),
        })
    }
}

/// Images with the index of their label, and how that was found.
type Labelled = (Vec<(PathBuf, usize)>, Matched);

impl Classes<'_> {
    fn refused(&self, set: &str, place: &Path, mismatch: Mismatch) -> EvalError {
        EvalError::Classes {
            folder: place.to_owned(),
            set: set.to_owned(),
            labels: self.origin.to_string(),
            differences: mismatch.differences,
            advice: mismatch.advice,
        }
    }

    /// Labels of the user's for a set whose classes are numbered by its publication.
    fn check_numbered(&self, set: &str, place: &Path) -> Result<(), EvalError> {
        let published = published::class_names(set).filter(|_| self.origin != Origin::Published);
        match published.and_then(|names| classes::against_published(&self.names, &names)) {
            Some(mismatch) => Err(self.refused(set, place, mismatch)),
            None => Ok(()),
        }
    }

    /// Class names that lie beside the images.
    fn check_beside(&self, set: &str, file: &Path, names: &[String]) -> Result<(), EvalError> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        match classes::against_published(&self.names, &names) {
            Some(mismatch) => Err(self.refused(set, file, mismatch)),
            None => Ok(()),
        }
    }

    fn index(
        &self,
        set: &str,
        place: &Path,
        names: &[String],
    ) -> Result<(Vec<usize>, Matched), EvalError> {
        let found = classes::match_folders(names, &self.names, self.order.as_ref(), self.published)
            .map_err(|mismatch| self.refused(set, place, mismatch))?;
        if found.1 == Matched::Published {
            self.check_numbered(set, place)?;
        }
        Ok(found)
    }

    fn of_folders(&self, set: &str, folder: &Path) -> Result<Labelled, EvalError> {
        let folders = imagefolder::list(folder)?;
        let folder_names: Vec<String> = folders.iter().map(|f| f.name.clone()).collect();
        let (index, matched) = self.index(set, folder, &folder_names)?;
        let empty: Vec<String> = folders
            .iter()
            .filter(|f| f.images.is_empty())
            .map(|f| f.name.clone())
            .collect();
        if !empty.is_empty() {
            return Err(EvalError::EmptyClasses {
                folder: folder.to_owned(),
                set: set.to_owned(),
                classes: empty,
                extensions: EXTENSIONS_TEXT,
            });
        }
        let samples = folders
            .into_iter()
            .zip(index)
            .flat_map(|(folder, label)| folder.images.into_iter().map(move |image| (image, label)))
            .collect();
        Ok((samples, matched))
    }

    fn of_list(&self, set: &str, root: &Path, list: FileList) -> Result<Labelled, EvalError> {
        let (index, matched) = match list.labels {
            ListLabels::Numbers(numbers) => {
                self.check_numbered(set, root)?;
                let index = numbers
                    .iter()
                    .map(|&n| usize::try_from(n).ok().filter(|&n| n < self.names.len()))
                    .collect::<Option<Vec<_>>>();
                let index = index.ok_or_else(|| {
                    let strange = numbers
                        .iter()
                        .find(|&&n| n < 0 || n as usize >= self.names.len());
                    let mismatch = Mismatch {
                        differences: vec![format!(
                            "the list has label {}, but there are {} labels, 0 to {}",
                            strange.copied().unwrap_or(0),
                            self.names.len(),
                            self.names.len() - 1
                        )],
                        advice: "write indices of the labels".to_owned(),
                    };
                    self.refused(set, root, mismatch)
                })?;
                (index, Matched::Published)
            }
            ListLabels::Texts(texts) => {
                let mut distinct = texts.clone();
                distinct.sort();
                distinct.dedup();
                let (index, matched) = self.index(set, root, &distinct)?;
                let place = |text: &String| distinct.binary_search(text).map_or(0, |at| index[at]);
                (texts.iter().map(place).collect(), matched)
            }
        };
        Ok((list.images.into_iter().zip(index).collect(), matched))
    }
}

/// What to do about a split that is not there: some sets are made by a command, others by hand.
fn how_to_get(set: &str, split: Split, by_hand: &str) -> String {
    let way = if prepare::RECIPES.iter().any(|recipe| recipe.set == set) {
        format!("make it with 'rocket-worker data prepare-eval {set} SOURCE'")
    } else {
        by_hand.to_owned()
    };
    format!("{way}, or correct 'path' and '{}'", split.key())
}

fn read_order(file: &Path) -> Result<ClassOrder, EvalError> {
    let value: serde_json::Value = json::read(file)?;
    ClassOrder::parse(&value).map_err(|problem| EvalError::Form {
        file: file.to_owned(),
        problems: vec![problem],
    })
}
