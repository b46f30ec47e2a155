//! What is fuzzed: the readers, good files to begin with, and the pieces of which the formats consist.

mod archives;
mod lists;
mod pickles;
mod pictures;
mod sets;

use std::fs;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use archives::{index, tar, tar_gz, zip};
pub(crate) use lists::{coco, jsonl, lines, redcaps, tsv, yfcc_tsv};
pub(crate) use pickles::{column_of_npy, npy, numbers, pickle, torch_pickle, yfcc_pickle};
pub(crate) use pictures::{bmp, gif, jpeg, png, webp};
use rocket_common::experiment::{Data, Dataset};
use rocket_worker::data::source::{self, Indexed, Reads, Source};
pub(crate) use sets::{cifar, hdf5, mat, mnist, ppm};

use super::{Read, Target};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        vec![$(include_bytes!(concat!("../", $name)).to_vec()),*]
    };
}
use files;

/// All of them.
pub(crate) fn all() -> Vec<Target> {
    vec![
        npy(),
        numbers(),
        column_of_npy(),
        pickle(),
        yfcc_pickle(),
        torch_pickle(),
        jpeg(),
        png(),
        gif(),
        webp(),
        bmp(),
        tsv(),
        yfcc_tsv(),
        lines(),
        jsonl(),
        coco(),
        redcaps(),
        zip(),
        tar(),
        tar_gz(),
        index(),
        mnist(),
        cifar(),
        mat(),
        hdf5(),
        ppm(),
    ]
}

/// For formats without checksums, or whose checksums nobody looks at.
fn nothing(_: &mut [u8]) {}

/// Pieces that begin at these places.
fn cut(bytes: &[u8], mut starts: Vec<usize>) -> Vec<Range<usize>> {
    starts.insert(0, 0);
    starts.push(bytes.len());
    starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// Where words begin, but for the very first byte.
fn begins(bytes: &[u8], words: &[&[u8]]) -> Vec<usize> {
    (1..bytes.len())
        .filter(|&at| words.iter().any(|word| bytes[at..].starts_with(word)))
        .collect()
}

/// A data set of which one file is the input: indexed as at the beginning of a training, but on this thread,
/// whose memory is counted, and read.
struct Set {
    folder: tempfile::TempDir,
    data: Data,
}

impl Set {
    fn new(dataset: Dataset, list: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("root");
        fs::create_dir(&root).expect("a folder");
        let data = Data {
            dataset,
            metadata: folder.path().join(list),
            root,
            ..Data::default()
        };
        Self { folder, data }
    }

    /// A reader whose input is the list.
    fn of_lists(dataset: Dataset, list: &str) -> Read {
        let set = Self::new(dataset, list);
        Box::new(move |bytes| {
            fs::write(&set.data.metadata, bytes).expect("the list is written");
            set.read()
        })
    }

    fn read(&self) -> String {
        let folder = self.folder.path().display().to_string();
        let limit = Duration::from_secs(600);
        let parts = self.data.lists().expect("one list");
        let source = match source::in_memory(&parts, &Arc::new(Reads::new(limit))) {
            Ok(index) => Indexed::new(index, &parts, limit, PathBuf::from("in memory")),
            Err(error) => return error.to_string().replace(&folder, ""),
        };
        let mut said = String::from("opened ");
        let mut bytes = Vec::new();
        for sample in 0..source.len().min(200) {
            let captions = source.captions(sample);
            assert!(!captions.is_empty(), "a sample without any caption");
            assert!(captions.iter().all(|caption| !caption.contains('\0')));
            assert!(!source.name(sample).is_empty());
            let word = match source.place(sample) {
                Ok(place) => {
                    assert!(is_below(&place.file, self.folder.path()), "{place:?}");
                    source.read(sample, &mut bytes).err()
                }
                Err(error) => Some(error),
            };
            let word = word.map_or_else(|| "read".to_owned(), |error| error.to_string());
            if said.len() < 400 {
                said.push_str(&word.replace(&folder, ""));
            }
        }
        said
    }
}

/// Whether a path stays in a folder.
fn is_below(path: &Path, folder: &Path) -> bool {
    path.starts_with(folder)
        && path
            .components()
            .all(|part| !matches!(part, Component::ParentDir))
}
