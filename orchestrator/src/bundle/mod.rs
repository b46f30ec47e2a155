//! Bundle: what runs is pinned too. `rocket`, `rocket-worker` and the libraries that it loads are
//! kept by content under `<runs>/bundles/<sha>/{bin,lib}`, found through `$ORIGIN/../lib`, and
//! verified at every attempt, so that a rebuild never reaches a run that was submitted before it.

mod cuda;
mod doom;
mod elf;
mod hash;
mod identity;

pub(crate) use doom::{Doom, outlive};
pub use elf::libraries;
pub use hash::{Cache, sha256, sha256_text};
pub use identity::Identity;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::{Bundle, RunDir};

/// Names the trainer's binary when it does not lie beside `rocket`.
pub const WORKER_ENV: &str = "ROCKET_WORKER";

/// Name of the store of bundles in the folder of runs.
pub(crate) const FOLDER: &str = "bundles";
/// Path of the orchestrator in a bundle.
pub const ROCKET: &str = "bin/rocket";
/// Path of the trainer in a bundle.
pub const WORKER: &str = "bin/rocket-worker";

/// The trainer's binary: `$ROCKET_WORKER`, else beside this program's own.
///
/// # Errors
/// There is none.
pub fn find_worker(own: &Path) -> Result<PathBuf> {
    let path = match std::env::var_os(WORKER_ENV) {
        Some(path) if !path.is_empty() => PathBuf::from(path),
        _ => own.with_file_name("rocket-worker"),
    };
    if path.is_file() {
        return std::path::absolute(&path).map_err(|error| Error::io("find", &path, error));
    }
    Err(Error::new(
        ExitKind::Usage,
        format!("the trainer '{}' is not there", path.display()),
    )
    .hint(format!(
        "build it (cargo build --release), or name it in {WORKER_ENV}"
    )))
}

/// Whether a program is the trainer of a run's bundle.
pub(crate) fn is_trainer(run: &RunDir, program: &OsStr) -> bool {
    run.manifest()
        .is_ok_and(|manifest| Path::new(program) == manifest.bundle.dir.join(WORKER))
}

/// Copies binaries, and the libraries that they load, into the store of bundles, unless one with the
/// same content is there already.
///
/// # Errors
/// A file cannot be read, or the store cannot be written.
pub fn make(store: &Path, rocket: &Path, worker: Option<&Path>) -> Result<Bundle> {
    let sources = sources(rocket, worker)?;
    let mut cache = Cache::open();
    let files = hashes(&sources, &mut cache)?;
    let list: String = files
        .iter()
        .map(|(name, sha)| format!("{sha}  {name}\n"))
        .collect();
    let dir = store.join(&sha256_text(&list)[..16]);
    if is_whole(&dir, &files) {
        touch(&dir);
    } else {
        let result = copy(store, &dir, &sources, &files);
        if result.is_err() {
            sources.values().for_each(|path| cache.forget(path));
            cache.save();
        }
        result?;
    }
    cache.save();
    Ok(Bundle { dir, files })
}

/// What a bundle of these programs would hold: SHA-256 of each file by its path within it.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn files(rocket: &Path, worker: Option<&Path>) -> Result<BTreeMap<String, String>> {
    let mut cache = Cache::open();
    let files = hashes(&sources(rocket, worker)?, &mut cache);
    cache.save();
    files
}

/// Where each file of a bundle is from, by its path within it.
fn sources(rocket: &Path, worker: Option<&Path>) -> Result<BTreeMap<String, PathBuf>> {
    let mut sources: BTreeMap<String, PathBuf> = BTreeMap::new();
    sources.insert(ROCKET.into(), rocket.to_path_buf());
    if let Some(worker) = worker {
        sources.insert(WORKER.into(), worker.to_path_buf());
        let loaded = libraries(worker)?;
        let opened = cuda::opened_by_name(worker, &loaded)?;
        for (name, path) in loaded.into_iter().chain(opened) {
            sources.insert(format!("lib/{name}"), path);
        }
    }
    Ok(sources)
}

fn hashes(
    sources: &BTreeMap<String, PathBuf>,
    cache: &mut Cache,
) -> Result<BTreeMap<String, String>> {
    let of = |(name, path): (&String, &PathBuf)| Ok((name.clone(), cache.sha256(path)?));
    sources.iter().map(of).collect()
}

/// Shows that a bundle is about to be used: `rocket gc` leaves alone what is young. By the clock of the
/// file system. Whoever may not do it has runs of somebody else's bundle, which those runs keep.
pub(crate) fn touch(dir: &Path) {
    use nix::sys::stat::futimens;
    use nix::sys::time::TimeSpec;
    if let Ok(dir) = fs::File::open(dir) {
        let _ = futimens(&dir, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW);
    }
}

/// Whether every file of a bundle is there.
#[must_use]
pub(crate) fn is_there(bundle: &Bundle) -> bool {
    is_whole(&bundle.dir, &bundle.files)
}

/// Whether every file is there; what is in them is the supervisor's to verify.
fn is_whole(dir: &Path, files: &BTreeMap<String, String>) -> bool {
    files.keys().all(|name| dir.join(name).is_file())
}

fn copy(
    store: &Path,
    dir: &Path,
    sources: &BTreeMap<String, PathBuf>,
    files: &BTreeMap<String, String>,
) -> Result<()> {
    let aside = store.join(format!(".new-{}", atomic::unique()));
    let result = (|| {
        for (name, from) in sources {
            let to = aside.join(name);
            let parent = to.parent().unwrap_or(&aside);
            fs::create_dir_all(parent).map_err(|error| Error::io("create", parent, error))?;
            // A copy and no hard link: a build that writes its output in place would change both.
            // std copies by copy_file_range, which shares blocks where the file system can.
            fs::copy(from, &to).map_err(|error| Error::io("copy a program to", &to, error))?;
            let mode = if name.starts_with("bin/") {
                0o555
            } else {
                0o444
            };
            fs::set_permissions(&to, fs::Permissions::from_mode(mode))
                .map_err(|error| Error::io("set the mode of", &to, error))?;
            if sha256(&to)? != files[name] {
                return Err(Error::new(
                    ExitKind::Internal,
                    format!("'{}' changed while it was copied", from.display()),
                )
                .hint("wait for the build to end, then submit again"));
            }
        }
        match fs::rename(&aside, dir) {
            // Somebody else was faster with the same content.
            Err(_) if is_whole(dir, files) => {
                let _ = fs::remove_dir_all(&aside);
                Ok(())
            }
            result => result.map_err(|error| Error::io("create", dir, error)),
        }
    })();
    if result.is_err() {
        let _ = fs::remove_dir_all(&aside);
    }
    result
}

/// Checks that every file of a bundle still is what was submitted.
///
/// # Errors
/// Kind [`ExitKind::Pin`]: one is missing or has changed, by name.
pub fn verify(bundle: &Bundle) -> Result<()> {
    for (name, expected) in &bundle.files {
        let path = bundle.dir.join(name);
        let short = name.rsplit('/').next().unwrap_or(name);
        let problem = match sha256(&path) {
            Ok(sha) if sha == *expected => continue,
            Ok(_) => format!("{short} changed after submit: '{}'", path.display()),
            Err(error) if !path.exists() => {
                let _ = error;
                format!("{short} is gone since submit: '{}'", path.display())
            }
            Err(error) => return Err(error.with_kind(ExitKind::Pin)),
        };
        return Err(Error::new(ExitKind::Pin, problem)
            .hint("submit the experiment again; a run goes on with the programs it began with or not at all"));
    }
    Ok(())
}
