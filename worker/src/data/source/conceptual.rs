//! CC3M and CC12M: an npy file of dicts and one folder of images.

use std::io::{Seek, Write};
use std::path::{Component, Path};
use std::sync::Arc;

use super::Part;
use super::SourceError;
use super::build::{Building, Unit};
use crate::data::index::IndexWriter;
use crate::data::mapped::Mapped;
use crate::data::npy::{NpyError, object_pickle};
use crate::data::pickle::{Cell, Elements, ElementsError, Heap};

/// Samples between two reports of progress.
const OFTEN: u64 = 1 << 14;

/// Reads Conceptual Captions as the reference stores them: dicts with the image's file name (under `key`:
/// `image_id` in CC3M, `image_name` in CC12M) and `captions`, a list of text.
///
/// # Errors
/// [`SourceError`] that names the file and the sample.
pub(super) fn read<W: Write + Seek>(
    part: &Part,
    key: &str,
    writer: &mut IndexWriter<W>,
    building: &mut Building<'_>,
) -> Result<(), SourceError> {
    elements(part, writer, building, |heap, cell, writer| {
        if !heap.is_dict(cell) {
            return Err("is no dict".into());
        }
        let name = heap
            .get(cell, key)
            .ok_or_else(|| format!("has no '{key}'"))?;
        let captions = heap
            .get(cell, "captions")
            .ok_or_else(|| "has no 'captions'".to_owned())?;
        if let Some(caption) = heap.text(captions) {
            add_caption(writer, &caption)?;
        } else {
            let captions = heap
                .items(captions)
                .ok_or("'captions' is neither a list of text nor text")?;
            for &caption in captions {
                let caption = heap
                    .text(caption)
                    .ok_or("'captions' holds something that is no text")?;
                add_caption(writer, &caption)?;
            }
        }
        // The reference turns whatever the id is into text.
        match (heap.text(name), heap.int(name)) {
            (Some(name), _) => add(writer, &name),
            (None, Some(number)) => add(writer, &number.to_string()),
            (None, None) => Err(format!("'{key}' is neither text nor a whole number")),
        }
    })
}

/// Hands every element of a pickled list (by itself, or in an npy file) to `add`.
pub(super) fn elements<W: Write + Seek>(
    part: &Part,
    writer: &mut IndexWriter<W>,
    building: &mut Building<'_>,
    mut add: impl FnMut(&Heap<'_>, Cell, &mut IndexWriter<W>) -> Result<(), String>,
) -> Result<(), SourceError> {
    let list = &part.list;
    let reads = Arc::clone(&building.reads);
    let reading = reads.begin(list);
    let file = Mapped::open(list).map_err(|cause| SourceError::Unreadable {
        file: list.clone(),
        cause,
    })?;
    let pickle = match object_pickle(&file) {
        Ok(pickle) => pickle,
        // numpy.load, with which the reference reads some lists, takes plain pickles as well.
        Err(NpyError::Magic { .. }) if is_pickle(&file) => &file,
        Err(cause) => {
            return Err(SourceError::Npy {
                file: list.clone(),
                cause,
            });
        }
    };
    let total = pickle.len() as u64;
    // One text may be shown by many samples, but a file of a few bytes has no gigabytes to say.
    let most_text = writer.text() + (total << 6) + (16 << 20);
    let mark = writer.mark().map_err(|cause| building.unwritten(cause))?;
    let mut keep_all = false;
    loop {
        let elements = Elements::new(pickle);
        let elements = if keep_all {
            elements.keep_all()
        } else {
            elements
        };
        let result = elements.each(|heap, cell, at| {
            add(heap, cell, writer)?;
            if writer.text() > most_text {
                return Err("repeats what others hold, beyond any measure".to_owned());
            }
            if writer.samples().is_multiple_of(OFTEN) {
                reading.moved();
                building.report(
                    "reading the list",
                    at as u64,
                    total,
                    Unit::Bytes,
                    writer.samples(),
                );
            }
            Ok(())
        });
        match result {
            Ok(_) => break,
            // Begin again, and hold on to what is shown again later.
            Err(ElementsError::Forgotten) if !keep_all => keep_all = true,
            Err(ElementsError::Element { element, what }) => {
                return Err(SourceError::Sample {
                    file: list.clone(),
                    sample: element,
                    what,
                });
            }
            Err(cause) => {
                return Err(SourceError::Elements {
                    file: list.clone(),
                    cause,
                });
            }
        }
        writer
            .rewind(mark)
            .map_err(|cause| building.unwritten(cause))?;
    }
    building.report(
        "reading the list",
        total,
        total,
        Unit::Bytes,
        writer.samples(),
    );
    Ok(())
}

/// A pickle of protocol 2 or later.
fn is_pickle(file: &[u8]) -> bool {
    matches!(file, [0x80, 2..=5, ..])
}

/// Adds a sample whose image is a file below the root.
pub(super) fn add<W: Write + Seek>(writer: &mut IndexWriter<W>, name: &str) -> Result<(), String> {
    check_name(name)?;
    writer.add(name).map_err(|error| error.to_string())
}

pub(super) fn add_caption<W: Write + Seek>(
    writer: &mut IndexWriter<W>,
    caption: &str,
) -> Result<(), String> {
    if caption.as_bytes().contains(&0) {
        return Err(format!(
            "a caption holds the character NUL: '{}'; take it out of the list",
            shorten(caption)
        ));
    }
    writer.caption(caption);
    Ok(())
}

fn shorten(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    start.escape_debug().to_string()
}

/// Names come from a file that others wrote: they must stay inside of the folder.
fn check_name(name: &str) -> Result<(), String> {
    let inside = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if name.is_empty() || name.as_bytes().contains(&0) || !inside {
        return Err(format!(
            "the image's name '{}' leads out of the folder",
            name.escape_debug()
        ));
    }
    Ok(())
}
