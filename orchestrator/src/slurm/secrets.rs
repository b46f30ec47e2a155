//! Secrets of a run: values of environment variables that are taken where the run is submitted, kept
//! in a file of the user's own beside the runs, and given to the ranks alone. They are never in the
//! experiment, the run directory, a batch script, a job's environment or a log.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{Cluster, DEFAULT_SECRETS};

/// Folder of everybody's secrets in the folder of runs.
const FOLDER: &str = ".secrets";

/// A secret: name and value. Its value is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Name of the environment variable.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=...", self.name)
    }
}

/// The secrets of an experiment, from the environment of whoever submits it.
///
/// # Errors
/// Kind [`ExitKind::Usage`]: one that the experiment names is not set; or a value has a line break.
pub fn take(cluster: &Cluster, lookup: impl Fn(&str) -> Option<String>) -> Result<Vec<Secret>> {
    let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let mut secrets = Vec::new();
    match &cluster.secrets {
        Some(names) => {
            for name in names {
                let value = set(name).ok_or_else(|| {
                    let message =
                        format!("the environment variable '{name}' (cluster.secrets) is not set");
                    Error::new(ExitKind::Usage, message)
                        .hint("set it where you submit, or take it out of 'cluster.secrets'")
                })?;
                secrets.push((name.clone(), value));
            }
        }
        None => {
            let found = DEFAULT_SECRETS
                .into_iter()
                .filter(|name| !cluster.env.contains_key(*name))
                .filter_map(|name| Some((name.to_owned(), set(name)?)));
            secrets.extend(found);
        }
    }
    let secret = |(name, value): (String, String)| {
        if value.contains(['\n', '\r', '\0']) {
            let message = format!("the value of the secret '{name}' has a line break in it");
            return Err(Error::new(ExitKind::Usage, message)
                .hint("put it into a file, and the file's path into 'cluster.env'"));
        }
        Ok(Secret { name, value })
    };
    secrets.into_iter().map(secret).collect()
}

/// Where this user's secrets of a run are: `<runs>/.secrets/<user id>/<run id>.env`.
#[must_use]
pub fn file(runs: &Path, run_id: &str) -> PathBuf {
    folder(runs).join(format!("{run_id}.env"))
}

pub(crate) fn folder(runs: &Path) -> PathBuf {
    let user = nix::unistd::geteuid().to_string();
    runs.join(FOLDER).join(user)
}

/// Keeps the secrets of a run, in place of those that were kept before. Without any the file goes.
///
/// # Errors
/// The file cannot be written, or its folder is somebody else's.
pub fn write(runs: &Path, run_id: &str, secrets: &[Secret]) -> Result<()> {
    if secrets.is_empty() {
        return remove(runs, run_id);
    }
    let text: String = secrets
        .iter()
        .map(|secret| format!("{}={}\n", secret.name, secret.value))
        .collect();
    keep(runs, &format!("{run_id}.env"), &text)
}

/// Keeps a text that only this user may read, in place of the one that was kept before.
///
/// # Errors
/// The file cannot be written, or its folder is somebody else's.
pub(crate) fn keep(runs: &Path, name: &str, text: &str) -> Result<()> {
    let folder = folder(runs);
    make_folders(runs, &folder)?;
    let path = folder.join(name);
    let draft = folder.join(format!(".{name}.{}", std::process::id()));
    let written = write_file(&draft, text).and_then(|()| fs::rename(&draft, &path));
    written.map_err(|error| {
        let _ = fs::remove_file(&draft);
        Error::io("keep the secrets in", &path, error)
    })
}

fn write_file(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The common folder is open to all as `/tmp` is: runs of several users may lie under one root. Each
/// user's own is closed.
fn make_folders(runs: &Path, own: &Path) -> Result<()> {
    let common = runs.join(FOLDER);
    match fs::create_dir(&common) {
        Ok(()) => {
            let open = fs::Permissions::from_mode(0o1777);
            fs::set_permissions(&common, open)
                .map_err(|error| Error::io("open to all users", &common, error))?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io("make the folder of secrets", &common, error)),
    }
    match fs::DirBuilder::new().mode(0o700).create(own) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_own(own),
        Err(error) => Err(Error::io("make the folder of secrets", own, error)),
    }
}

/// Reads the secrets of a run. There may be none.
///
/// # Errors
/// The file cannot be read, is somebody else's or is open to others, or holds something else.
pub fn read(runs: &Path, run_id: &str) -> Result<Vec<Secret>> {
    let path = file(runs, run_id);
    let Some(text) = kept(runs, &format!("{run_id}.env"))? else {
        return Ok(Vec::new());
    };
    let mut secrets = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some((name, value)) = line.split_once('=') else {
            let message = format!("{}:{}: no NAME=value", path.display(), index + 1);
            return Err(Error::new(ExitKind::Internal, message)
                .hint("take it away and submit again where the secrets are set"));
        };
        secrets.push(Secret {
            name: name.to_owned(),
            value: value.to_owned(),
        });
    }
    Ok(secrets)
}

/// Reads a text that was kept. There may be none.
///
/// # Errors
/// The file cannot be read, or is somebody else's or open to others.
pub(crate) fn kept(runs: &Path, name: &str) -> Result<Option<String>> {
    let path = folder(runs).join(name);
    match fs::read_to_string(&path) {
        Ok(text) => check_own(&path).map(|()| Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read the secrets in", &path, error)),
    }
}

/// Forgets the secrets of a run.
///
/// # Errors
/// The file is there and cannot be removed.
pub fn remove(runs: &Path, run_id: &str) -> Result<()> {
    forget(runs, &format!("{run_id}.env"))
}

/// Forgets a text that was kept.
///
/// # Errors
/// The file is there and cannot be removed.
pub(crate) fn forget(runs: &Path, name: &str) -> Result<()> {
    let path = folder(runs).join(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove the secrets in", &path, error))
        }
        _ => Ok(()),
    }
}

/// Checks that a file or folder is this user's alone.
fn check_own(path: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(path).map_err(|error| Error::io("look at", path, error))?;
    let wrong = if meta.is_symlink() {
        "is a symbolic link".to_owned()
    } else if meta.uid() != nix::unistd::geteuid().as_raw() {
        format!("belongs to another user ({})", meta.uid())
    } else if meta.mode() & 0o077 != 0 {
        format!("is open to other users (mode {:03o})", meta.mode() & 0o777)
    } else {
        return Ok(());
    };
    let shown = path.display();
    let message = format!("'{shown}' holds secrets and {wrong}");
    Err(Error::new(ExitKind::Usage, message).hint(format!(
        "if nobody else wrote it, close it with 'chmod go= {shown}'; change the secrets if somebody could read them"
    )))
}
