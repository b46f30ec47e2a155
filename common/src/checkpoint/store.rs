//! Finding and checking checkpoints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::digest::sha256_file;
use super::manifest::{Manifest, Section};
use super::{failed, step_of};
use crate::atomic;
use crate::error::{Error, Result};
use crate::exit::ExitKind;

/// A checkpoint whose manifest was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    dir: PathBuf,
    manifest: Manifest,
}

/// A checkpoint that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its directory within `checkpoints/`.
    pub name: String,
    /// The step that its name says.
    pub step: u64,
    /// What is wrong, a sentence that names the file.
    pub reason: String,
}

/// What [`latest_good`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The last good one.
    pub checkpoint: Option<Checkpoint>,
    /// Later ones that were passed over, the latest first.
    pub damaged: Vec<Damaged>,
}

impl Checkpoint {
    pub(crate) fn new(dir: PathBuf, manifest: Manifest) -> Self {
        Self { dir, manifest }
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its directory's name.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.dir.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Optimiser steps done.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.manifest.info.step
    }

    /// Path of a section's file.
    ///
    /// # Errors
    /// There is no such section, or its version is newer than `newest`.
    pub fn section_path(&self, name: &str, newest: u32) -> Result<PathBuf> {
        let Some(section) = self.manifest.section(name) else {
            return Err(self.unusable(&format!("it holds no section '{name}'")));
        };
        if section.version > newest {
            return Err(self.unusable(&format!(
                "its section '{name}' has version {}, and this program knows up to {newest}",
                section.version
            )));
        }
        Ok(self.dir.join(&section.file))
    }

    /// Whether it holds a section of this name.
    #[must_use]
    pub fn has_section(&self, name: &str) -> bool {
        self.manifest.section(name).is_some()
    }

    /// Adds scores to the manifest, for instance of an evaluation that came after the publication.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn add_metrics(&mut self, metrics: &BTreeMap<String, f64>) -> Result<()> {
        let finite = metrics.iter().filter(|(_, value)| value.is_finite());
        let mut manifest = self.manifest.clone();
        let finite = finite.map(|(name, value)| (name.clone(), *value));
        manifest.info.metrics.extend(finite);
        manifest.seal();
        atomic::write_json(&self.dir.join("manifest.json"), &manifest)
            .map_err(|error| error.with_kind(ExitKind::Checkpoint))?;
        self.manifest = manifest;
        Ok(())
    }

    /// Compares one section's file with its checksum.
    fn check(&self, section: &Section) -> Result<()> {
        let path = self.dir.join(&section.file);
        let (bytes, sha256) = sha256_file(&path).map_err(|error| failed("read", &path, error))?;
        let file = &section.file;
        if bytes != section.bytes {
            return Err(self.unusable(&format!(
                "'{file}' has {bytes} bytes in place of {}",
                section.bytes
            )));
        }
        if sha256 != section.sha256 {
            return Err(self.unusable(&format!("'{file}' does not match its checksum")));
        }
        Ok(())
    }

    fn unusable(&self, reason: &str) -> Error {
        unusable(&self.dir, reason)
    }
}

fn unusable(dir: &Path, reason: &str) -> Error {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    Error::new(
        ExitKind::Checkpoint,
        format!("checkpoint '{name}' cannot be used: {reason}"),
    )
}

/// Reads a checkpoint's manifest and checks it, and that its files are there at their length; the
/// files' content is left to [`verify`].
///
/// # Errors
/// Kind [`ExitKind::Checkpoint`], with a sentence that names the checkpoint and what is wrong.
pub fn open(dir: &Path) -> Result<Checkpoint> {
    let path = dir.join("manifest.json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if atomic::is_absent(&error) => {
            return Err(unusable(dir, "it has no manifest.json"));
        }
        Err(error) => return Err(failed("read", &path, error)),
    };
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| unusable(dir, &format!("its manifest.json is damaged ({error})")))?;
    if manifest.schema > Manifest::SCHEMA {
        return Err(unusable(
            dir,
            &format!(
                "it was written by a newer rocket (schema {}, this one knows up to {})",
                manifest.schema,
                Manifest::SCHEMA
            ),
        ));
    }
    if !manifest.complete || manifest.digest != manifest.expected_digest() {
        return Err(unusable(
            dir,
            "its manifest.json does not match its own checksum",
        ));
    }
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    if step_of(&name).is_some_and(|step| step != manifest.info.step) {
        let step = manifest.info.step;
        return Err(unusable(
            dir,
            &format!("its manifest.json is of step {step}"),
        ));
    }
    for section in &manifest.sections {
        let path = dir.join(&section.file);
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if atomic::is_absent(&error) => {
                return Err(unusable(dir, &format!("'{}' is missing", section.file)));
            }
            Err(error) => return Err(failed("read", &path, error)),
        };
        if length != section.bytes {
            let (file, bytes) = (&section.file, section.bytes);
            let reason = format!("'{file}' has {length} bytes in place of {bytes}");
            return Err(unusable(dir, &reason));
        }
    }
    Ok(Checkpoint::new(dir.to_owned(), manifest))
}

/// [`open`], and compares every file with its checksum.
///
/// # Errors
/// As [`open`].
pub fn verify(dir: &Path) -> Result<Checkpoint> {
    let checkpoint = open(dir)?;
    for section in &checkpoint.manifest.sections {
        checkpoint.check(section)?;
    }
    Ok(checkpoint)
}

/// Steps and directories of the checkpoints in a folder, good or not, the latest first. A folder that
/// does not exist holds none.
///
/// # Errors
/// The folder cannot be read.
pub fn list(checkpoints: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(checkpoints) {
        Ok(entries) => entries,
        Err(error) if atomic::is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", checkpoints, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed("read", checkpoints, error))?;
        if let Some(step) = step_of(&entry.file_name().to_string_lossy()) {
            found.push((step, entry.path()));
        }
    }
    found.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
    Ok(found)
}

/// The last checkpoint of a folder that is good by its manifest and checksums, and the later ones
/// that are not. No link is asked, and no clock.
///
/// # Errors
/// The folder cannot be read.
pub fn latest_good(checkpoints: &Path) -> Result<Found> {
    let mut damaged = Vec::new();
    for (step, dir) in list(checkpoints)? {
        match verify(&dir) {
            Ok(checkpoint) => {
                return Ok(Found {
                    checkpoint: Some(checkpoint),
                    damaged,
                });
            }
            Err(error) => damaged.push(Damaged {
                name: super::dir_name(step),
                step,
                reason: error.to_string(),
            }),
        }
    }
    Ok(Found {
        checkpoint: None,
        damaged,
    })
}
