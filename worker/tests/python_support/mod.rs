//! Python with the packages that tests compare with (`scripts/python-tests.sh`).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Python; `None` where it is not installed, so that the test is to be skipped, which is said.
///
/// # Panics
/// It is missing where everything has to be tested (`CI=true`).
pub(crate) fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.build/python-tests/bin/python");
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

/// Runs a script of `tests/python`; gives what it printed.
#[track_caller]
pub(crate) fn run(
    python: &Path,
    script: &str,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Vec<u8> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python");
    let output = Command::new(python)
        .arg(scripts.join(script))
        .args(args)
        .output()
        .expect("Python starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}
