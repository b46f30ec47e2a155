//! Getting data sets from where they are published: the images of CC3M's and CC12M's lists, each from
//! whoever hosts it, and small sets of images as archives.

mod address;
mod archive;
mod cause;
mod download;
mod hosts;
mod interrupt;
mod journal;
mod list;
mod metadata;
mod pairs;
mod picture;
mod published;
mod report;
mod request;
mod run;
mod shelf;
mod unpack;

pub use address::{Reach, is_public};
pub use archive::{ArchiveOptions, Origin, SetReport, fetch_set};
pub use cause::{Cause, Failure};
pub use hosts::Politeness;
pub use list::{List, ListFacts, Pairs, Row, survey};
pub use pairs::{PairsOptions, fetch_pairs};
pub use picture::{PictureOptions, Resize};
pub use published::{Archive, Contents, Published, SETS};
pub use report::{CauseCount, PairsReport};
pub use request::RequestOptions;
pub use unpack::{UnpackError, unpack_gz, unpack_tar_gz};
