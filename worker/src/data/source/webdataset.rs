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
use super::scan::{Blob, PushBlob, scan};
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
    let mut wrong = None;
    let result = scan(
        shards.len(),
        building.threads,
        journal.as_ref(),
        |number| shard(&shards[number], &reads),
        |number, blob| {
            let name = shards[number].to_string_lossy().into_owned();
            let stamp = add_shard(&name, &blob, writer).inspect_err(|_| {
                wrong = Some(shards[number].clone());
            })?;
            if shards.len() <= MOST_COMPARED {
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
    result.map_err(|what| SourceError::Archive {
        file: wrong.unwrap_or_else(|| building.index.clone()),
        what,
    })
}

/// Puts what was found in a shard into the index, and gives what the shard was then.
fn add_shard<W: Write + Seek>(
    name: &str,
    mut blob: &[u8],
    writer: &mut IndexWriter<W>,
) -> Result<Stamp, String> {
    const DAMAGED: &str = "was looked into before, and the journal of that is damaged; remove it";
    let stamp = blob.stamp().ok_or(DAMAGED)?;
    let fault = blob.text().ok_or(DAMAGED)?;
    if !fault.is_empty() {
        return Err(fault);
    }
    let archive = writer.archive(name, stamp, None);
    let short = Path::new(name).file_name().unwrap_or_default();
    let short = short.to_string_lossy();
    while let Some(member) = blob.text() {
        let (captions, record) = blob.member().ok_or(DAMAGED)?;
        for _ in 0..captions {
            let caption = blob.text().ok_or(DAMAGED)?;
            add_caption(writer, &caption)
                .map_err(|what| format!("holds a broken sample '{member}': {what}"))?;
        }
        writer.place(&Record { archive, ..record });
        writer
            .add(&format!("{short}/{member}"))
            .map_err(|error| error.to_string())?;
    }
    Ok(stamp)
}

/// A sample in the making.
#[derive(Default)]
struct Group {
    key: String,
    image: Option<Member>,
    text: Option<String>,
    json: Vec<String>,
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
            finish(&mut samples, std::mem::take(&mut group))?;
            key.clone_into(&mut group.key);
        }
        match ending.as_str() {
            "txt" => group.text = Some(caption(&file, &member)?),
            "json" => {
                let text = caption(&file, &member)?;
                let value = serde_json::from_str(&text).map_err(|error| {
                    format!("holds '{}', which is no JSON: {error}", member.name)
                })?;
                group.json = captions(&value);
            }
            ending if IMAGES.contains(&ending) && group.image.is_none() => {
                group.image = Some(member);
            }
            _ => {}
        }
        Ok(())
    })?;
    finish(&mut samples, group)?;
    Ok((Stamp::from(&metadata), samples))
}

/// What a sample's files have in common, and the ending in lower case.
fn split(name: &str) -> (&str, String) {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name[base..].find('.').map_or(name.len(), |dot| base + dot);
    let ending = name.rfind('.').map_or("", |dot| &name[dot + 1..]);
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
fn captions(value: &Value) -> Vec<String> {
    if let Some(Value::String(caption)) = value.get("caption") {
        return vec![caption.clone()];
    }
    let list = value.get("captions").and_then(Value::as_array);
    list.map(|list| {
        list.iter()
            .filter_map(|caption| caption.as_str().map(str::to_owned))
            .collect()
    })
    .unwrap_or_default()
}

fn finish(samples: &mut Vec<u8>, group: Group) -> Result<(), String> {
    let Some(image) = group.image else {
        return Ok(());
    };
    let mut captions = match group.text {
        Some(text) => vec![text],
        None => group.json,
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
