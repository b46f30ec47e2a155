//! Writing an archive.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use git2::Oid;
use rocket_common::atomic;
use rocket_common::checkpoint::{self, BEST_METRIC, Checkpoint};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::{Manifest, RunDir};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use super::hashing::Hashing;
use super::{BUNDLE, FORMAT, INDEX, Index, Member, RUN, SCHEMA};
use crate::bundle::{self, Identity};
use crate::machine;
use crate::pin;
use crate::supervisor::pin_store;

/// Level of zstd: weights hardly compress, and text does at any level.
const LEVEL: i32 = 3;

/// Folders in `eval/` with what the weights give again, which does not go along.
const KEPT: [&str; 2] = ["classifiers", "features"];

/// The folder of events in a run directory.
const EVENTS: &str = "events/";

/// Bytes of the last part of a name in a ustar header (POSIX pax, "ustar Interchange Format").
const LONGEST: usize = 100;

/// Which checkpoint goes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The one with the best score.
    Best,
    /// The last good one.
    Last,
    /// None.
    None,
    /// The one of a step.
    Step(u64),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "best" => Self::Best,
            "last" => Self::Last,
            "none" => Self::None,
            step => Self::Step(
                step.parse()
                    .map_err(|_| format!("'{step}' is neither best, last, none nor a step"))?,
            ),
        })
    }
}

/// What was written.
#[derive(Debug)]
pub(crate) struct Written {
    /// Number of files in it.
    pub(crate) files: usize,
    /// Their length before compression.
    pub(crate) bytes: u64,
    /// Length of the archive.
    pub(crate) archive_bytes: u64,
    /// Step of the checkpoint that is in it.
    pub(crate) checkpoint: Option<u64>,
}

/// A file that goes in.
struct Source {
    /// Where it lies in the archive.
    name: String,
    path: PathBuf,
    /// So much of it: a run that goes on only adds lines.
    bytes: u64,
}

/// Writes a run to a file, which appears whole or not at all. The same run gives the same bytes.
///
/// # Errors
/// There is no such checkpoint, something cannot be read or changes meanwhile, or the file exists.
pub(crate) fn write(run: &RunDir, choice: Choice, logs: bool, to: &Path) -> Result<Written> {
    let manifest = run.manifest()?;
    manifest.refuse_evaluation()?;
    let commit = Oid::from_str(&manifest.commit).map_err(|error| {
        let message = format!("the run's commit '{}' is none: {error}", manifest.commit);
        Error::new(ExitKind::Pin, message)
    })?;
    let checkpoint = choose(run, choice)?;
    let draft = Draft::beside(to);
    let commit_file = draft.with(".commit");
    {
        let mut file = File::create_new(&commit_file)
            .map_err(|error| Error::io("write", &commit_file, error))?;
        pin::write_bundle(
            &pin_store(run),
            commit,
            &pin::ref_name(&run.id()),
            &mut file,
        )?;
    }
    let mut sources = vec![Source::new(BUNDLE.into(), commit_file)?];
    collect(run, checkpoint.as_ref(), logs, &mut sources)?;
    let members = sources
        .iter()
        .map(Source::member)
        .collect::<Result<Vec<_>>>()?;
    let index = Index {
        format: FORMAT.into(),
        schema: SCHEMA,
        rocket: env!("CARGO_PKG_VERSION").into(),
        run: run.id(),
        commit: manifest.commit.clone(),
        dir: run.path().to_path_buf(),
        checkpoint: checkpoint.as_ref().map(Checkpoint::step),
        machine: machine::of_run(run, &manifest)?,
        sources: sources_of(&manifest),
        members,
    };
    let archive = draft.with("");
    pack(&index, &sources, &archive).map_err(|error| Error::io("write", &archive, error))?;
    let archive_bytes = fs::metadata(&archive).map_or(0, |meta| meta.len());
    fs::rename(&archive, to).map_err(|error| Error::io("write", to, error))?;
    atomic::sync_dir(draft.folder())?;
    Ok(Written {
        files: index.members.len(),
        bytes: index.members.iter().map(|member| member.bytes).sum(),
        archive_bytes,
        checkpoint: index.checkpoint,
    })
}

