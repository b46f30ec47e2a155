//! The user's repository, only read.

use std::path::{Path, PathBuf};

use git2::{Commit, ErrorCode, Oid, Repository};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use super::git_error;

/// A repository with a work tree and at least one commit.
pub struct Source {
    repo: Repository,
    root: PathBuf,
    head: Oid,
    branch: Option<String>,
}

impl Source {
    /// Finds the repository around the first of `places` that lies in one.
    ///
    /// # Errors
    /// No repository, a bare one, or one without a commit: each said in words.
    pub fn discover(places: &[&Path]) -> Result<Self> {
        let mut not_found = None;
        for place in places {
            match Repository::discover(place) {
                Ok(repo) => return Self::new(repo),
                Err(error) if error.code() == ErrorCode::NotFound => not_found = Some(place),
                Err(error) if error.code() == ErrorCode::Owner => {
                    return Err(git_error("open the git repository", &error).hint(format!(
                        "if you trust it: git config --global --add safe.directory {}",
                        place.display()
                    )));
                }
                Err(error) => return Err(git_error("open the git repository", &error)),
            }
        }
        let place = not_found.unwrap_or(&places[0]);
        Err(Error::new(
            ExitKind::Usage,
            format!(
                "'{}' is in no git repository, and a run is pinned to a commit",
                std::path::absolute(place)
                    .unwrap_or_else(|_| place.to_path_buf())
                    .display()
            ),
        )
        .hint(
            "go to the repository of your code, or make one: git init && git add -A && git commit",
        ))
    }

    fn new(repo: Repository) -> Result<Self> {
        let Some(root) = repo.workdir().map(Path::to_path_buf) else {
            return Err(Error::new(
                ExitKind::Usage,
                format!(
                    "'{}' is a bare repository, without the files of a commit",
                    repo.path().display()
                ),
            )
            .hint("submit from a clone or a work tree of it: git worktree add"));
        };
        let root = root.canonicalize().unwrap_or(root);
        let (head, branch) = match repo.head() {
            Ok(head) => {
                let branch = head
                    .is_branch()
                    .then(|| head.shorthand().ok().map(String::from))
                    .flatten();
                let commit = head
                    .peel_to_commit()
                    .map_err(|error| git_error("read the commit HEAD points to", &error))?;
                (commit.id(), branch)
            }
            Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => {
                return Err(Error::new(
                    ExitKind::Usage,
                    format!("the repository '{}' has no commit yet", root.display()),
                )
                .hint("make the first one: git add -A && git commit"));
            }
            Err(error) => return Err(git_error("read HEAD", &error)),
        };
        Ok(Self {
            repo,
            root,
            head,
            branch,
        })
    }

    /// Top of the work tree, without symbolic links.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Id of the commit that HEAD points to.
    #[must_use]
    pub fn head(&self) -> Oid {
        self.head
    }

    /// The branch that is checked out, if one is.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.branch.as_deref()
    }

    /// The repository itself.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repo
    }

    /// The commit that HEAD points to.
    pub(crate) fn head_commit(&self) -> Result<Commit<'_>> {
        self.repo
            .find_commit(self.head)
            .map_err(|error| git_error("read the commit HEAD points to", &error))
    }

    /// A path relative to the work tree, if it lies in it.
    #[must_use]
    pub fn relative(&self, path: &Path) -> Option<PathBuf> {
        let path = path.canonicalize().ok()?;
        path.strip_prefix(&self.root).ok().map(Path::to_path_buf)
    }
}
