//! YFCC15M: a pickled list of (id, title, description), and images in 100,000 zip archives of 1,000 each:
//! image 12345678 is `678.jpg` in `images/12/345.zip` below the root.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Part;
use super::SourceError;
use super::build::{Building, Progress, Unit};
use super::conceptual::{add, add_caption, elements};
use super::scan::{Archives, Blob, PushBlob, scan};
use super::watch::Reads;
use super::zip::{Directory, Entry};
use crate::data::index::{IndexWriter, Record, Stamp};

/// Images of YFCC100M: ids have eight digits.
const IMAGES: i64 = 100_000_000;
/// Images whose ids begin alike lie in one archive.
const PER_ARCHIVE: u32 = 1000;
/// What is wrong with an archive that is missing.
pub(super) const NOT_THERE: &str = "is not there";

/// Reads the list, then the directories of the archives.
///
/// # Errors
/// [`SourceError`] that names the file and the sample. What is absent or broken among the archives is noted
/// in the index, unless it is all of them.
pub(super) fn read<W: Write + Seek>(
    part: &Part,
    writer: &mut IndexWriter<W>,
    building: &mut Building<'_>,
) -> Result<(), SourceError> {
    let mut ids: Vec<u32> = Vec::new();
    let first = writer.samples();
    elements(part, writer, building, |heap, cell, writer| {
        // The list is read again from the start if it turns out that it has to be kept.
        ids.truncate((writer.samples() - first) as usize);
        let Some(&[id, title, description]) = heap.items(cell) else {
            return Err("is no tuple (id, title, description)".into());
        };
        let id = heap
            .int(id)
            .or_else(|| heap.text(id).and_then(|text| text.parse().ok()))
            .ok_or("its id is no whole number")?;
        if !(0..IMAGES).contains(&id) {
            return Err(format!("its id {id} is none of YFCC100M's (0 to 99999999)"));
        }
        for caption in [title, description] {
            if heap.is_none(caption) {
                continue;
            }
            let caption = heap
                .text(caption)
                .ok_or("its title or description is no text")?;
            if !caption.is_empty() {
                add_caption(writer, &caption)?;
            }
        }
        ids.push(id as u32);
        add(writer, &format!("{id:08}"))
    })?;
    if !part.root.is_dir() {
        return Err(SourceError::NoFolder {
            folder: part.root.clone(),
        });
    }
    places(&part.root, &ids, writer, building)
}

/// The archive's name below the root.
fn archive_name(archive: u32) -> String {
    format!("images/{:02}/{:03}.zip", archive / 1000, archive % 1000)
}

/// Finds every image in its archive.
fn places<W: Write + Seek>(
    root: &Path,
    ids: &[u32],
    writer: &mut IndexWriter<W>,
    building: &mut Building<'_>,
) -> Result<(), SourceError> {
    let mut archives: Vec<u32> = ids.iter().map(|id| id / PER_ARCHIVE).collect();
    archives.sort_unstable();
    archives.dedup();
    // Samples in the order of their archives.
    let mut order: Vec<u32> = (0..ids.len() as u32).collect();
    order.sort_unstable_by_key(|&sample| (ids[sample as usize] / PER_ARCHIVE, sample));
    let mut records = vec![Record::absent(0); ids.len()];
    let mut left = order.as_slice();
    let mut readable = 0;
    let mut fault = None;
    let names = |number: usize| archive_name(archives[number]);
    let files: Vec<PathBuf> = (0..archives.len())
        .map(|number| root.join(names(number)))
        .collect();
    let samples = writer.samples();
    let first = writer.archives();
    let journal = building.journal.take();
    let reads = Arc::clone(&building.reads);
    let result = scan(
        &Archives {
            before: first,
            files: &files,
            threads: building.threads,
            journal: journal.as_ref(),
            reads: &reads,
        },
        |file| directory(file, &reads),
        |number, blob| {
            let archive = first + number as u32;
            let mut blob = blob.as_slice();
            let (Some(stamp), Some(what)) = (blob.stamp(), blob.text()) else {
                return Err(building.damaged_journal());
            };
            if what.is_empty() {
                readable += 1;
            } else if fault.is_none() {
                fault = Some((names(number), what.clone()));
            }
            let mut members = vec![None; PER_ARCHIVE as usize];
            while let Some((member, record)) = blob.member() {
                if let Some(place) = members.get_mut(usize::from(member)) {
                    *place = Some(record);
                }
            }
            let (mine, rest) =
                left.split_at(left.partition_point(|&sample| {
                    ids[sample as usize] / PER_ARCHIVE == archives[number]
                }));
            left = rest;
            for &sample in mine {
                let member = (ids[sample as usize] % PER_ARCHIVE) as usize;
                let record = members[member].unwrap_or(Record::absent(0));
                building.absent += u64::from(record.packed == 0);
                records[sample as usize] = Record { archive, ..record };
            }
            if !what.is_empty() {
                building.faults += 1;
                if building.faulty.len() < 10 {
                    building
                        .faulty
                        .push(format!("{} {what}", files[number].display()));
                }
            }
            writer.archive(&names(number), stamp, (!what.is_empty()).then_some(&what));
            let (done, total) = (number as u64 + 1, archives.len() as u64);
            if let Some(progress) = building.progress.as_mut() {
                progress(Progress {
                    what: "reading the directories of the archives",
                    done,
                    total,
                    unit: Unit::Archives,
                    samples,
                });
            }
            Ok(())
        },
    );
    building.journal = journal;
    result?;
    if let (0, Some((first, what))) = (readable, fault) {
        return Err(SourceError::NoArchives {
            root: root.to_owned(),
            count: archives.len(),
            first,
            what,
        });
    }
    for record in &records {
        writer.place(record);
    }
    Ok(())
}

/// What is in an archive: its stamp, what is wrong with it, and the members that are called as images are.
pub(super) fn directory(path: &Path, reads: &Reads) -> Vec<u8> {
    let mut blob = Vec::new();
    let read = || -> Result<(Stamp, Directory), String> {
        let said = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => NOT_THERE.to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        let _reading = reads.begin(path);
        let file = File::open(path).map_err(said)?;
        let metadata = file.metadata().map_err(said)?;
        let directory = Directory::read(&file, metadata.len())?;
        Ok((Stamp::from(&metadata), directory))
    };
    let entries = |directory: &Directory| -> Result<Vec<(u16, Record)>, String> {
        let entries = directory.entries()?;
        Ok(entries
            .iter()
            .filter_map(|entry| Some((number(entry)?, entry.record(0)?)))
            .collect())
    };
    let read = read().and_then(|(stamp, directory)| Ok((stamp, entries(&directory)?)));
    match read {
        Ok((stamp, members)) => {
            blob.push_stamp(stamp);
            blob.push_text("");
            for (member, record) in members {
                blob.push_member(member, &record);
            }
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

/// The number in a name such as `678.jpg`.
fn number(entry: &Entry<'_>) -> Option<u16> {
    let digits = entry.name.strip_suffix(b".jpg")?;
    (digits.len() == 3 && digits.iter().all(u8::is_ascii_digit)).then(|| {
        digits
            .iter()
            .fold(0, |number, digit| number * 10 + u16::from(digit - b'0'))
    })
}
