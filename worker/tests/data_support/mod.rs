//! Small data sets in every format, made here.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use rocket_common::experiment::{Data, Dataset};
use rocket_worker::data::source::{self, Source, SourceError};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

#[path = "../../../tests/support/npy.rs"]
mod npy_file;

#[allow(unused_imports, reason = "each test binary uses some of it")]
pub(crate) use npy_file::object_array as npy;
use npy_file::text;

/// A folder that goes away, and paths in it.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A text with this folder's name taken out.
    pub(crate) fn plain(&self, text: &str) -> String {
        text.replace(&self.0.path().display().to_string(), "DIR")
    }

    pub(crate) fn data(&self, dataset: Dataset, root: &str, metadata: &str) -> Data {
        Data {
            dataset,
            root: self.path(root),
            metadata: self.path(metadata),
            ..Data::default()
        }
    }

    /// The message of a data set that is refused.
    pub(crate) fn refusal(&self, data: &Data) -> String {
        match source::open(data) {
            Ok(_) => "it was opened".to_owned(),
            Err(error) => self.plain(&error.to_string()),
        }
    }
}

pub(crate) fn open(data: &Data) -> Result<std::sync::Arc<dyn Source>, SourceError> {
    source::open(data)
}

/// Name, captions, and the image's bytes as text or why there are none, a line for each sample.
pub(crate) fn listing(source: &dyn Source) -> String {
    let mut lines = String::new();
    for sample in 0..source.len() {
        let mut bytes = Vec::new();
        let image = match source.read(sample, &mut bytes) {
            Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("({error})"),
        };
        let captions = source.captions(sample).join(" | ");
        lines.push_str(&format!("{}: {captions}: {image}\n", source.name(sample)));
    }
    lines
}

/// A zip archive; members whose names end with `+` are deflated (the sign is taken off).
pub(crate) fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let deflated = name.ends_with('+');
        let method = if deflated {
            CompressionMethod::Deflated
        } else {
            CompressionMethod::Stored
        };
        let options = SimpleFileOptions::default().compression_method(method);
        writer
            .start_file(name.trim_end_matches('+'), options)
            .unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A tar archive, by another program's hand.
pub(crate) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Not set_path, which refuses what is tested here.
        if name.contains("..") {
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        } else {
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

/// A pickled list of tuples (id, title, description).
pub(crate) fn yfcc(samples: &[(u32, &str, &str)]) -> Vec<u8> {
    let mut file = b"\x80\x04](".to_vec();
    for (id, title, description) in samples {
        file.push(b'J');
        file.extend(id.to_le_bytes());
        text(&mut file, title);
        text(&mut file, description);
        file.push(0x87);
    }
    file.extend(b"e.");
    file
}

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}
