//! Taking an archive in. It may come from anybody: nothing of it appears under a run's name before all of
//! it was checked, and nothing is written outside a folder that was made for it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

use git2::Oid;
use jiff::Timestamp;
use rocket_common::atomic;
use rocket_common::checkpoint;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use rocket_common::run_dir::{self, Imported, Manifest, RunDir};
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

use super::hashing::Hashing;
use super::{BUNDLE, FORMAT, INDEX, Index, Member, RUN, SCHEMA};
use crate::pin::{self, Source};
use crate::{bundle, runs, submit};

/// Longest index.
const MAX_INDEX: u64 = 64 << 20;
/// Longest file that is read as a whole into memory.
const MAX_TEXT: u64 = 64 << 20;
/// Most members.
const MAX_MEMBERS: usize = 1 << 20;
/// Most bytes after the last member: tar ends in blocks of zeros.
const MAX_TAIL: u64 = 1 << 20;

/// What an archive may unpack to without a word: more than any checkpoint.
pub(crate) const MOST: u64 = 1 << 40;

/// The run and the commit that an archive is of, by its index alone.
///
/// # Errors
/// It is no archive.
pub(crate) fn peek(path: &Path) -> Result<(String, String)> {
    let context = |error: Error| error.context(format!("'{}'", path.display()));
    let mut decoder = open(path).map_err(context)?;
    let mut archive = Archive::new(&mut decoder);
    let index = first(&mut archive).map_err(context)?;
    Ok((index.run, index.commit))
}

fn first<R: Read>(archive: &mut Archive<R>) -> Result<Index> {
    let entries = archive.entries().map_err(|error| unreadable(&error))?;
    match entries.raw(true).next() {
        Some(entry) => read_index(&mut entry.map_err(|error| unreadable(&error))?, u64::MAX),
        None => Err(damaged("it is empty")),
    }
}

/// What was taken in.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The run, as it now lies here.
    pub(crate) run: RunDir,
    /// Number of files.
    pub(crate) files: usize,
    /// Step of the checkpoint that came along.
    pub(crate) checkpoint: Option<u64>,
    /// What is worth saying, one sentence each.
    pub(crate) notes: Vec<String>,
}

/// Takes an archive into a folder of runs, and its commit into the repository here, if there is one. What it
/// unpacks to may be `limit` bytes long.
///
/// # Errors
/// Kind [`ExitKind::Usage`]: the run is here already; else what is wrong with the archive. Nothing is then
/// left of it.
pub(crate) fn take_in(
    path: &Path,
    root: &Path,
    source: Option<&Source>,
    limit: u64,
) -> Result<Taken> {
    runs::make_root(root)?;
    let aside = Aside::new(root)?;
    let (index, sha256) = unpack(path, root, &aside.0, limit)
        .map_err(|error| error.context(format!("'{}'", path.display())))?;
    let found = examine(&index, &aside.0)
        .map_err(|error| error.context(format!("'{}' was not taken in", path.display())))?;
    let mut notes = Vec::new();
    let store = root.join(pin::STORE);
    let name = pin::ref_name(&index.run);
    found.commit.keep(&store, &name)?;
    if let Some(source) = source
        && let Err(error) = pin::fetch(&store, source, found.id, Some(&name))
    {
        notes.push(format!("{error}; the store of pins has it"));
    }
    let manifest = here(found.manifest, &index, root, sha256);
    let unpacked = aside.0.join(RUN);
    let made = atomic::write_json(&unpacked.join("run.json"), &manifest)
        .and_then(|()| publish(&unpacked, root, &index.run));
    let run = made.inspect_err(|_| {
        // Another import was faster: the ref then is its own as well.
        if !root.join(&index.run).exists() {
            pin::forget(source, &store, &index.run);
        }
    })?;
    Ok(Taken {
        run,
        files: index.members.len(),
        checkpoint: index.checkpoint,
        notes,
    })
}

