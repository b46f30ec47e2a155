//! WebDataset: tar shards in which files that lie side by side and are called alike up to the first dot make
//! one sample, an image (`.jpg`, `.png`, `.webp`, ...) with its caption (`.txt`, or `caption` or `captions` in a
//! `.json`).

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::Part;
use super::SourceError;
use super::build::{Building, Progress, Unit};
use super::conceptual::add_caption;
use super::scan::{Archives, Blob, PushBlob, scan};
use super::shards::expand;
use super::tar::{Member, members};
use super::watch::Reads;
use super::zip::leads_out;
use crate::data::index::{IndexWriter, Method, Record, Stamp};

/// Endings of images, in lower case.
pub(super) const IMAGES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "ppm", "tif"];
/// So many shards are compared with an index whenever it is opened; of more, each when it is read.
const MOST_COMPARED: usize = 256;
/// The largest caption file that is read.
const MOST_CAPTION: u64 = 1 << 20;

/// Reads every shard.
///
/// # Errors
/// [`SourceError`] that names the shard: one that is cut off would silently make the set smaller.
pub(super) fn read<W: Write + Seek>(
    part: &Part,
    writer: &mut IndexWriter<W>,
    building: &mut Building<'_>,
) -> Result<(), SourceError> {
    let shards = expand(&part.list.to_string_lossy())
        .map_err(|what| SourceError::Parts(format!("data.metadata: {what}")))?;
    let journal = building.journal.take();
    let reads = Arc::clone(&building.reads);
    let result = scan(
        &Archives {
            before: writer.archives(),
            files: &shards,
            threads: building.threads,
            journal: journal.as_ref(),
            reads: &reads,
        },
        |file| shard(file, &reads),
        |number, blob| {
            let file = shards[number].as_path();
            let stamp = add_shard(file, &blob, writer, building)?;
            if shards.len() <= MOST_COMPARED {
                let name = file.to_string_lossy().into_owned();
                building.sources.push((name, stamp));
            }
            if let Some(progress) = building.progress.as_mut() {
                progress(Progress {
                    what: "reading the shards",
                    done: number as u64 + 1,
                    total: shards.len() as u64,
                    unit: Unit::Archives,
                    samples: writer.samples(),
                });
            }
            Ok(())
        },
    );
    building.journal = journal;
    result
}

/// Puts what was found in a shard into the index, and gives what the shard was then.
fn add_shard<W: Write + Seek>(
    file: &Path,
    mut blob: &[u8],
    writer: &mut IndexWriter<W>,
    building: &Building<'_>,
) -> Result<Stamp, SourceError> {
    let damaged = || building.damaged_journal();
    let wrong = |what: String| SourceError::Archive {
        file: file.to_owned(),
        what,
    };
    let stamp = blob.stamp().ok_or_else(damaged)?;
    let fault = blob.text().ok_or_else(damaged)?;
    if !fault.is_empty() {
        return Err(wrong(fault));
    }
    let archive = writer.archive(&file.to_string_lossy(), stamp, None);
    let short = file.file_name().unwrap_or_default().to_string_lossy();
    while let Some(member) = blob.text() {
        let (captions, record) = blob.member().ok_or_else(damaged)?;
        for _ in 0..captions {
            let caption = blob.text().ok_or_else(damaged)?;
            add_caption(writer, &caption)
                .map_err(|what| wrong(format!("holds a broken sample '{member}': {what}")))?;
        }
        writer.place(&Record { archive, ..record });
        writer
            .add(&format!("{short}/{member}"))
            .map_err(|error| wrong(error.to_string()))?;
    }
    Ok(stamp)
}

/// A sample in the making.
#[derive(Default)]
struct Group {
    key: String,
    image: Option<Member>,
    text: Option<String>,
    json: Option<Member>,
}

fn shard(path: &Path, reads: &Reads) -> Vec<u8> {
    let mut blob = Vec::new();
    match look(path, reads) {
        Ok((stamp, samples)) => {
            blob.push_stamp(stamp);
            blob.push_text("");
            blob.extend_from_slice(&samples);
        }
        Err(what) => {
            blob.push_stamp(Stamp {
                size: 0,
                mtime_ns: 0,
            });
            blob.push_text(&what);
        }
    }
    blob
}

