//! Sets in binary formats of their own, as published and as torchvision lays them out: MNIST,
//! CIFAR-10, CIFAR-100, STL-10. Their files are read whole; the largest split has 221 MB.

mod cifar;
mod fetch;
mod mnist;
mod stl10;

use std::path::{Path, PathBuf};

use rocket_common::checkpoint::sha256_hex;

use super::error::some_of;
use super::set::{Decode, Samples, Source};
use super::{EvalError, Split};
use crate::image::Picture;

pub use fetch::fetch_missing;

/// Names of the sets.
pub const SETS: [&str; 4] = ["mnist", "cifar10", "cifar100", "stl10"];

/// A split, read.
#[derive(Debug)]
pub struct Images {
    /// How the pixels of an image lie.
    layout: Layout,
    /// Images one after the other.
    pixels: Vec<u8>,
    /// Class of each image.
    labels: Vec<usize>,
    /// The file that the images were read from, for messages.
    file: PathBuf,
    /// Class names that lie beside the images.
    pub names: Option<(PathBuf, Vec<String>)>,
}

/// How the pixels of an image lie; all images of a set have one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Rows of gray values.
    Gray { side: usize },
    /// Three planes of rows.
    Planes { side: usize },
    /// Three planes of columns.
    PlanesOfColumns { side: usize },
}

impl Layout {
    const fn bytes(self) -> usize {
        match self {
            Self::Gray { side } => side * side,
            Self::Planes { side } | Self::PlanesOfColumns { side } => 3 * side * side,
        }
    }

    fn picture(self, pixels: &[u8]) -> Picture {
        let (Self::Gray { side } | Self::Planes { side } | Self::PlanesOfColumns { side }) = self;
        let mut picture = Picture::black(side, side);
        let plane = side * side;
        for (i, pixel) in picture.data.chunks_exact_mut(3).enumerate() {
            let (y, x) = (i / side, i % side);
            for (c, value) in pixel.iter_mut().enumerate() {
                *value = pixels[match self {
                    Self::Gray { .. } => i,
                    Self::Planes { .. } => c * plane + i,
                    Self::PlanesOfColumns { .. } => c * plane + x * side + y,
                }];
            }
        }
        picture
    }
}

/// Where a set's files may lie, for one split.
struct Places<'a> {
    catalog: &'a Path,
    set: &'a str,
    root: &'a Path,
}

impl Places<'_> {
    /// The first of these files, relative to the root, that is there.
    fn first(&self, candidates: &[&str], archives: &[&str]) -> Result<PathBuf, EvalError> {
        let paths: Vec<PathBuf> = candidates.iter().map(|c| self.root.join(c)).collect();
        if let Some(found) = paths.iter().find(|path| path.is_file()) {
            return Ok(found.clone());
        }
        let packed = archives
            .iter()
            .map(|a| self.root.join(a))
            .find(|a| a.is_file());
        let advice = match packed {
            Some(archive) => format!(
                "unpack the archive that is there: tar -xzf {} -C {}",
                archive.display(),
                self.root.display()
            ),
            None => format!(
                "unpack {} there, or run 'rocket-worker data fetch {} {}'",
                archives.first().copied().unwrap_or("the published files"),
                self.set,
                self.root.display()
            ),
        };
        Err(EvalError::MissingFile {
            file: self.catalog.to_owned(),
            set: self.set.to_owned(),
            paths,
            advice,
        })
    }
}

/// Reads a split of the set `set` of the catalog `catalog`, which lies in `root`.
///
/// # Errors
/// The set is none of these, a file is missing, or it is not in its format.
pub fn read(catalog: &Path, set: &str, root: &Path, split: Split) -> Result<Images, EvalError> {
    let places = Places { catalog, set, root };
    match set {
        "mnist" => mnist::read(&places, split),
        "cifar10" => cifar::read(&places, cifar::Kind::Cifar10, split),
        "cifar100" => cifar::read(&places, cifar::Kind::Cifar100, split),
        "stl10" => stl10::read(&places, split),
        _ => Err(EvalError::NotSpecial {
            file: catalog.to_owned(),
            set: set.to_owned(),
            known: some_of(&SETS),
        }),
    }
}

impl Images {
    fn new(
        layout: Layout,
        pixels: Vec<u8>,
        labels: Vec<usize>,
        file: PathBuf,
        classes: usize,
    ) -> Result<Self, EvalError> {
        let count = pixels.len() / layout.bytes();
        if count == 0 || count * layout.bytes() != pixels.len() || count != labels.len() {
            let problem = format!(
                "holds {} bytes of pixels and {} labels, which is no whole number of images of {} \
                 bytes with a label each; the file is cut off or another one: fetch it again",
                pixels.len(),
                labels.len(),
                layout.bytes()
            );
            return Err(malformed(&file, problem));
        }
        if let Some(at) = labels.iter().position(|&label| label >= classes) {
            let problem = format!(
                "image {at} has label {}, but there are {classes} classes; the file is damaged or \
                 another one: fetch it again",
                labels[at]
            );
            return Err(malformed(&file, problem));
        }
        Ok(Self {
            layout,
            pixels,
            labels,
            file,
            names: None,
        })
    }

    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Class of each image.
    #[must_use]
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Image `index` as a picture.
    #[must_use]
    pub fn picture(&self, index: usize) -> Picture {
        let bytes = self.layout.bytes();
        self.layout.picture(&self.pixels[index * bytes..][..bytes])
    }
}

/// These images as samples.
pub struct ImageSamples {
    /// The images.
    pub images: Images,
    /// Evaluation transform.
    pub decode: Box<Decode>,
}

impl Samples for ImageSamples {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn target(&self, index: usize) -> usize {
        self.images.labels[index]
    }

    fn identity(&self) -> Option<String> {
        Some(sha256_hex(&self.images.pixels))
    }

    fn pixels(&self, index: usize, side: usize, out: &mut [f32]) -> Result<(), EvalError> {
        (self.decode)(Source::Picture(&self.images.picture(index)), side, out).map_err(|cause| {
            EvalError::Image {
                path: self.images.file.clone(),
                cause: format!("image {index}: {cause}"),
            }
        })
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, EvalError> {
    std::fs::read(path).map_err(|cause| EvalError::Io {
        path: path.to_owned(),
        what: "read this file of an evaluation set",
        cause,
    })
}

fn malformed(file: &Path, problem: String) -> EvalError {
    EvalError::Malformed {
        file: file.to_owned(),
        problem,
    }
}

/// Class names of a text file, one a line.
fn lines(path: &Path) -> Option<(PathBuf, Vec<String>)> {
    let text = std::fs::read_to_string(path).ok()?;
    let names = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Some((path.to_owned(), names.map(str::to_owned).collect()))
}
