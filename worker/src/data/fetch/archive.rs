//! Fetching published archives: compared with their checksum, and unpacked aside, so that a folder is there
//! whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use serde::Serialize;

use super::address::Reach;
use super::download::{Download, Problem, hash};
use super::published::{Archive, Contents, Published};
use super::unpack::{unpack_gz, unpack_tar_gz};

/// Where archives come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Where their authors publish them.
    Published,
    /// A folder of the web that has the same files.
    Web(Url),
    /// A folder that they were put into by hand.
    Folder(PathBuf),
}

/// How a set is fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchiveOptions {
    /// Where from.
    pub from: Origin,
    /// The folder that gets the set's folder.
    pub folder: PathBuf,
    /// Requests that may fail in a way that passes, without getting any further.
    pub tries: u32,
    /// Pause before the second try; it doubles from try to try.
    pub pause: Duration,
    /// Longest silence of a server.
    pub timeout: Duration,
    /// Where requests may go.
    pub reach: Reach,
    /// How we call ourselves.
    pub user_agent: String,
}

/// What a fetch of a set came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SetReport {
    /// The set.
    pub set: String,
    /// Folders that are there now.
    pub folders: Vec<PathBuf>,
    /// Bytes that were received.
    pub received_bytes: u64,
    /// Whether everything was there before.
    pub was_there: bool,
}

/// Fetches the archives of a set that are not there, and unpacks them.
///
/// # Errors
/// If no place has an archive with the right checksum, what is in it is not what it should be, or the
/// disk refuses. What is in the set's folder is whole in any case.
pub fn fetch_set(set: &Published, options: &ArchiveOptions) -> Result<SetReport> {
    fs::create_dir_all(&options.folder)
        .map_err(|error| Error::io("create", &options.folder, error))?;
    let mut report = SetReport {
        set: set.name.to_owned(),
        folders: Vec::new(),
        received_bytes: 0,
        was_there: true,
    };
    for archive in set.archives {
        let (Contents::Gz { folder, .. } | Contents::TarGz { folder, .. }) = archive.contents;
        let folder = options.folder.join(folder);
        if !is_there(archive, &folder)? {
            report.was_there = false;
            let (path, received) = obtain(archive, options)?;
            report.received_bytes += received;
            unpack(archive, &path, &folder)?;
            if !matches!(options.from, Origin::Folder(_)) && path.is_file() {
                fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
            }
        }
        if !report.folders.contains(&folder) {
            report.folders.push(folder);
        }
    }
    Ok(report)
}

/// Whether the files of an archive are there with their lengths.
fn is_there(archive: &Archive, folder: &Path) -> Result<bool> {
    let single;
    let files = match archive.contents {
        Contents::Gz { name, bytes, .. } => {
            single = [(name, bytes), (archive.file, archive.bytes)];
            single.as_slice()
        }
        Contents::TarGz { files, .. } => files,
    };
    let mut missing = false;
    for &(name, bytes) in files {
        match fs::metadata(folder.join(name)) {
            Ok(there) if there.len() == bytes => {}
            Ok(there) => {
                return Err(Error::new(
                    ExitKind::Data,
                    format!(
                        "'{}' has {} bytes, not the {bytes} of the published file",
                        folder.join(name).display(),
                        there.len()
                    ),
                )
                .hint("move it away, and fetch again"));
            }
            Err(_) => missing = true,
        }
    }
    if missing && matches!(archive.contents, Contents::TarGz { .. }) && folder.exists() {
        return Err(Error::new(
            ExitKind::Data,
            format!("'{}' is there, but not whole", folder.display()),
        )
        .hint("move it away, and fetch again"));
    }
    Ok(!missing)
}

/// The archive as a file whose checksum was compared, and how many bytes were received for it.
fn obtain(archive: &Archive, options: &ArchiveOptions) -> Result<(PathBuf, u64)> {
    let base = match &options.from {
        Origin::Folder(folder) => {
            let path = folder.join(archive.file);
            let found = hash(&path)?.finish();
            if found != archive.sha256 {
                return Err(wrong_sum(&path.display().to_string(), &found, archive));
            }
            return Ok((path, 0));
        }
        Origin::Web(base) => vec![base.clone()],
        Origin::Published => archive
            .places
            .iter()
            .filter_map(|place| Url::parse(place).ok())
            .collect(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(ExitKind::Internal, format!("cannot start: {error}")))?;
    let mut problems = Vec::new();
    for mut base in base {
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let url = base.join(archive.file).map_err(|error| {
            Error::new(ExitKind::Usage, format!("'{base}' is no base: {error}"))
        })?;
        let mut download = Download::new(archive, options, url)?;
        match runtime.block_on(download.run()) {
            Ok(path) => return Ok((path, download.received)),
            Err(Problem::Fatal(error)) => return Err(error),
            Err(Problem::Place { what, .. }) => problems.push(format!("{}: {what}", download.url)),
        }
    }
    Err(Error::new(
        ExitKind::Data,
        format!(
            "'{}' cannot be fetched: {}",
            archive.file,
            problems.join("; ")
        ),
    )
    .hint("fetch it by hand into a folder, and name that (--from FOLDER, --fetch=FOLDER)"))
}

fn wrong_sum(of: &str, found: &str, archive: &Archive) -> Error {
    Error::new(
        ExitKind::Data,
        format!(
            "'{of}' is not the published file: its SHA-256 is {found}, not {}",
            archive.sha256
        ),
    )
}

/// Unpacks aside, then puts it into its place.
fn unpack(archive: &Archive, path: &Path, folder: &Path) -> Result<()> {
    let open = || File::open(path).map_err(|error| Error::io("read", path, error));
    let wrong = |error: super::UnpackError| {
        Error::new(ExitKind::Data, format!("{}: {error}", archive.file))
    };
    let parent = folder.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| Error::io("create", parent, error))?;
    let aside = Folder::new(parent.join(format!(".unpacking-{}", archive.file)))?;
    let moved = |from: &Path, to: &Path| {
        fs::rename(from, to).map_err(|error| Error::io("move into place", to, error))
    };
    match archive.contents {
        Contents::Gz { name, bytes, .. } => {
            let to = aside.0.join(name);
            unpack_gz(BufReader::new(open()?), &to, bytes).map_err(wrong)?;
            let kept = aside.0.join(archive.file);
            fs::copy(path, &kept).map_err(|error| Error::io("copy", path, error))?;
            fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
            moved(&kept, &folder.join(archive.file))?;
            moved(&to, &folder.join(name))?;
            atomic::sync_dir(folder)
        }
        Contents::TarGz {
            folder: top,
            files,
            most_bytes,
        } => {
            let to = aside.0.join(top);
            fs::create_dir(&to).map_err(|error| Error::io("create", &to, error))?;
            unpack_tar_gz(BufReader::new(open()?), top, files, most_bytes, &to).map_err(wrong)?;
            moved(&to, folder)?;
            atomic::sync_dir(parent)
        }
    }
}

/// A folder that goes away with all that is in it, whatever happens; what a killed process left of it
/// goes away first.
struct Folder(PathBuf);

impl Folder {
    fn new(path: PathBuf) -> Result<Self> {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &path, error));
            }
            _ => {}
        }
        fs::create_dir(&path).map_err(|error| Error::io("create", &path, error))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The next fetch tries again.
        let _ = fs::remove_dir_all(&self.0);
    }
}
