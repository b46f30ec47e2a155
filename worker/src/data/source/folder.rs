//! A folder with a folder of images for each class, in torchvision's order (`ImageFolder`). The caption is the
//! class's name with spaces in place of underscores, or what the list (a JSON object) says for it.

use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::Part;
use super::SourceError;
use super::build::{Building, Unit};
use super::conceptual::{add, add_caption};
use super::watch::Reads;
use crate::data::index::{IndexWriter, Stamp};
use crate::data::mapped::Mapped;

/// Endings of images, in lower case.
const IMAGES: [&str; 10] = [
    "jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "gif",
];
/// Folders within folders that are looked into; links may go round in circles.
const DEEPEST: usize = 32;

#[derive(Deserialize)]
#[serde(untagged)]
enum Captions {
    One(String),
    Many(Vec<String>),
}

/// Reads the folders.
///
/// # Errors
/// [`SourceError`].
pub(super) fn read<W: Write + Seek>(
    part: &Part,
    writer: &mut IndexWriter<W>,
    building: &mut Building<'_>,
) -> Result<(), SourceError> {
    let captions = captions(part, &building.reads)?;
    if !part.root.is_dir() {
        return Err(SourceError::NoFolder {
            folder: part.root.clone(),
        });
    }
    let mut walk = Walk {
        root: &part.root,
        reads: Arc::clone(&building.reads),
        sources: Vec::new(),
    };
    let (classes, _) = walk.entries(Path::new(""))?;
    let is_class = |name: &String| {
        classes
            .iter()
            .any(|class| class.as_os_str() == name.as_str())
    };
    if let Some(stray) = captions.keys().find(|&name| !is_class(name)) {
        return Err(SourceError::Json {
            file: part.list.clone(),
            what: format!(
                "it has captions for '{stray}', which is no folder in '{}'",
                part.root.display()
            ),
        });
    }
    for class in &classes {
        let name = class.to_string_lossy();
        let own = [name.replace('_', " ")];
        let captions = match captions.get(name.as_ref()) {
            Some(Captions::One(caption)) => std::slice::from_ref(caption),
            Some(Captions::Many(captions)) => captions,
            None => &own,
        };
        let mut folders = Vec::new();
        walk.images(class, 0, &mut folders)?;
        // The folders are ordered by their whole paths as text, not component by component.
        folders.sort_by(|a, b| a.0.as_os_str().cmp(b.0.as_os_str()));
        for image in folders.iter().flat_map(|(_, images)| images) {
            add_image(image, captions, writer).map_err(|what| SourceError::Archive {
                file: part.root.join(image),
                what,
            })?;
        }
        building.report("reading the folders", 0, 0, Unit::Bytes, writer.samples());
    }
    building.sources.append(&mut walk.sources);
    Ok(())
}

fn add_image<W: Write + Seek>(
    image: &Path,
    captions: &[String],
    writer: &mut IndexWriter<W>,
) -> Result<(), String> {
    for caption in captions {
        add_caption(writer, caption)?;
    }
    let name = image.to_str().ok_or("has a name that is no UTF-8")?;
    add(writer, name)
}

fn captions(part: &Part, reads: &Reads) -> Result<BTreeMap<String, Captions>, SourceError> {
    if part.list.as_os_str().is_empty() {
        return Ok(BTreeMap::new());
    }
    let _reading = reads.begin(&part.list);
    let file = Mapped::open(&part.list).map_err(|cause| SourceError::Unreadable {
        file: part.list.clone(),
        cause,
    })?;
    serde_json::from_slice(&file).map_err(|error| SourceError::Json {
        file: part.list.clone(),
        what: format!("{error}; it should map folders to a caption or a list of captions"),
    })
}

/// A walk below the root, which notes the folders that it saw.
struct Walk<'a> {
    root: &'a Path,
    reads: Arc<Reads>,
    sources: Vec<(String, Stamp)>,
}

impl Walk<'_> {
    /// Names of the folders and files in a folder, sorted; with the folder's own name before them.
    fn entries(&mut self, folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), SourceError> {
        let path = self.root.join(folder);
        let failed = |cause| SourceError::Folder {
            path: path.clone(),
            cause,
        };
        // Before it is listed, so that a change meanwhile is noticed.
        let reading = self.reads.begin(&path);
        let stamp = Stamp::of(&path).map_err(failed)?;
        let (mut folders, mut files) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = folder.join(entry.file_name());
            reading.moved();
            // Links are followed.
            let is_dir = match entry.file_type() {
                Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
                Ok(kind) => kind.is_dir(),
                Err(cause) => return Err(failed(cause)),
            };
            if is_dir {
                folders.push(name);
            } else {
                files.push(name);
            }
        }
        folders.sort_unstable();
        files.sort_unstable();
        let name = folder.to_string_lossy().into_owned();
        self.sources.push((
            if name.is_empty() {
                ".".to_owned()
            } else {
                name
            },
            stamp,
        ));
        Ok((folders, files))
    }

    /// The images in a folder and in those below it.
    fn images(
        &mut self,
        folder: &Path,
        depth: usize,
        found: &mut Vec<(PathBuf, Vec<PathBuf>)>,
    ) -> Result<(), SourceError> {
        if depth > DEEPEST {
            return Err(SourceError::Archive {
                file: self.root.join(folder),
                what: format!("lies more than {DEEPEST} folders deep; does a link go round?"),
            });
        }
        let (folders, mut files) = self.entries(folder)?;
        files.retain(|file| {
            let ending = file.extension().and_then(|ending| ending.to_str());
            ending.is_some_and(|ending| IMAGES.contains(&ending.to_ascii_lowercase().as_str()))
        });
        found.push((folder.to_owned(), files));
        for folder in folders {
            self.images(&folder, depth + 1, found)?;
        }
        Ok(())
    }
}
