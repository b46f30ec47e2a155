//! `command:`: said at submit if the program that it names cannot be there when the run starts.

use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use git2::ObjectType;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{BackendKind, Experiment};

use crate::pin::{self, Entry, Pinned, Source};

/// Checks the program of a `command`. Gives what is worth saying of the rest.
///
/// # Errors
/// Kind [`ExitKind::Experiment`]: it is not in the pinned tree, or nobody can run it.
pub(super) fn check(
    experiment: &Experiment,
    source: &Source,
    pinned: &Pinned,
    backend: BackendKind,
) -> Result<Vec<String>> {
    let Some([program, arguments @ ..]) = experiment.command.as_deref() else {
        return Ok(Vec::new());
    };
    let path = Path::new(program);
    let mut notes = Vec::new();
    if path.is_absolute() {
        if backend == BackendKind::Local && !is_executable(path) {
            return Err(refused(format!(
                "'{program}' (command) is not an executable file of this machine"
            )));
        }
        notes.push(format!(
            "'{program}' (command) is outside the pinned tree: whoever changes it changes what the run does"
        ));
    } else if program.contains('/') {
        in_tree(program, source, pinned)?;
    } else if backend == BackendKind::Local && !is_on_path(experiment, program) {
        let error = refused(format!(
            "'{program}' (command) is not on the PATH of this machine"
        ));
        return Err(match pin::entry(source.repository(), pinned, path)? {
            Some(_) => error.hint(format!(
                "the file of the pinned tree is './{program}', with a slash"
            )),
            None => error.hint("a program of your repository is named with a slash: ./PROGRAM"),
        });
    }
    for argument in arguments {
        // Read by an interpreter, for example. Whether it is meant as a file cannot be known.
        let file = source.root().join(argument);
        if Path::new(argument).is_relative()
            && normal(argument).is_some()
            && file.is_file()
            && pin::entry(source.repository(), pinned, Path::new(argument))?.is_none()
        {
            notes.push(format!(
                "'{argument}' (command) is a file of yours that is not in the pinned commit: the run, which starts in the pinned tree, will not find it"
            ));
        }
    }
    Ok(notes)
}

/// A program of the pinned tree, which is where the run starts.
fn in_tree(program: &str, source: &Source, pinned: &Pinned) -> Result<()> {
    let Some(path) = normal(program) else {
        return Err(refused(format!(
            "'{program}' (command) leaves the pinned tree, which is all that the run has"
        ))
        .hint("name a program of the repository by its path from the top"));
    };
    match pin::entry(source.repository(), pinned, &path)? {
        // Where a link leads is seen when the run starts.
        Some(Entry {
            kind: ObjectType::Blob,
            mode: 0o100_755 | 0o120_000,
        }) => Ok(()),
        Some(Entry {
            kind: ObjectType::Blob,
            ..
        }) => Err(refused(format!(
            "'{program}' (command) is not executable in the pinned commit"
        ))
        .hint(format!(
            "git update-index --chmod=+x {} and commit; or name its interpreter: command: [python3, {}]",
            path.display(),
            path.display()
        ))),
        Some(_) => Err(refused(format!(
            "'{program}' (command) is a folder or a submodule, not a program"
        ))),
        None => {
            let error = refused(format!(
                "'{program}' (command) is not in the pinned commit, whose files are all that the run has"
            ));
            Err(match source.root().join(&path).is_file() {
                true => error.hint("git add and commit it, or take it along with --snapshot"),
                false => error.hint("paths are meant from the top of the repository"),
            })
        }
    }
}

fn refused(message: String) -> Error {
    Error::new(ExitKind::Experiment, message)
}

/// `./a/b` as `a/b`; `None` if it leads out of the tree.
fn normal(path: &str) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!clean.as_os_str().is_empty()).then_some(clean)
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// As the run will look for it.
fn is_on_path(experiment: &Experiment, program: &str) -> bool {
    let given = experiment.cluster.env.get("PATH").map(Into::into);
    let path = given
        .or_else(|| std::env::var_os("PATH"))
        .unwrap_or_default();
    std::env::split_paths(&path).any(|folder| is_executable(&folder.join(program)))
}