fn look(path: &Path, reads: &Reads) -> Result<(Stamp, Vec<u8>), String> {
    let said = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "is not there; check data.metadata".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let reading = reads.begin(path);
    let file = File::open(path).map_err(said)?;
    let metadata = file.metadata().map_err(said)?;
    let mut samples = Vec::new();
    let mut group = Group::default();
    members(&file, metadata.len(), |member| {
        reading.moved();
        if leads_out(member.name.as_bytes()) {
            return Err(format!(
                "is refused: its file '{}' leads out of the archive",
                member.name.escape_debug()
            ));
        }
        let (key, ending) = split(&member.name);
        if key != group.key {
            finish(&file, &mut samples, std::mem::take(&mut group))?;
            key.clone_into(&mut group.key);
        }
        match ending.as_str() {
            "txt" => group.text = Some(caption(&file, &member)?),
            "json" => group.json = Some(member),
            ending if IMAGES.contains(&ending) && group.image.is_none() => {
                group.image = Some(member);
            }
            _ => {}
        }
        Ok(())
    })?;
    finish(&file, &mut samples, group)?;
    Ok((Stamp::from(&metadata), samples))
}

/// What a sample's files have in common, and the ending in lower case: all after the first dot, as WebDataset has
/// it, so that `7.depth.png` is not the image of `7`.
fn split(name: &str) -> (&str, String) {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name[base..].find('.').map_or(name.len(), |dot| base + dot);
    let ending = name[dot..].strip_prefix('.').unwrap_or_default();
    (&name[..dot], ending.to_ascii_lowercase())
}

fn caption(file: &File, member: &Member) -> Result<String, String> {
    if member.size > MOST_CAPTION {
        return Err(format!(
            "holds '{}' with {} bytes, which is too long for a caption",
            member.name, member.size
        ));
    }
    let mut bytes = vec![0; member.size as usize];
    file.read_exact_at(&mut bytes, member.offset)
        .map_err(|error| format!("cannot be read: {error}"))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// `caption`, or `captions`, of a JSON file.
fn captions(file: &File, member: &Member) -> Result<Vec<String>, String> {
    let text = caption(file, member)?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| format!("holds '{}', which is no JSON: {error}", member.name))?;
    if let Some(Value::String(caption)) = value.get("caption") {
        return Ok(vec![caption.clone()]);
    }
    let list = value.get("captions").and_then(Value::as_array);
    Ok(list
        .map(|list| {
            list.iter()
                .filter_map(|caption| caption.as_str().map(str::to_owned))
                .collect()
        })
        .unwrap_or_default())
}

fn finish(file: &File, samples: &mut Vec<u8>, group: Group) -> Result<(), String> {
    let Some(image) = group.image else {
        return Ok(());
    };
    let mut captions = match (group.text, &group.json) {
        (Some(text), _) => vec![text],
        // Not before it decides: Python writes what is no JSON (NaN) beside captions.
        (None, Some(json)) => captions(file, json)?,
        (None, None) => Vec::new(),
    };
    captions.truncate(u16::MAX.into());
    let offset = Some(image.offset).filter(|&offset| offset <= Record::MOST_OFFSET);
    let offset = offset.ok_or("is larger than a terabyte, which is not read")?;
    // What is larger than any image is refused when it is read, by its size.
    let size = u32::try_from(image.size).unwrap_or(u32::MAX);
    samples.push_text(&image.name);
    samples.push_member(
        captions.len() as u16,
        &Record {
            archive: 0,
            offset,
            packed: size,
            raw: size,
            method: Method::Bare,
            slack: 0,
        },
    );
    for caption in &captions {
        samples.push_text(caption);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_damaged_journal_is_named_and_not_the_shard() {
        let mut writer = IndexWriter::new(Cursor::new(Vec::<u8>::new())).expect("memory");
        let building = Building::new(Path::new("set.index"));
        let error = add_shard(Path::new("0.tar"), b"?", &mut writer, &building);
        let error = error.expect_err("it makes no sense");
        insta::assert_snapshot!(error.to_string(), @"set.index.partial is a damaged journal of an interrupted attempt; remove it");
    }
}
