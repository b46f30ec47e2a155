//! Pictures of every format that is read, against Python's own Pillow (`scripts/python-tests.sh`).

mod python_support;

use python_support::python;
use rocket_worker::image::decode;

#[test]
fn pixels_are_those_of_pillow() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    python_support::run(&python, "images.py", [folder.path()]);
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
