//! Writing a checkpoint aside and publishing it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::digest::{HashingWriter, sha256_file};
use super::manifest::{Info, Manifest, Section};
use super::store::{Checkpoint, verify};
use super::{dir_name, failed};
use crate::atomic;
use crate::error::{Error, Result};
use crate::exit::ExitKind;
use crate::run_dir::RunDir;

/// A checkpoint being written, outside anybody's sight. Dropped without [`Draft::publish`], it leaves
/// nothing behind.
#[derive(Debug)]
pub struct Draft {
    run: RunDir,
    attempt: u32,
    step: u64,
    dir: PathBuf,
    sections: Vec<Section>,
}

/// What [`Draft::publish`] did.
#[derive(Debug, Clone, PartialEq)]
pub enum Published {
    /// The checkpoint is in place.
    New(Checkpoint),
    /// A good checkpoint of this step was there already (a stop right after a resumption): it stays.
    Already(Checkpoint),
}

impl Published {
    /// The checkpoint that is in place.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        match self {
            Self::New(checkpoint) | Self::Already(checkpoint) => checkpoint,
        }
    }
}

impl Draft {
    /// Starts a checkpoint of a step.
    ///
    /// # Errors
    /// A newer attempt exists, or the file system refuses.
    pub fn begin(run: &RunDir, attempt: u32, step: u64) -> Result<Self> {
        run.fence_check(attempt)?;
        let name = format!(".tmp-{}-a{attempt:03}-{}", dir_name(step), atomic::unique());
        let dir = run.checkpoints_dir().join(name);
        fs::create_dir_all(&dir).map_err(|error| failed("create", &dir, error))?;
        Ok(Self {
            run: run.clone(),
            attempt,
            step,
            dir,
            sections: Vec::new(),
        })
    }

    /// The directory being written.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens a section's file for writing; [`SectionWriter::finish`] adds it.
    ///
    /// # Errors
    /// The name or file is taken, or the file system refuses.
    pub fn section(&mut self, name: &str, version: u32, file: &str) -> Result<SectionWriter<'_>> {
        let path = self.new_path(name, file)?;
        let inner = File::create_new(&path).map_err(|error| failed("create", &path, error))?;
        Ok(SectionWriter {
            path,
            name: name.to_owned(),
            version,
            file: file.to_owned(),
            writer: HashingWriter::new(BufWriter::with_capacity(1 << 20, inner)),
            draft: self,
        })
    }

    /// Adds a whole section at once.
    ///
    /// # Errors
    /// As [`Draft::section`] and [`SectionWriter::finish`].
    pub fn write(&mut self, name: &str, version: u32, file: &str, bytes: &[u8]) -> Result<()> {
        let mut section = self.section(name, version, file)?;
        let path = section.path.clone();
        section
            .write_all(bytes)
            .map_err(|error| failed("write", &path, error))?;
        section.finish()
    }

    /// Adds a file that somebody else wrote into [`Draft::dir`]: read back for its checksum, synced.
    ///
    /// # Errors
    /// The file cannot be read or synced, or the name is taken.
    pub fn adopt(&mut self, name: &str, version: u32, file: &str) -> Result<()> {
        let path = self.new_path(name, file)?;
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(|error| failed("sync", &path, error))?;
        let (bytes, sha256) =
            sha256_file(&path).map_err(|error| failed("read back", &path, error))?;
        self.sections.push(Section {
            name: name.to_owned(),
            version,
            file: file.to_owned(),
            bytes,
            sha256,
        });
        Ok(())
    }

    /// Puts the checkpoint in place: manifest last, fence, rename, sync of the directory.
    ///
    /// # Errors
    /// Kind [`ExitKind::Fenced`] if a newer attempt exists; kind [`ExitKind::Checkpoint`] if the file
    /// system refuses. Nothing is published then, and earlier checkpoints are as they were.
    pub fn publish(mut self, info: Info) -> Result<Published> {
        let info = Info {
            step: self.step,
            attempt: self.attempt,
            ..info
        };
        let manifest = Manifest::new(info, std::mem::take(&mut self.sections));
        let as_checkpoint = |error: Error| match error.kind() {
            ExitKind::Internal => error.with_kind(ExitKind::Checkpoint),
            _ => error,
        };
        atomic::write_json(&self.dir.join("manifest.json"), &manifest).map_err(as_checkpoint)?;
        let place = self.run.checkpoints_dir();
        let path = place.join(dir_name(self.step));
        self.run.fence_check(self.attempt).map_err(as_checkpoint)?;
        if path.exists() {
            if let Ok(checkpoint) = verify(&path) {
                return Ok(Published::Already(checkpoint));
            }
            // The damaged one is kept for whoever wants to look, under a name that nobody lists.
            let aside = place.join(format!(
                ".damaged-{}-{}",
                dir_name(self.step),
                atomic::unique()
            ));
            // Reading it back may have taken minutes.
            self.run.fence_check(self.attempt).map_err(as_checkpoint)?;
            fs::rename(&path, &aside).map_err(|error| failed("rename", &path, error))?;
        }
        fs::rename(&self.dir, &path).map_err(|error| failed("publish", &path, error))?;
        atomic::sync_dir(&place).map_err(as_checkpoint)?;
        Ok(Published::New(Checkpoint::new(path, manifest)))
    }

    /// Path of a section's file, if neither its name nor its file is taken.
    fn new_path(&self, name: &str, file: &str) -> Result<PathBuf> {
        let taken = |section: &Section| section.name == name || section.file == file;
        let plain = Path::new(file).file_name() == Some(file.as_ref()) && file != "manifest.json";
        if !plain || self.sections.iter().any(taken) {
            return Err(Error::new(
                ExitKind::Internal,
                format!("section '{name}' cannot be the checkpoint's file '{file}'"),
            ));
        }
        Ok(self.dir.join(file))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a publication the directory has gone already.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Writes one section; counts and hashes on the way.
#[derive(Debug)]
pub struct SectionWriter<'a> {
    draft: &'a mut Draft,
    path: PathBuf,
    name: String,
    version: u32,
    file: String,
    writer: HashingWriter<BufWriter<File>>,
}

impl SectionWriter<'_> {
    /// Writes to another file from here on, for tests of devices that fail.
    #[doc(hidden)]
    pub fn replace_file(&mut self, file: File) {
        self.writer = HashingWriter::new(BufWriter::new(file));
    }

    /// Flushes, syncs to the disk and adds the section to its draft.
    ///
    /// # Errors
    /// The file system refuses; a full disk is said in words.
    pub fn finish(self) -> Result<()> {
        let path = self.path;
        let result = self.writer.finish().and_then(|(file, bytes, sha256)| {
            file.get_ref().sync_all()?;
            Ok((bytes, sha256))
        });
        let (bytes, sha256) = result.map_err(|error| failed("write", &path, error))?;
        self.draft.sections.push(Section {
            name: self.name,
            version: self.version,
            file: self.file,
            bytes,
            sha256,
        });
        Ok(())
    }
}

impl Write for SectionWriter<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.writer.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