/// Files beside the one that is to be, which go whatever happens.
struct Draft {
    folder: PathBuf,
    stem: String,
}

impl Draft {
    fn beside(to: &Path) -> Self {
        let folder = match to.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        Self {
            folder,
            stem: format!(".{name}.{}.tmp", atomic::unique()),
        }
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn with(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}{ending}", self.stem))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        for ending in ["", ".commit"] {
            let _ = fs::remove_file(self.with(ending));
        }
    }
}

fn choose(run: &RunDir, choice: Choice) -> Result<Option<Checkpoint>> {
    let place = run.checkpoints_dir();
    let usage = |message: String| Error::new(ExitKind::Usage, message);
    match choice {
        Choice::None => Ok(None),
        // Read back whole: a damaged one is of no use to anybody.
        Choice::Step(step) => checkpoint::verify(&place.join(checkpoint::dir_name(step)))
            .map(Some)
            .map_err(|error| {
                let steps = checkpoint::list(&place).unwrap_or_default();
                let steps: Vec<String> = steps.iter().map(|(step, _)| step.to_string()).collect();
                let there = match steps.is_empty() {
                    true => {
                        "the run has no checkpoint; --checkpoint none exports it without".into()
                    }
                    false => format!("the run has checkpoints of steps {}", steps.join(", ")),
                };
                error.hint(there)
            }),
        Choice::Last => {
            let found = checkpoint::latest_good(&place)?;
            for damaged in &found.damaged {
                eprintln!("warning: {}; an earlier one is taken", damaged.reason);
            }
            // A run may have none, since it ended early or is another program's.
            Ok(found.checkpoint)
        }
        Choice::Best => {
            let mut scored: Vec<(f64, u64)> = Vec::new();
            for (step, dir) in checkpoint::list(&place)? {
                let score = checkpoint::open(&dir).ok();
                let score =
                    score.and_then(|one| one.manifest().info.metrics.get(BEST_METRIC).copied());
                scored.extend(score.map(|score| (score, step)));
            }
            scored.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let Some((_, step)) = scored.last() else {
                return Err(usage(format!(
                    "no checkpoint of run {} has a score to be the best by",
                    run.id()
                ))
                .hint(
                    "--checkpoint last takes the last one; 'rocket-worker eval' gives one a score",
                ));
            };
            checkpoint::verify(&place.join(checkpoint::dir_name(*step))).map(Some)
        }
    }
}

/// Everything of the run directory that goes in, in the order of the archive.
fn collect(
    run: &RunDir,
    checkpoint: Option<&Checkpoint>,
    logs: bool,
    sources: &mut Vec<Source>,
) -> Result<()> {
    let mut add = |path: PathBuf| -> Result<()> {
        let inner = path.strip_prefix(run.path()).unwrap_or(&path);
        let Some(inner) = inner.to_str() else {
            let message = format!("the name of '{}' is not UTF-8", path.display());
            return Err(Error::new(ExitKind::Usage, message));
        };
        let name = format!("{RUN}/{}", fitting(inner));
        sources.push(Source::new(name, path)?);
        Ok(())
    };
    add(run.manifest_path())?;
    add(run.experiment_path())?;
    for path in [run.done_path(), run.metrics_path()] {
        if path.is_file() {
            add(path)?;
        }
    }
    for path in files(&run.events_dir())? {
        add(path)?;
    }
    let of_weights = KEPT.map(|name| run.eval_dir().join(name));
    for path in files(&run.eval_dir())? {
        if !of_weights.iter().any(|folder| path.starts_with(folder)) {
            add(path)?;
        }
    }
    if logs {
        for path in files(&run.attempts_dir())? {
            if path.extension().is_some_and(|ending| ending == "log") {
                add(path)?;
            }
        }
    }
    if let Some(checkpoint) = checkpoint {
        for path in files(checkpoint.dir())? {
            add(path)?;
        }
    }
    Ok(())
}

