//! Where samples come from: lists in many formats, read once into an index that all ranks share.

mod build;
mod coco;
mod conceptual;
mod error;
mod filelist;
mod folder;
mod indexed;
mod json;
mod open;
mod prepare;
mod read;
mod redcaps;
mod scan;
mod shards;
mod tar;
mod watch;
mod webdataset;
mod yfcc;
mod zip;

pub use build::{Building, Built, Progress, Unit, write_index};
pub use error::SourceError;
pub use indexed::Indexed;
pub use open::{cache_folder, current_index, in_memory, index_path, open};
pub use prepare::{Prepared, Preparing, prepare, verify};
pub use read::{MOST_IMAGE_BYTES, Member, Place, ReadError, Reader};
pub use rocket_common::experiment::DataList as Part;
pub use watch::{Reads, Stalled, watched};

/// A set of images with captions, read by many threads.
pub trait Source: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All captions of a sample; never empty (a sample without one has the caption `""`).
    fn captions(&self, sample: usize) -> Vec<&str>;

    /// Where the image is.
    ///
    /// # Errors
    /// If it is nowhere: its archive does not hold it, or cannot be read.
    fn place(&self, sample: usize) -> Result<Place, ReadError>;

    /// What people call the sample: its file name or id.
    fn name(&self, sample: usize) -> String;

    /// Reads the image's file into `bytes`, whose content is replaced.
    ///
    /// # Errors
    /// [`ReadError`].
    fn read(&self, sample: usize, bytes: &mut Vec<u8>) -> Result<(), ReadError> {
        self.place(sample)?.read(bytes)
    }

    /// The file whose read goes on for longer than a read may, if there is one: its file system no longer
    /// answers.
    fn stalled(&self) -> Option<Stalled> {
        None
    }
}