/// A folder that goes whatever happens.
struct Aside(PathBuf);

impl Aside {
    fn new(root: &Path) -> Result<Self> {
        let path = root.join(format!(".import-{}", atomic::unique()));
        fs::create_dir(&path).map_err(|error| Error::io("make the folder", &path, error))?;
        Ok(Self(path))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn damaged(message: impl Into<String>) -> Error {
    Error::new(ExitKind::Data, message).hint("export the run once more, or copy the file again")
}

fn unreadable(error: &io::Error) -> Error {
    damaged(format!("it cannot be unpacked to its end: {error}"))
}

type Compressed = BufReader<Hashing<io::Chain<io::Cursor<[u8; 4]>, File>>>;

/// Opens an archive for reading to the end of its one frame.
fn open(path: &Path) -> Result<zstd::Decoder<'static, Compressed>> {
    let mut file = File::open(path).map_err(|error| Error::io("open", path, error))?;
    let mut magic = [0; 4];
    let is_zstd = file.read_exact(&mut magic).is_ok() && magic == [0x28, 0xb5, 0x2f, 0xfd];
    if !is_zstd {
        return Err(Error::new(
            ExitKind::Usage,
            "it is no archive of a run: it does not begin as zstd does",
        )
        .hint("'rocket export RUN' writes one"));
    }
    let hashing = Hashing {
        inner: io::Cursor::new(magic).chain(file),
        hasher: Sha256::new(),
    };
    let decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(1 << 20, hashing));
    Ok(decoder.map_err(|error| unreadable(&error))?.single_frame())
}

/// Writes every member below `into`, after comparison with the index. Gives the index, and the SHA-256 of
/// the archive.
fn unpack(path: &Path, root: &Path, into: &Path, limit: u64) -> Result<(Index, String)> {
    let mut decoder = open(path)?;
    let index = {
        let mut archive = Archive::new(&mut decoder);
        // Raw: extensions of tar, of which rocket writes none, are refused and not followed.
        let entries = archive.entries().map_err(|error| unreadable(&error))?;
        let mut entries = entries.raw(true);
        let mut next = || match entries.next() {
            Some(Ok(entry)) => Ok(Some(entry)),
            Some(Err(error)) => Err(unreadable(&error)),
            None => Ok(None),
        };
        let Some(mut first) = next()? else {
            return Err(damaged("it is empty"));
        };
        let index = read_index(&mut first, limit)?;
        check_here(&index, root)?;
        check_space(&index, root)?;
        for member in &index.members {
            let Some(mut entry) = next()? else {
                return Err(damaged(format!("it ends before '{}'", member.path)));
            };
            extract(&mut entry, member, into)?;
        }
        if let Some(more) = next()? {
            let name = String::from_utf8_lossy(&more.path_bytes()).into_owned();
            return Err(damaged(format!(
                "it holds '{name}', which its index does not name"
            )));
        }
        index
    };
    // To the end of the frame, whose checksum is compared there.
    let tail = io::copy(&mut (&mut decoder).take(MAX_TAIL + 1), &mut io::sink())
        .map_err(|error| unreadable(&error))?;
    let mut rest = decoder.finish();
    let more =
        io::copy(&mut (&mut rest).take(1), &mut io::sink()).map_err(|error| unreadable(&error))?;
    if tail > MAX_TAIL || more > 0 {
        return Err(damaged("something follows after its end"));
    }
    Ok((index, format!("{:x}", rest.into_inner().hasher.finalize())))
}

