//! CIFAR-10 and CIFAR-100 (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images",
//! 2009): the version for Python, pickled batches, and the binary version.

use std::path::{Path, PathBuf};

use super::{EvalError, Images, Layout, Places, Split, lines, malformed, read_file};
use crate::data::pickle::{Node, Pickle, Value};

const LAYOUT: Layout = Layout::Planes { side: 32 };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Cifar10,
    Cifar100,
}

impl Kind {
    const fn classes(self) -> usize {
        match self {
            Self::Cifar10 => 10,
            Self::Cifar100 => 100,
        }
    }

    /// Archives, folders and files of a split: for Python, and binary.
    fn files(self, split: Split) -> ([&'static str; 2], [&'static str; 2], [Vec<String>; 2]) {
        let batches = |suffix: &str| (1..=5).map(|i| format!("data_batch_{i}{suffix}")).collect();
        let one = |name: &str| vec![name.to_owned()];
        match self {
            Self::Cifar10 => (
                ["cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"],
                ["cifar-10-batches-py", "cifar-10-batches-bin"],
                match split {
                    Split::Train => [batches(""), batches(".bin")],
                    Split::Test => [one("test_batch"), one("test_batch.bin")],
                },
            ),
            Self::Cifar100 => (
                ["cifar-100-python.tar.gz", "cifar-100-binary.tar.gz"],
                ["cifar-100-python", "cifar-100-binary"],
                match split {
                    Split::Train => [one("train"), one("train.bin")],
                    Split::Test => [one("test"), one("test.bin")],
                },
            ),
        }
    }
}

pub(super) fn read(places: &Places, kind: Kind, split: Split) -> Result<Images, EvalError> {
    let (archives, folders, files) = kind.files(split);
    // The first file of a split decides between the two versions.
    let first: Vec<String> = (0..2)
        .flat_map(|v| {
            [
                format!("{}/{}", folders[v], files[v][0]),
                files[v][0].clone(),
            ]
        })
        .collect();
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    let found = places.first(&first, &archives)?;
    let binary = found.extension().is_some();
    let folder = found.parent().unwrap_or(Path::new("")).to_owned();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for name in &files[usize::from(binary)] {
        let file = folder.join(name);
        let bytes = read_file(&file)?;
        if binary {
            records(&file, &bytes, kind, &mut pixels, &mut labels)?;
        } else {
            batch(&file, &bytes, kind, &mut pixels, &mut labels)?;
        }
    }
    let mut images = Images::new(LAYOUT, pixels, labels, found, kind.classes())?;
    images.names = match (kind, binary) {
        (Kind::Cifar10, true) => lines(&folder.join("batches.meta.txt")),
        (Kind::Cifar100, true) => lines(&folder.join("fine_label_names.txt")),
        (Kind::Cifar10, false) => pickled_names(&folder.join("batches.meta"), "label_names"),
        (Kind::Cifar100, false) => pickled_names(&folder.join("meta"), "fine_label_names"),
    };
    Ok(images)
}

/// The binary version: label (CIFAR-100: coarse, then fine) and 3,072 pixels per image.
fn records(
    file: &Path,
    bytes: &[u8],
    kind: Kind,
    pixels: &mut Vec<u8>,
    labels: &mut Vec<usize>,
) -> Result<(), EvalError> {
    let before = match kind {
        Kind::Cifar10 => 1,
        Kind::Cifar100 => 2,
    };
    let size = before + LAYOUT.bytes();
    if bytes.is_empty() || !bytes.len().is_multiple_of(size) {
        let problem = format!(
            "has {} bytes, which is no whole number of records of {size}; it is cut off or another \
             file: fetch it again",
            bytes.len()
        );
        return Err(malformed(file, problem));
    }
    for record in bytes.chunks_exact(size) {
        labels.push(usize::from(record[before - 1]));
        pixels.extend_from_slice(&record[before..]);
    }
    Ok(())
}

/// The version for Python: a dict with an array `data` and a list `labels` or `fine_labels`.
fn batch(
    file: &Path,
    bytes: &[u8],
    kind: Kind,
    pixels: &mut Vec<u8>,
    labels: &mut Vec<usize>,
) -> Result<(), EvalError> {
    let refused = |what: String| {
        malformed(
            file,
            format!("is no batch of CIFAR: {what}; fetch it again"),
        )
    };
    let pickle = Pickle::read(bytes).map_err(|error| refused(error.to_string()))?;
    let key = match kind {
        Kind::Cifar10 => "labels",
        Kind::Cifar100 => "fine_labels",
    };
    let data = get(&pickle, "data")
        .and_then(|node| pickle.numbers(node))
        .filter(|(shape, dtype, _)| {
            shape.len() == 2 && shape[1] == LAYOUT.bytes() && *dtype == b"u1"
        })
        .ok_or_else(|| refused("it has no array 'data' of rows of 3072 bytes".to_owned()))?;
    pixels.extend_from_slice(data.2);
    let list = get(&pickle, key)
        .and_then(|node| pickle.items(node))
        .ok_or_else(|| refused(format!("it has no list '{key}'")))?;
    for &item in list {
        match pickle.value(item) {
            &Value::Int(label) if label >= 0 => labels.push(label as usize),
            _ => return Err(refused(format!("'{key}' holds what is no label"))),
        }
    }
    Ok(())
}

fn pickled_names(file: &Path, key: &str) -> Option<(PathBuf, Vec<String>)> {
    let bytes = std::fs::read(file).ok()?;
    let pickle = Pickle::read(&bytes).ok()?;
    let names = pickle.items(get(&pickle, key)?)?;
    let text = |&node: &Node| Some(String::from_utf8_lossy(pickle.bytes(node)?).into_owned());
    Some((
        file.to_owned(),
        names.iter().map(text).collect::<Option<_>>()?,
    ))
}

/// The value of a key, which Python 2 wrote as bytes.
fn get(pickle: &Pickle, key: &str) -> Option<Node> {
    let pairs = pickle.pairs(pickle.root())?;
    pairs
        .iter()
        .find(|(name, _)| pickle.bytes(*name) == Some(key.as_bytes()))
        .map(|&(_, value)| value)
}
