//! RedCaps: a list (by itself or under `annotations`) of `image_id`, `subreddit` and `caption`; the image is
//! `<subreddit>/<image_id>.jpg` below the root.

use std::io::{Seek, Write};
use std::sync::Arc;

use serde::Deserialize;

use super::Part;
use super::SourceError;
use super::build::{Building, Unit};
use super::conceptual::{add, add_caption};
use super::json;
use crate::data::index::IndexWriter;

#[derive(Deserialize)]
struct Annotation {
    image_id: String,
    subreddit: String,
    caption: String,
}

/// Reads the list.
///
/// # Errors
/// [`SourceError`].
pub(super) fn read<W: Write + Seek>(
    part: &Part,
    writer: &mut IndexWriter<W>,
    building: &mut Building<'_>,
) -> Result<(), SourceError> {
    let reads = Arc::clone(&building.reads);
    json::each(part, "annotations", &reads, |annotation: Annotation| {
        add_caption(writer, &annotation.caption)?;
        add(
            writer,
            &format!("{}/{}.jpg", annotation.subreddit, annotation.image_id),
        )?;
        let samples = writer.samples();
        if samples.is_multiple_of(1 << 14) {
            building.report("reading the list", 0, 0, Unit::Bytes, samples);
        }
        Ok(())
    })
}
