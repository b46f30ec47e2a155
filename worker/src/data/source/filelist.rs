//! A list of files with captions, one sample a line: `path<TAB>caption[<TAB>caption ...]`, or in a list that is
//! called `.jsonl` an object with `image` (or `file_name`) and `caption` (or `text`) or `captions`. Paths are below
//! the root.

use std::io::{Seek, Write};
use std::sync::Arc;

use serde::Deserialize;

use super::Part;
use super::SourceError;
use super::build::{Building, Unit};
use super::conceptual::{add, add_caption};
use crate::data::index::IndexWriter;
use crate::data::mapped::Mapped;

#[derive(Deserialize)]
struct Line {
    #[serde(alias = "file_name")]
    image: String,
    #[serde(default, alias = "text")]
    caption: Option<String>,
    #[serde(default)]
    captions: Vec<String>,
}

/// Reads the list.
///
/// # Errors
/// [`SourceError`] that names the line.
pub(super) fn read<W: Write + Seek>(
    part: &Part,
    writer: &mut IndexWriter<W>,
    building: &mut Building<'_>,
) -> Result<(), SourceError> {
    let reads = Arc::clone(&building.reads);
    let reading = reads.begin(&part.list);
    let file = Mapped::open(&part.list).map_err(|cause| SourceError::Unreadable {
        file: part.list.clone(),
        cause,
    })?;
    let json = part
        .list
        .extension()
        .is_some_and(|ending| ending == "jsonl");
    let bytes = file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&file);
    let total = bytes.len() as u64;
    let mut done = 0;
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        done += line.len() as u64 + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let result = std::str::from_utf8(line)
            .map_err(|_| "is no UTF-8".to_owned())
            .and_then(|line| {
                if json {
                    object(line, writer)
                } else {
                    fields(line, writer)
                }
            });
        result.map_err(|what| SourceError::Line {
            file: part.list.clone(),
            line: number as u64 + 1,
            what,
        })?;
        if writer.samples().is_multiple_of(1 << 14) {
            reading.moved();
            building.report(
                "reading the list",
                done,
                total,
                Unit::Bytes,
                writer.samples(),
            );
        }
    }
    Ok(())
}

fn fields<W: Write + Seek>(line: &str, writer: &mut IndexWriter<W>) -> Result<(), String> {
    let (name, captions) = line
        .split_once('\t')
        .ok_or("has no tab between the image's path and its caption")?;
    for caption in captions.split('\t') {
        add_caption(writer, caption)?;
    }
    add(writer, name)
}

fn object<W: Write + Seek>(line: &str, writer: &mut IndexWriter<W>) -> Result<(), String> {
    let line: Line = serde_json::from_str(line).map_err(|error| format!("is not read: {error}"))?;
    for caption in line.caption.iter().chain(&line.captions) {
        add_caption(writer, caption)?;
    }
    add(writer, &line.image)
}
