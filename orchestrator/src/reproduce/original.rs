//! What is to be done once more: a run, a pinned commit, an archive.

use std::path::{Path, PathBuf};

use git2::{Oid, Repository};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::{self, Manifest, RunDir};

use crate::archive;
use crate::pin::{self, Pinned, Source, git_error};
use crate::runs::Runs;

/// What is to be done once more.
pub(crate) struct Original {
    /// The pinned commit, which is in the user's repository.
    pub(crate) pinned: Pinned,
    /// The resolved experiment as it lies in the commit.
    pub(crate) experiment: String,
    /// The run, where it is here.
    pub(crate) run: Option<(RunDir, Manifest)>,
    /// What is worth saying, one sentence each.
    pub(crate) notes: Vec<String>,
}

impl Original {
    /// What a person means: the file of an archive, which is taken in; a run; `refs/rocket/<run>`; a
    /// commit. Its commit is copied into the user's repository if it is not there.
    ///
    /// # Errors
    /// There is no such thing, or its commit is nowhere.
    pub(crate) fn find(query: &str, runs: &Runs, source: &Source, limit: u64) -> Result<Self> {
        let root = runs.of(source)?;
        let mut notes = Vec::new();
        if Path::new(query).is_file() {
            let run = from_archive(Path::new(query), &root, source, limit, &mut notes)?;
            return Self::of_run(run, source, notes);
        }
        let store = root.join(pin::STORE);
        let reference = query.strip_prefix("refs/rocket/");
        match runs.find(reference.unwrap_or(query)) {
            Ok(run) if run.path().parent() != Some(&*root) => Err(elsewhere(&run, &root)),
            Ok(run) => Self::of_run(run, source, notes),
            Err(error) => match named(query, source, &store)? {
                Some(commit) => Self::of_commit(commit, &root, source, notes),
                None => Err(error),
            },
        }
    }

    fn of_run(run: RunDir, source: &Source, notes: Vec<String>) -> Result<Self> {
        let manifest = run.manifest()?;
        let id = run.id();
        manifest.refuse_evaluation()?;
        let commit = Oid::from_str(&manifest.commit).map_err(|error| {
            let message = format!("the commit of run {id}, '{}', is none", manifest.commit);
            Error::new(ExitKind::Pin, message).hint(error.message())
        })?;
        let beside = run.path().parent().unwrap_or(run.path());
        let places = [beside.join(pin::STORE), manifest.repo.clone()];
        fetch(commit, source, &places, Some(&pin::ref_name(&id)))?;
        Ok(Self {
            pinned: pinned(source.repository(), commit)?,
            experiment: pin::experiment_of(source.repository(), commit)?,
            run: Some((run, manifest)),
            notes,
        })
    }

    fn of_commit(
        commit: Oid,
        root: &Path,
        source: &Source,
        mut notes: Vec<String>,
    ) -> Result<Self> {
        let short = &commit.to_string()[..8];
        let store = root.join(pin::STORE);
        fetch(commit, source, &[store], None)?;
        let experiment = pin::experiment_of(source.repository(), commit)?;
        // The first of its runs that trained and is no reproduction itself.
        let mut known: Vec<(RunDir, Manifest)> = run_dir::list(root)?
            .into_iter()
            .filter_map(|run| Some((run.manifest().ok()?, run)))
            .filter(|(manifest, _)| manifest.commit == commit.to_string())
            .filter(|(manifest, _)| manifest.evaluation.is_none())
            .map(|(manifest, run)| (run, manifest))
            .collect();
        known.sort_by_key(|(_, manifest)| (manifest.reproduces.is_some(), manifest.created));
        let run = known.into_iter().next();
        if run.is_none() {
            notes.push(format!(
                "no run of commit {short} is in '{}': there will be nothing to compare the numbers with",
                root.display()
            ));
        }
        Ok(Self {
            pinned: pinned(source.repository(), commit)?,
            experiment,
            run,
            notes,
        })
    }
}

/// A run of another folder: its reproduction could not be compared with it.
fn elsewhere(run: &RunDir, root: &Path) -> Error {
    let folder = run.path().parent().unwrap_or(run.path());
    let id = run.id();
    Error::new(
        ExitKind::Usage,
        format!(
            "run {id} is in '{}', and what is submitted here goes to '{}'",
            folder.display(),
            root.display()
        ),
    )
    .hint(format!(
        "reproduce it there with --runs '{}'",
        folder.display()
    ))
    .hint(format!(
        "or take it along: 'rocket export {}', and 'rocket import-run' here",
        run.path().display()
    ))
}

/// The run of an archive: taken in, unless it was before.
fn from_archive(
    path: &Path,
    root: &Path,
    source: &Source,
    limit: u64,
    notes: &mut Vec<String>,
) -> Result<RunDir> {
    let (id, commit) = archive::peek(path)?;
    if let Ok(run) = RunDir::open(root.join(&id))
        && run.manifest()?.commit == commit
    {
        notes.push(format!("the archive's run {id} is here already"));
        return Ok(run);
    }
    let taken = archive::take_in(path, root, Some(source), limit)?;
    notes.push(format!("the archive's run {id} was taken in"));
    notes.extend(taken.notes);
    Ok(taken.run)
}

/// A commit by its id, the beginning of one, or its ref; `None` if the text is none of these.
fn named(query: &str, source: &Source, store: &Path) -> Result<Option<Oid>> {
    let hex = query.len() >= 7 && query.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hex && !query.starts_with("refs/") {
        return Ok(None);
    }
    let bare = Repository::open_bare(store).ok();
    let places = std::iter::once(source.repository()).chain(&bare);
    for repo in places {
        let found = repo.revparse_single(query);
        if let Ok(commit) = found.and_then(|object| object.peel_to_commit()) {
            return Ok(Some(commit.id()));
        }
    }
    Err(Error::new(
        ExitKind::Usage,
        format!("there is no run and no commit '{query}', neither here nor in the store of pins"),
    )
    .hint("'rocket status' lists the runs; 'git fetch' gets commits"))
}

/// Makes sure that the commit is in the user's repository.
fn fetch(commit: Oid, source: &Source, places: &[PathBuf], name: Option<&str>) -> Result<()> {
    let repo = source.repository();
    let is_here = |repo: &Repository| {
        let found = repo.find_commit(commit);
        found.is_ok_and(|commit| commit.tree().is_ok())
    };
    if is_here(repo) {
        return Ok(());
    }
    for place in places {
        if Repository::open(place).is_ok_and(|repo| is_here(&repo)) {
            return pin::fetch(place, source, commit, name);
        }
    }
    Err(Error::new(
        ExitKind::Pin,
        format!(
            "the pinned commit {commit} is neither in your repository nor in the store of pins"
        ),
    )
    .hint("push it from a clone that has it, or take in an archive of the run: rocket import-run"))
}

fn pinned(repo: &Repository, commit: Oid) -> Result<Pinned> {
    let failed = |error: git2::Error| git_error("read the pinned commit", &error);
    let found = repo.find_commit(commit).map_err(failed)?;
    Ok(Pinned {
        commit,
        tree: found.tree_id(),
        parent: found.parent_id(0).map_err(failed)?,
        notes: Vec::new(),
    })
}
