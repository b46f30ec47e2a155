//! Where images lie: `images/00012/000123456.jpg`, ten thousand to a folder.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rocket_common::error::{Error, Result};

/// Images in a folder.
const SHARD: u64 = 10_000;

/// Path of a row's image below the folder of images: what the trainer reads as the sample's name.
#[must_use]
pub(super) fn name(row: u64) -> String {
    format!("{:05}/{row:09}.jpg", row / SHARD)
}

/// The folder of images, as far as it is known.
pub(super) struct Shelf {
    images: PathBuf,
    /// Images that were there before, of the shards that were looked at and not yet left behind.
    there: HashMap<u64, HashSet<u64>>,
    shards: HashSet<u64>,
}

impl Shelf {
    /// The folder of images below `folder`, which is made.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let images = folder.join("images");
        fs::create_dir_all(&images).map_err(|error| Error::io("create", &images, error))?;
        Ok(Self {
            images,
            there: HashMap::new(),
            shards: HashSet::new(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.images
    }

    /// Where the image of a row belongs. Its folder is there after this, without what a killed process
    /// may have left half-written in it.
    pub(super) fn place(&mut self, row: u64) -> Result<PathBuf> {
        let shard = row / SHARD;
        if self.shards.insert(shard) {
            let folder = self.images.join(format!("{shard:05}"));
            match fs::create_dir(&folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let there = tidy(&folder)
                        .map_err(|error| Error::io("read the folder", &folder, error))?;
                    self.there.insert(shard, there);
                    // Rows come in order, give or take the retries.
                    self.there.retain(|&known, _| known + 2 > shard);
                }
                Err(error) => return Err(Error::io("create", &folder, error)),
            }
        }
        Ok(self.images.join(name(row)))
    }

    /// Whether the image of a row was there when its folder was first looked at: it was fetched by a
    /// process that was killed before it could note so.
    pub(super) fn was_there(&self, row: u64) -> bool {
        self.there
            .get(&(row / SHARD))
            .is_some_and(|rows| rows.contains(&row))
    }
}

/// Rows of the images in a folder; half-written files are removed.
fn tidy(folder: &Path) -> io::Result<HashSet<u64>> {
    let mut rows = HashSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") {
            fs::remove_file(entry.path())?;
        } else if let Some(row) = name.strip_suffix(".jpg").and_then(|row| row.parse().ok()) {
            rows.insert(row);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_found_or_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut shelf = Shelf::open(folder.path()).expect("a shelf");
        let place = shelf.place(123_456).expect("a place");
        assert!(place.ends_with("images/00012/000123456.jpg"));
        fs::write(&place, b"image").expect("an image");
        let half = place.with_file_name(".000123457.jpg.0123.tmp");
        fs::write(&half, b"ima").expect("half an image");
        assert!(!shelf.was_there(123_456));

        let mut shelf = Shelf::open(folder.path()).expect("a shelf");
        shelf.place(123_457).expect("a place");
        assert!(shelf.was_there(123_456));
        assert!(!shelf.was_there(123_457));
        assert!(!half.exists());
    }
}
