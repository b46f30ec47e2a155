//! The files of a source, whatever they are packed in: a folder, zip and tar archives (gzipped or
//! not), and archives within archives. They are read one after the other, never all unpacked.

use std::fs::{self, File};
use std::io::{BufReader, Read, Seek};
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;

use super::PrepareError;

/// Largest file that is read whole: CLEVR's scenes are the largest, with some 200 MB.
pub(super) const LIMIT: u64 = 1 << 30;

/// What a member is met as.
pub(super) struct Member<'a> {
    /// Its path in the source, components joined by `/`.
    pub(super) path: String,
    reader: &'a mut dyn Read,
    container: &'a Path,
}

impl Member<'_> {
    /// Its bytes.
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, PrepareError> {
        let mut bytes = Vec::new();
        let failed = |what: String| PrepareError::Member {
            container: self.container.to_owned(),
            member: self.path.clone(),
            what,
        };
        (&mut *self.reader)
            .take(LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(error.to_string()))?;
        if bytes.len() as u64 > LIMIT {
            return Err(failed(format!("it is larger than {} MiB", LIMIT >> 20)));
        }
        Ok(bytes)
    }
}

/// What is done with a member.
pub(super) type Visit<'a> = dyn FnMut(&mut Member) -> Result<(), PrepareError> + 'a;

/// Visits every file of `source`: an archive, or a folder with files, folders and archives. Archives
/// are looked into where they lie in `source` itself, or in another archive.
///
/// # Errors
/// What cannot be read, a path that leads out of its archive, or what `visit` returns.
pub(super) fn visit(source: &Path, visit: &mut Visit) -> Result<(), PrepareError> {
    let kind = fs::metadata(source).map_err(|cause| PrepareError::io("read", source, cause))?;
    if kind.is_file() {
        if !is_archive(source) {
            return Err(PrepareError::NoSource(source.to_owned()));
        }
        return archive(source, visit);
    }
    folder(source, source, 0, visit)?;
    for path in entries(source)? {
        if path.is_file() && is_archive(&path) {
            archive(&path, visit)?;
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, PrepareError> {
    let failed = |cause| PrepareError::io("list", folder, cause);
    let mut paths = fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    paths.sort();
    Ok(paths)
}

fn folder(root: &Path, at: &Path, depth: usize, visit: &mut Visit) -> Result<(), PrepareError> {
    // Published sets are five levels deep; links that go round end here.
    if depth > 12 {
        return Ok(());
    }
    for path in entries(at)? {
        if path.is_dir() {
            folder(root, &path, depth + 1, visit)?;
        } else if depth > 0 || !is_archive(&path) {
            let mut file =
                File::open(&path).map_err(|cause| PrepareError::io("open", &path, cause))?;
            let inside = path.strip_prefix(root).unwrap_or(&path);
            visit(&mut Member {
                path: joined(inside),
                reader: &mut file,
                container: root,
            })?;
        }
    }
    Ok(())
}

/// How an archive is packed, by its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packing {
    Zip,
    Tar,
    TarGz,
}

fn packing(path: &Path) -> Option<Packing> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    match () {
        () if name.ends_with(".zip") => Some(Packing::Zip),
        () if name.ends_with(".tar.gz") || name.ends_with(".tgz") => Some(Packing::TarGz),
        () if name.ends_with(".tar") => Some(Packing::Tar),
        () => None,
    }
}

fn is_archive(path: &Path) -> bool {
    packing(path).is_some()
}

fn archive(path: &Path, visit: &mut Visit) -> Result<(), PrepareError> {
    let file = File::open(path).map_err(|cause| PrepareError::io("open", path, cause))?;
    let mut file = BufReader::with_capacity(1 << 20, file);
    match packing(path) {
        Some(Packing::Zip) => zip(path, file, visit),
        Some(Packing::Tar) => tar(path, "", &mut file, 0, visit),
        _ => tar(path, "", &mut GzDecoder::new(file), 0, visit),
    }
}

fn zip<R: Read + Seek>(path: &Path, file: R, visit: &mut Visit) -> Result<(), PrepareError> {
    let mut archive =
        zip::ZipArchive::new(file).map_err(|error| unreadable(path, "", error.to_string()))?;
    for index in 0..archive.len() {
        let mut entry = archive
            .by_index(index)
            .map_err(|error| unreadable(path, &format!("entry {index}"), error.to_string()))?;
        if !entry.is_file() {
            continue;
        }
        let name = checked(path, Path::new(entry.name()))?;
        found(path, name, &mut entry, 0, visit)?;
    }
    Ok(())
}

fn tar(
    path: &Path,
    above: &str,
    reader: &mut dyn Read,
    depth: usize,
    visit: &mut Visit,
) -> Result<(), PrepareError> {
    let failed =
        |error: std::io::Error| unreadable(path, above.trim_end_matches('/'), error.to_string());
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let inside = entry.path().map_err(failed)?.into_owned();
        let name = format!("{above}{}", checked(path, &inside)?);
        // Links lead elsewhere; no published set needs one.
        if entry.header().entry_type().is_file() {
            found(path, name, &mut entry, depth, visit)?;
        }
    }
    Ok(())
}

/// A file of an archive: looked into if it is a tar itself (ImageNet's classes, Caltech's images).
fn found(
    container: &Path,
    path: String,
    reader: &mut dyn Read,
    depth: usize,
    visit: &mut Visit,
) -> Result<(), PrepareError> {
    let above = format!("{path}/");
    match packing(Path::new(&path)).filter(|_| depth < 2) {
        Some(Packing::Tar) => tar(container, &above, reader, depth + 1, visit),
        Some(Packing::TarGz) => tar(
            container,
            &above,
            &mut GzDecoder::new(reader),
            depth + 1,
            visit,
        ),
        _ => visit(&mut Member {
            path,
            reader,
            container,
        }),
    }
}

/// What an archive, or an archive within it, is refused with.
fn unreadable(container: &Path, member: &str, what: String) -> PrepareError {
    if member.is_empty() {
        return PrepareError::Form {
            what: container.display().to_string(),
            problem: format!("this archive cannot be read: {what}; fetch it again"),
        };
    }
    PrepareError::Member {
        container: container.to_owned(),
        member: member.to_owned(),
        what,
    }
}

/// A path that stays within its archive.
fn checked(container: &Path, path: &Path) -> Result<String, PrepareError> {
    let stays = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !stays || path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(PrepareError::Member {
            container: container.to_owned(),
            member: path.display().to_string(),
            what: "its path leads out of the archive; such an archive is damaged or a trap: fetch it again"
                .to_owned(),
        });
    }
    Ok(joined(path))
}

fn joined(path: &Path) -> String {
    let parts: Vec<_> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(part) => Some(part.to_string_lossy()),
            _ => None,
        })
        .collect();
    parts.join("/")
}