fn read_index<R: Read>(entry: &mut tar::Entry<'_, R>, limit: u64) -> Result<Index> {
    let is_index = entry.path_bytes() == INDEX.as_bytes();
    if !is_index || entry.header().entry_type() != EntryType::Regular {
        return Err(Error::new(
            ExitKind::Usage,
            format!("it is no archive of a run: it does not begin with {INDEX}"),
        )
        .hint("'rocket export RUN' writes one"));
    }
    let size = entry.size();
    if size > MAX_INDEX {
        return Err(damaged(format!("its index is {size} bytes long")));
    }
    let mut text = Vec::new();
    entry
        .read_to_end(&mut text)
        .map_err(|error| unreadable(&error))?;
    // The schema first: a newer one may lack what this version requires.
    let value: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|error| damaged(format!("its index is damaged: {error}")))?;
    let schema = value.get("schema").and_then(serde_json::Value::as_u64);
    if schema.is_some_and(|schema| schema > u64::from(SCHEMA)) {
        return Err(
            Error::new(ExitKind::Usage, "it was written by a newer rocket")
                .hint("take it in with the rocket that wrote it, or a newer one"),
        );
    }
    let index: Index = serde_json::from_value(value)
        .map_err(|error| damaged(format!("its index is damaged: {error}")))?;
    check_index(&index, limit)?;
    Ok(index)
}

/// Whether an index can be that of a run. Everything that becomes a path is checked here.
fn check_index(index: &Index, limit: u64) -> Result<()> {
    if index.format != FORMAT {
        return Err(damaged(format!("its index is of a '{}'", index.format)));
    }
    let name = run_dir::name_of_run_id(&index.run);
    if name.is_none_or(|name| pin::check_name(name).is_err()) {
        return Err(damaged(format!("{:?} is no run id", index.run)));
    }
    let hex = index.commit.len() == 40 && index.commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hex || !index.run.contains(&format!("-{}", &index.commit[..8])) {
        return Err(damaged(format!(
            "commit '{}' does not belong to run {}",
            index.commit, index.run
        )));
    }
    if index.members.len() > MAX_MEMBERS {
        return Err(damaged(format!("it holds {} files", index.members.len())));
    }
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut total: u64 = 0;
    for member in &index.members {
        check_path(&member.path)?;
        if !seen.insert(&member.path) {
            return Err(damaged(format!("it holds '{}' twice", member.path)));
        }
        total = total.saturating_add(member.bytes);
    }
    for path in &seen {
        // A file that another one's path goes through.
        let parents = Path::new(path).ancestors().skip(1);
        let mut parents = parents.filter_map(Path::to_str);
        if let Some(parent) = parents.find(|parent| seen.contains(parent)) {
            return Err(damaged(format!(
                "it holds '{parent}' as a file and as a folder"
            )));
        }
    }
    if total > limit {
        return Err(Error::new(
            ExitKind::Usage,
            format!("it unpacks to {total} bytes, more than the {limit} that are allowed"),
        )
        .hint("if it is from somebody you trust, allow more with --max-size"));
    }
    for needed in [
        BUNDLE.to_owned(),
        in_run("run.json"),
        in_run("experiment.yaml"),
    ] {
        if !seen.contains(needed.as_str()) {
            return Err(damaged(format!("it lacks '{needed}'")));
        }
    }
    Ok(())
}

fn in_run(name: &str) -> String {
    format!("{RUN}/{name}")
}

/// A path that stays below the folder that it is unpacked to, and is one that `rocket export` writes.
fn check_path(text: &str) -> Result<()> {
    let refuse = |why: &str| {
        Err(Error::new(
            ExitKind::Data,
            format!("it holds a file named {text:?}, which {why}"),
        )
        .hint("'rocket export' writes no such file: it was made by hand, perhaps to do harm"))
    };
    let path = Path::new(text);
    if path.is_absolute() {
        return refuse("is an absolute path");
    }
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            _ => return refuse("leads out of its folder"),
        }
    }
    let plain = !text.is_empty() && clean.to_str() == Some(text) && !text.contains('\0');
    let hidden = text.split('/').any(|part| part.starts_with('.'));
    let inner = text.strip_prefix("run/");
    let known = text == BUNDLE
        || inner.is_some_and(|inner| {
            ["run.json", "experiment.yaml", "DONE", "metrics.jsonl"].contains(&inner)
                || ["events/", "eval/", "attempts/", "checkpoints/"]
                    .iter()
                    .any(|folder| inner.starts_with(folder))
        });
    if !plain || hidden || !known {
        return refuse("is no part of a run");
    }
    Ok(())
}

