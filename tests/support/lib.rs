//! What the whole-program tests share: a small project in a git repository of its own, with real
//! images and captions, and the programs of `target/release`.

mod npy;
mod project;
mod run;
pub mod slurm;

pub use project::{Project, Text};
pub use run::{attempt, checkpoint_sums, curve, last_step, pid_of_rank, run_id, tail};

use std::path::{Path, PathBuf};

/// Top of the repository.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Folder of the release binaries, which must have been built (`make test` does it before).
///
/// # Panics
/// They have not been built.
#[must_use]
pub fn binaries() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let folder = target.join("release");
    for name in ["rocket", "rocket-worker"] {
        assert!(
            folder.join(name).is_file(),
            "{} is missing; run 'cargo build --release --workspace' first",
            folder.join(name).display()
        );
    }
    folder
}

/// Python with the packages that tests compare with; `None` where it is not installed, so that the
/// test is to be skipped, which is said.
///
/// # Panics
/// It is missing where everything has to be tested (`CI=true`).
#[must_use]
pub fn python() -> Option<PathBuf> {
    let python = root().join(".build/python-tests/bin/python");
    if python.is_file() {
        return Some(python);
    }
    let everything = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(
        !everything,
        "{} is missing: scripts/python-tests.sh makes it",
        python.display()
    );
    eprintln!("skipped: Python's packages are missing; scripts/python-tests.sh installs them");
    None
}
