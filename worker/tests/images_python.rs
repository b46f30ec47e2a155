//! Pictures of every format that is read, against Python's own Pillow (`scripts/python-tests.sh`).

use std::path::{Path, PathBuf};
use std::process::Command;

use rocket_worker::image::decode;

/// Python with the packages; `None` where the tests are to be skipped.
fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join(".build/python-tests/bin/python");
    if python.is_file() {
        return Some(python);
    }
    let everything = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(
        !everything,
        "{} is missing: scripts/python-tests.sh makes it",
        python.display()
    );
    eprintln!("skipped: Python's Pillow is missing; scripts/python-tests.sh installs it");
    None
}

#[test]
fn pixels_are_those_of_pillow() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/images.py");
    let output = Command::new(python)
        .arg(script)
        .arg(folder.path())
        .output()
        .expect("Python starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let list = std::fs::read(folder.path().join("list.json")).unwrap();
    let list: Vec<(String, usize, usize)> = serde_json::from_slice(&list).unwrap();
    assert!(list.len() >= 50, "{} files", list.len());
    for (name, width, height) in list {
        let file = folder.path().join(&name);
        let want = std::fs::read(folder.path().join(format!("{name}.rgb"))).unwrap();
        let got = decode(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!((got.width, got.height), (width, height), "{name}");
        let worst = got
            .data
            .iter()
            .zip(&want)
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        assert!(got.data == want, "{name}: pixels differ by up to {worst:?}");
    }
}