/// Before anything is unpacked: whether the run is here already.
fn check_here(index: &Index, root: &Path) -> Result<()> {
    let dir = root.join(&index.run);
    if fs::symlink_metadata(&dir).is_ok() {
        let id = &index.run;
        return Err(Error::new(
            ExitKind::Usage,
            format!("it is run {id}, which is in '{}' already", root.display()),
        )
        .hint(format!("look at it with 'rocket show {id}', or take the archive into another folder of runs with --runs DIR")));
    }
    let reference = git2::Repository::open_bare(root.join(pin::STORE))
        .ok()
        .and_then(|store| store.refname_to_id(&pin::ref_name(&index.run)).ok());
    match reference {
        Some(other) if other.to_string() != index.commit => Err(Error::new(
            ExitKind::Usage,
            format!(
                "run {} is pinned to another commit here, {other}",
                index.run
            ),
        )
        .hint("if that run is gone, 'rocket gc' removes its ref")),
        _ => Ok(()),
    }
}

/// Before anything is unpacked: whether there is room for it.
fn check_space(index: &Index, root: &Path) -> Result<()> {
    let total: u64 = index.members.iter().map(|member| member.bytes).sum();
    let Ok(space) = nix::sys::statvfs::statvfs(root) else {
        return Ok(());
    };
    let free = space
        .blocks_available()
        .saturating_mul(space.fragment_size());
    if total > free {
        return Err(Error::new(
            ExitKind::Usage,
            format!(
                "it unpacks to {total} bytes, and '{}' has room for {free}",
                root.display()
            ),
        )
        .hint("make room, for example with 'rocket gc', or export it with --checkpoint none"));
    }
    Ok(())
}

