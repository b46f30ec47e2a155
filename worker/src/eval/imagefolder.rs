//! One folder per class, in the order and by the rules of torchvision's `ImageFolder`: class
//! folders sorted by name, files below them at any depth sorted by folder and name, links followed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::EvalError;

/// File name endings that count as images, in any case.
pub const EXTENSIONS: [&str; 9] = [
    "jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp",
];
/// [`EXTENSIONS`] for messages.
pub(super) const EXTENSIONS_TEXT: &str = ".jpg .jpeg .png .ppm .bmp .pgm .tif .tiff .webp";

/// A class folder and its images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassFolder {
    /// Name of the folder.
    pub name: String,
    /// Its images, in order.
    pub images: Vec<PathBuf>,
}

/// Lists the class folders below `folder` and their images. A class may come out empty.
///
/// # Errors
/// A folder cannot be listed, or there is none below `folder`.
pub fn list(folder: &Path) -> Result<Vec<ClassFolder>, EvalError> {
    let mut names = Vec::new();
    for entry in sorted_entries(folder)? {
        if entry.is_dir() {
            names.push(entry);
        }
    }
    if names.is_empty() {
        return Err(EvalError::Io {
            path: folder.to_owned(),
            what: "find class folders here",
            cause: std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "there is no folder in it; lay the images out as one folder per class",
            ),
        });
    }
    names
        .into_iter()
        .map(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let mut folders = Vec::new();
            walk(&path, &mut Vec::new(), &mut folders)?;
            // The folders are ordered by their whole paths as text, not component by component.
            folders.sort_by(|a, b| bytes(&a.0).cmp(bytes(&b.0)));
            let images = folders.into_iter().flat_map(|(_, images)| images).collect();
            Ok(ClassFolder { name, images })
        })
        .collect()
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

fn sorted_entries(folder: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let failed = |cause| EvalError::Io {
        path: folder.to_owned(),
        what: "list this folder of an evaluation set",
        cause,
    };
    let mut entries = fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|e| e.map(|e| e.path()))
                .collect::<Result<Vec<_>, _>>()
        })
        .map_err(failed)?;
    entries.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    Ok(entries)
}

/// Collects `(folder, its images in order)` for `folder` and everything below it.
fn walk(
    folder: &Path,
    above: &mut Vec<PathBuf>,
    out: &mut Vec<(PathBuf, Vec<PathBuf>)>,
) -> Result<(), EvalError> {
    let real = fs::canonicalize(folder).map_err(|cause| EvalError::Io {
        path: folder.to_owned(),
        what: "follow this folder of an evaluation set",
        cause,
    })?;
    // A link to a folder above would never end.
    if above.contains(&real) {
        return Ok(());
    }
    above.push(real);
    let mut images = Vec::new();
    for path in sorted_entries(folder)? {
        if path.is_dir() {
            walk(&path, above, out)?;
        } else if is_image(&path) {
            images.push(path);
        }
    }
    out.push((folder.to_owned(), images));
    above.pop();
    Ok(())
}

fn is_image(path: &Path) -> bool {
    // `.jpg` alone is an image to torchvision, but has no extension to the standard library.
    let ending = path.extension().or_else(|| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix('.').map(OsStr::new)
    });
    ending
        .and_then(OsStr::to_str)
        .is_some_and(|e| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(e)))
}
