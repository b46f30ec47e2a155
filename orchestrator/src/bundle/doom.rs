//! How `rocket gc` removes a bundle beside people who submit at the same moment, without a lock.
//!
//! It first leaves a mark beside the bundle, then looks for runs that have it, and removes it if there are
//! none. A submit first lets its run appear, and then looks for a mark. Whatever the order, one of the two
//! sees the other: either the bundle is left alone, or the submit waits until the mark is gone and makes
//! the bundle anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::{Bundle, Claim};

/// How long a bundle may take to be removed.
const PATIENCE: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(100);

/// A mark, which goes when it is dropped.
pub(crate) struct Doom(PathBuf);

impl Doom {
    /// Marks a bundle; `None` if somebody else has.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn mark(dir: &Path) -> Result<Option<Self>> {
        let path = path(dir);
        if is_stale(&path) {
            let _ = fs::remove_file(&path);
        }
        let won = atomic::create_json(&path, &Claim::of_this_process(None))?;
        Ok(won.then_some(Self(path)))
    }
}

impl Drop for Doom {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Waits until nobody is about to remove a bundle.
///
/// # Errors
/// Somebody has been for very long.
pub(crate) fn outlive(bundle: &Bundle) -> Result<()> {
    let path = path(&bundle.dir);
    let start = Instant::now();
    while path.exists() {
        if is_stale(&path) {
            let _ = fs::remove_file(&path);
        } else if start.elapsed() > PATIENCE {
            return Err(Error::new(
                ExitKind::Usage,
                format!(
                    "'rocket gc' has been about to remove the programs '{}' for {} s",
                    bundle.dir.display(),
                    PATIENCE.as_secs()
                ),
            )
            .hint(format!(
                "wait for it; if it was killed on another machine, remove '{}' and submit again",
                path.display()
            )));
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}

fn path(dir: &Path) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    dir.with_file_name(format!(".doomed-{name}"))
}

/// Whether whoever left the mark is dead, as far as that can be seen from here.
fn is_stale(path: &Path) -> bool {
    let claim = atomic::read_json_opt::<Claim>(path);
    matches!(claim, Ok(Some(claim)) if claim.is_alive() == Some(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_can_mark_and_the_mark_of_the_dead_counts_for_nothing() {
        let store = tempfile::tempdir().unwrap();
        let bundle = Bundle {
            dir: store.path().join("0123456789abcdef"),
            files: [].into(),
        };
        outlive(&bundle).unwrap();
        let mark = Doom::mark(&bundle.dir).unwrap();
        assert!(mark.is_some());
        assert!(Doom::mark(&bundle.dir).unwrap().is_none());
        drop(mark);
        let mut dead = Claim::of_this_process(None);
        dead.start_ticks += 1;
        assert!(atomic::create_json(&path(&bundle.dir), &dead).unwrap());
        outlive(&bundle).unwrap();
        assert!(Doom::mark(&bundle.dir).unwrap().is_some());
    }
}