/// The name of a file as an archive takes it. Files of events are named by their writers, and some by more
/// than fits; the end of the name tells them apart.
fn fitting(inner: &str) -> String {
    let Some(name) = inner.strip_prefix(EVENTS) else {
        return inner.to_owned();
    };
    let from = name.len().saturating_sub(LONGEST);
    let from = (from..).find(|&at| name.is_char_boundary(at));
    format!("{EVENTS}{}", &name[from.unwrap_or_default()..])
}

/// Files below a folder in a fixed order; none if it is not there. Links are not followed, and what is
/// being written has a name with a dot.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::io("read", folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            found.extend(files(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

impl Source {
    fn new(name: String, path: PathBuf) -> Result<Self> {
        let meta = fs::metadata(&path).map_err(|error| Error::io("read", &path, error))?;
        let mut bytes = meta.len();
        if path.extension().is_some_and(|ending| ending == "jsonl") {
            bytes = whole_lines(&path, bytes).map_err(|error| Error::io("read", &path, error))?;
        }
        Ok(Self { name, path, bytes })
    }

    fn member(&self) -> Result<Member> {
        let failed = |error| Error::io("read", &self.path, error);
        let file = File::open(&self.path).map_err(failed)?;
        let mut hasher = Sha256::new();
        let read = io::copy(&mut file.take(self.bytes), &mut hasher).map_err(failed)?;
        if read != self.bytes {
            return Err(failed(changed()));
        }
        Ok(Member {
            path: self.name.clone(),
            bytes: self.bytes,
            sha256: format!("{:x}", hasher.finalize()),
        })
    }
}

fn changed() -> io::Error {
    io::Error::other("it changed while it was read; try once more")
}

/// Length of the lines that have an end: the last one may be in the making.
fn whole_lines(path: &Path, bytes: u64) -> io::Result<u64> {
    let mut reader = BufReader::new(File::open(path)?.take(bytes));
    let (mut whole, mut at) = (0, 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            return Ok(whole);
        }
        if let Some(end) = buffer[..read].iter().rposition(|byte| *byte == b'\n') {
            whole = at + end as u64 + 1;
        }
        at += read as u64;
    }
}

fn pack(index: &Index, sources: &[Source], to: &Path) -> io::Result<()> {
    let file = File::create_new(to)?;
    let mut encoder = zstd::Encoder::new(BufWriter::with_capacity(1 << 20, file), LEVEL)?;
    encoder.include_checksum(true)?;
    let mut builder = tar::Builder::new(encoder);
    let mut text = serde_json::to_vec_pretty(index)?;
    text.push(b'\n');
    builder.append(&header(INDEX, text.len() as u64)?, text.as_slice())?;
    for (source, member) in sources.iter().zip(&index.members) {
        let file = File::open(&source.path)?;
        let mut hashing = Hashing {
            inner: file.take(source.bytes),
            hasher: Sha256::new(),
        };
        builder.append(&header(&source.name, source.bytes)?, &mut hashing)?;
        if format!("{:x}", hashing.hasher.finalize()) != member.sha256 {
            let error = changed();
            return Err(io::Error::other(format!(
                "'{}': {error}",
                source.path.display()
            )));
        }
    }
    let file = builder.into_inner()?.finish()?.into_inner()?;
    file.sync_all()
}

/// A member's head, of nothing but its name and its length.
fn header(name: &str, bytes: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(bytes);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(header)
}

/// What the trainer was built from, as long as it is there to be asked.
fn sources_of(manifest: &Manifest) -> BTreeMap<String, String> {
    if let Some(imported) = &manifest.imported {
        return imported.sources.clone();
    }
    let worker = manifest.bundle.dir.join(bundle::WORKER);
    Identity::of_binary(&worker).map_or_else(|_| BTreeMap::new(), |identity| identity.sources)
}
