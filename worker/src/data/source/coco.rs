//! COCO's captions: `annotations` with `image_id` and `caption`; image 9 is `train2017/000000000009.jpg` below
//! the root. All captions of an image make one sample, in the order of the file.

use std::collections::HashMap;
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
    image_id: u64,
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
    let mut numbers: HashMap<u64, u32> = HashMap::new();
    let mut images: Vec<u64> = Vec::new();
    let mut text = String::new();
    // Image and end of each caption.
    let mut captions: Vec<(u32, usize)> = Vec::new();
    let reads = Arc::clone(&building.reads);
    json::each(part, "annotations", &reads, |annotation: Annotation| {
        let next = u32::try_from(images.len()).map_err(|_| "it has too many images")?;
        let number = *numbers.entry(annotation.image_id).or_insert(next);
        if number == next {
            images.push(annotation.image_id);
        }
        text.push_str(&annotation.caption);
        captions.push((number, text.len()));
        Ok(())
    })?;
    let mut start = 0;
    let mut captions: Vec<(u32, std::ops::Range<usize>)> = captions
        .into_iter()
        .map(|(number, end)| {
            let range = start..end;
            start = end;
            (number, range)
        })
        .collect();
    // Stable: captions of an image stay in their order.
    captions.sort_by_key(|&(number, _)| number);
    for (sample, of_one) in captions.chunk_by(|a, b| a.0 == b.0).enumerate() {
        let said = |what| SourceError::Sample {
            file: part.list.clone(),
            sample: sample as u64,
            what,
        };
        for (_, range) in of_one {
            add_caption(writer, &text[range.clone()]).map_err(said)?;
        }
        add(writer, &format!("train2017/{:012}.jpg", images[sample])).map_err(said)?;
    }
    let samples = writer.samples();
    building.report(
        "reading the list",
        text.len() as u64,
        0,
        Unit::Bytes,
        samples,
    );
    Ok(())
}
