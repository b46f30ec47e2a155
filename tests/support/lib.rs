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