/// Writes one member, which must be exactly what the index says.
fn extract<R: Read>(entry: &mut tar::Entry<'_, R>, member: &Member, into: &Path) -> Result<()> {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let kind = entry.header().entry_type();
    if kind != EntryType::Regular {
        let what = match kind {
            EntryType::Symlink | EntryType::Link => "a link",
            EntryType::Char | EntryType::Block => "a device",
            EntryType::Fifo => "a pipe",
            EntryType::Directory => "a folder",
            _ => "not a plain file",
        };
        return Err(Error::new(
            ExitKind::Data,
            format!("it holds {name:?}, which is {what}"),
        )
        .hint("'rocket export' writes plain files only: it was made by hand, perhaps to do harm"));
    }
    if name != member.path {
        let message = format!("it holds {name:?} where its index has '{}'", member.path);
        return Err(damaged(message));
    }
    if entry.size() != member.bytes {
        return Err(damaged(format!(
            "'{name}' is {} bytes long in place of {}",
            entry.size(),
            member.bytes
        )));
    }
    let path = into.join(&member.path);
    let failed = |error| Error::io("write", &path, error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = File::create_new(&path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut written = 0;
    loop {
        let read = entry
            .read(&mut buffer)
            .map_err(|error| unreadable(&error))?;
        if read == 0 {
            break;
        }
        written += read as u64;
        hasher.update(&buffer[..read]);
        file.write_all(&buffer[..read]).map_err(failed)?;
    }
    if written != member.bytes {
        return Err(damaged(format!("it ends within '{name}'")));
    }
    if format!("{:x}", hasher.finalize()) != member.sha256 {
        return Err(damaged(format!("'{name}' does not match its checksum")));
    }
    file.sync_all().map_err(failed)
}

/// What was unpacked and holds together.
struct Found {
    manifest: Manifest,
    commit: pin::Unbundled,
    id: Oid,
}

/// Whether the parts belong together: manifest, experiment, commit, checkpoint.
fn examine(index: &Index, aside: &Path) -> Result<Found> {
    let unpacked = aside.join(RUN);
    for part in ["events", "attempts", "checkpoints", "eval"] {
        let part = unpacked.join(part);
        fs::create_dir_all(&part).map_err(|error| Error::io("make the folder", &part, error))?;
    }
    let manifest_path = unpacked.join("run.json");
    let experiment_path = unpacked.join("experiment.yaml");
    for path in [&manifest_path, &experiment_path] {
        let length = fs::metadata(path).map_or(0, |meta| meta.len());
        if length > MAX_TEXT {
            let name = path.file_name().unwrap_or_default().display();
            return Err(damaged(format!("its {name} is {length} bytes long")));
        }
    }
    let manifest = Manifest::read(&manifest_path).map_err(|error| {
        error
            .context("its run.json cannot be used")
            .with_kind(ExitKind::Data)
    })?;
    if manifest.run_id != index.run || manifest.commit != index.commit {
        return Err(damaged(format!(
            "its run.json is of run {}, commit {}",
            manifest.run_id, manifest.commit
        )));
    }
    if bundle::sha256(&experiment_path)? != manifest.experiment_sha256 {
        return Err(damaged("its experiment is not the one that was submitted"));
    }
    let experiment = Experiment::read(&experiment_path)?;
    let id = Oid::from_str(&index.commit).map_err(|error| damaged(error.message()))?;
    let commit = pin::unbundle(&aside.join(BUNDLE), id, &aside.join("pin.git"))?;
    let pinned = Experiment::from_resolved(&commit.experiment()?)?;
    if pinned.recipe_hash() != experiment.recipe_hash() {
        return Err(damaged("the experiment in its commit is another one"));
    }
    for (step, dir) in checkpoint::list(&unpacked.join("checkpoints"))? {
        checkpoint::verify(&dir)?;
        if index.checkpoint != Some(step) {
            return Err(damaged(format!(
                "its index does not name the checkpoint of step {step}"
            )));
        }
    }
    Ok(Found {
        manifest,
        commit,
        id,
    })
}

/// The manifest as it is to lie here: what it says of places is of the machine where it ran.
fn here(mut manifest: Manifest, index: &Index, root: &Path, archive_sha256: String) -> Manifest {
    manifest.imported = Some(Imported {
        time: Timestamp::now(),
        user: submit::user(),
        dir: index.dir.clone(),
        archive_sha256,
        machine: index.machine.clone(),
        sources: index.sources.clone(),
        sweep: manifest.sweep.take(),
    });
    // If the same programs are in the store here, they are the run's.
    let programs = manifest
        .bundle
        .dir
        .file_name()
        .unwrap_or_default()
        .to_owned();
    manifest.bundle.dir = root.join(bundle::FOLDER).join(programs);
    manifest
}

/// Lets the run appear, whole.
fn publish(unpacked: &Path, root: &Path, id: &str) -> Result<RunDir> {
    let path = root.join(id);
    // Renaming onto a directory that is not empty fails: of two imports only one can win.
    fs::rename(unpacked, &path).map_err(|error| match error.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => Error::new(
            ExitKind::Usage,
            format!("run {id} is in '{}' already", root.display()),
        ),
        _ => Error::io("create", &path, error),
    })?;
    atomic::sync_dir(root)?;
    RunDir::open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_their_folder_and_are_those_of_a_run() {
        for good in [
            "commit.bundle",
            "run/run.json",
            "run/events/submit-n1-7.jsonl",
            "run/checkpoints/step-00000004/model.bin",
        ] {
            check_path(good).unwrap();
        }
        for bad in [
            "",
            "/etc/passwd",
            "../run/run.json",
            "run/../../x",
            "run/events/../../x",
            "run//run.json",
            "./run/run.json",
            "run/events/",
            "run/events/.hidden",
            "run/CANCEL",
            "run/pin/x",
            "other",
            "run/events/a\0b",
        ] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
    }
}
