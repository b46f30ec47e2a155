//! Where all runs are.

use std::fs;
use std::path::{Path, PathBuf};

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::{self, RunDir};

use crate::pin::Source;
use crate::settings::Configuration;

/// Names the folder of all runs.
const ENV: &str = "ROCKET_RUNS";

/// The folder of all runs: `--runs`, else `$ROCKET_RUNS`, else what the settings say (the
/// repository's before the user's), else `runs` at the top of the repository around the current
/// directory.
#[derive(Debug)]
pub(crate) struct Runs {
    given: Option<PathBuf>,
}

impl Runs {
    /// With what `--runs` says.
    pub(crate) fn new(given: Option<PathBuf>) -> Self {
        let from_env = || {
            std::env::var_os(ENV)
                .filter(|dir| !dir.is_empty())
                .map(PathBuf::from)
        };
        Self {
            given: given.or_else(from_env),
        }
    }

    /// The folder, absolute, for a submit from `source`.
    pub(crate) fn of(&self, source: &Source) -> Result<PathBuf> {
        if let Some(path) = &self.given {
            return absolute(path);
        }
        match Configuration::read(Some(source.root()))?.runs()? {
            Some(path) => absolute(&path),
            None => Ok(source.root().join("runs")),
        }
    }

    /// The folder, absolute, for whoever reads.
    pub(crate) fn root(&self) -> Result<PathBuf> {
        if let Some(path) = &self.given {
            return absolute(path);
        }
        let repo = git2::Repository::discover(".").ok();
        let top = repo.as_ref().and_then(git2::Repository::workdir);
        if let Some(path) = Configuration::read(top)?.runs()? {
            return absolute(&path);
        }
        match top {
            Some(top) => Ok(top.join("runs")),
            None => Err(Error::new(
                ExitKind::Usage,
                "the current directory is in no git repository, so it is not known where the runs are",
            )
            .hint(format!("name their folder with --runs DIR, in {ENV}, or as 'runs' in ~/.config/rocket/config.yaml"))),
        }
    }

    /// The run that a person means: an id, the beginning of one, an experiment's name, or a path.
    pub(crate) fn find(&self, query: &str) -> Result<RunDir> {
        if query.contains('/') {
            let path = Path::new(query);
            let path = path
                .canonicalize()
                .map_err(|error| Error::io("open run", path, error))?;
            return RunDir::open(path);
        }
        run_dir::find(&self.root()?, query)
    }
}

/// Makes the folder of all runs, hidden from git: runs within a repository are not its content.
pub(crate) fn make_root(root: &Path) -> Result<()> {
    let ignore = root.join(".gitignore");
    if ignore.exists() {
        return Ok(());
    }
    fs::create_dir_all(root)
        .and_then(|()| fs::write(&ignore, "*\n"))
        .map_err(|error| {
            Error::io("write to the folder of runs", root, error)
                .hint(format!("name another folder with --runs DIR or in {ENV}"))
        })
}

fn absolute(path: &Path) -> Result<PathBuf> {
    // Without symbolic links as far as it exists, since a run is known by its path.
    if let Ok(path) = path.canonicalize() {
        return Ok(path);
    }
    std::path::absolute(path).map_err(|error| Error::io("find", path, error))
}
