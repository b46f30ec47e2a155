//! What the tests of `rocket-worker data prepare-eval` share: archives, and a source that is prepared.
#![allow(dead_code)]

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rocket_worker::eval::{Catalog, EvalSet, Labels, Split, Templates, published};
use serde_json::json;
use tempfile::TempDir;

use crate::eval_support::{no_decode, write_json};

/// A file of an archive.
pub(crate) type Entry = (String, Vec<u8>);
pub(crate) type Entries = Vec<Entry>;

pub(crate) fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, bytes.as_slice())
            .expect("appended");
    }
    archive.into_inner().expect("an archive")
}

pub(crate) fn tar_gz(entries: &[Entry]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&tar(entries)).expect("packed");
    packed.finish().expect("packed")
}

pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        archive
            .start_file(name.as_str(), zip::write::SimpleFileOptions::default())
            .expect("started");
        archive.write_all(bytes).expect("written");
    }
    archive.finish().expect("an archive").into_inner()
}

/// A source folder, a destination, and a catalog that leads there.
pub(crate) struct Prepare {
    pub(crate) dir: TempDir,
    set: &'static str,
    /// Where the program finds others.
    path: OsString,
}

/// `PATH`, behind it the programs of `scripts/eval-data.sh`.
pub(crate) fn path() -> OsString {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.build/eval-data/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([built]);
    std::env::join_paths(folders).expect("a path")
}

impl Prepare {
    pub(crate) fn new(set: &'static str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("source")).expect("created");
        Self {
            dir,
            set,
            path: path(),
        }
    }

    /// With other programs.
    pub(crate) fn with_path(mut self, path: &str) -> Self {
        self.path = path.into();
        self
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    pub(crate) fn dest(&self) -> PathBuf {
        self.dir.path().join("data").join(self.set)
    }

    pub(crate) fn put(&self, file: &str, bytes: &[u8]) {
        let path = self.source().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        fs::write(path, bytes).expect("written");
    }

    /// Code, stdout and stderr, the temporary folder left out.
    pub(crate) fn run(&self, more: &[&str]) -> (Option<i32>, String, String) {
        fs::create_dir_all(self.dir.path().join("data")).expect("created");
        let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
            .args(["data", "prepare-eval", self.set])
            .args([self.source(), self.dest()])
            .args(more)
            .env("PATH", &self.path)
            .output()
            .expect("rocket-worker starts");
        let plain = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).replace(&self.dir.path().display().to_string(), "[DIR]")
        };
        (
            output.status.code(),
            plain(&output.stdout),
            plain(&output.stderr),
        )
    }

    #[track_caller]
    pub(crate) fn succeeds(&self) -> String {
        let (code, out, err) = self.run(&[]);
        assert_eq!(code, Some(0), "{err}");
        out
    }

    #[track_caller]
    pub(crate) fn fails(&self) -> String {
        let (code, _, err) = self.run(&[]);
        assert_ne!(code, Some(0));
        err
    }

    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.dest().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }

    /// The set as the repository's catalog opens it.
    pub(crate) fn open(&self, split: Split) -> EvalSet {
        let entry = {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dataset_catalog.json");
            let all: serde_json::Value =
                serde_json::from_slice(&fs::read(file).expect("a catalog")).expect("JSON");
            let mut entry = all[self.set].clone();
            entry["path"] = self.dest().display().to_string().into();
            entry
        };
        let catalog = self.dir.path().join("catalog.json");
        write_json(&catalog, &json!({self.set: entry}));
        let none = Path::new("/nowhere.json");
        EvalSet::open_split(
            self.set,
            split,
            &Catalog::load(&catalog, self.dir.path()).expect("a catalog"),
            &Labels::load_if_there(none).expect("labels"),
            &Templates::load_if_there(none).expect("prompts"),
            no_decode(),
        )
        .unwrap_or_else(|e| panic!("{e}"))
    }

    /// All classes have images, and sorted folders are in the order of the labels, for programs that
    /// go by that.
    #[track_caller]
    pub(crate) fn assert_ordered(&self, split: Split) {
        let open = self.open(split);
        let targets: Vec<usize> = (0..open.samples.len())
            .map(|i| open.samples.target(i))
            .collect();
        assert!(targets.is_sorted(), "{}: {targets:?}", self.set);
        let last = open.class_names.len() - 1;
        assert_eq!((targets.first(), targets.last()), (Some(&0), Some(&last)));
    }
}

/// An image, which nothing looks into.
pub(crate) fn image(name: &str) -> Entry {
    (name.to_owned(), format!("image {name}").into_bytes())
}

pub(crate) fn text(name: &str, lines: &[String]) -> Entry {
    (name.to_owned(), (lines.join("\n") + "\n").into_bytes())
}

pub(crate) fn folders(set: &str, write: impl Fn(&str) -> String) -> Vec<String> {
    match &published::facts(set).expect("facts").folders {
        Some(folders) => folders.clone(),
        None => {
            let names = published::class_names(set).expect("names");
            names.iter().map(|name| write(name)).collect()
        }
    }
}

pub(crate) fn underscored(name: &str) -> String {
    name.replace(' ', "_")
}
