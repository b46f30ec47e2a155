//! Archives, and indexes of what is in them.

use std::fs;
use std::io::{Cursor, Write};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use rocket_common::experiment::Dataset;
use rocket_worker::data::fetch::unpack_tar_gz;
use rocket_worker::data::index::Index;
use rocket_worker::data::source::{Building, Indexed, Part, Source, write_index};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{Set, begins, cut};
use crate::Target;
use crate::mutate::Grammar;

/// Blocks of 512 bytes of a tar.
fn tar_blocks(bytes: &[u8]) -> Vec<Range<usize>> {
    cut(bytes, (512..bytes.len()).step_by(512).collect())
}

/// Right checksums for whatever looks like a header.
fn tar_sums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] != b"ustar" {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        let text = format!("{sum:06o}\0 ");
        block[148..156].copy_from_slice(text.as_bytes());
    }
}

pub(crate) fn tar_gz() -> Target {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, length) in [("top/a.bin", 700), ("top/b.bin", 10)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(length);
        header.set_mode(0o644);
        let bytes = vec![7; length as usize];
        builder
            .append_data(&mut header, name, bytes.as_slice())
            .expect("memory");
    }
    let seed = builder.into_inner().expect("memory");
    Target {
        name: "tar_gz",
        grammar: Grammar {
            words: &[
                b"../",
                b"/etc/",
                b"top/",
                b"././@LongLink",
                b"7777777777777",
                b"\x80\0\0\0\0\0\0\0\x7f\xff\xff\xff",
                b"ustar\0",
                b"ustar  \0",
                b"path=../x\n",
            ],
            split: tar_blocks,
            mend: tar_sums,
        },
        seeds: vec![seed],
        // Changed before it is compressed: compressed bytes that are changed are no archive at all.
        read: Box::new(|bytes| {
            let mut gz = GzEncoder::new(Vec::new(), Compression::none());
            gz.write_all(bytes).expect("memory");
            let gz = gz.finish().expect("memory");
            let outer = tempfile::tempdir().expect("a folder");
            let to = outer.path().join("to");
            std::fs::create_dir(&to).expect("a folder");
            let files = [("a.bin", 700), ("b.bin", 10)];
            let result = unpack_tar_gz(gz.as_slice(), "top", &files, 4096, &to);
            let beside = std::fs::read_dir(outer.path()).expect("the folder").count();
            assert_eq!(beside, 1, "something was written outside");
            let mut total = 0;
            for file in std::fs::read_dir(&to).expect("the folder") {
                let about = file
                    .expect("a file")
                    .path()
                    .symlink_metadata()
                    .expect("a file");
                assert!(about.is_file(), "something that is no file");
                total += about.len();
            }
            assert!(total <= 4096 + 65_536, "{total} bytes were written");
            result.map_or_else(|error| error.to_string(), |()| "unpacked".to_owned())
        }),
        memory: |length| 8 * length as u64 + (2 << 20),
    }
}

/// A shard of WebDataset: two samples, with another file between.
pub(crate) fn tar() -> Target {
    let mut builder = tar::Builder::new(Vec::new());
    let files: [(&str, &[u8]); 5] = [
        ("a/0001.jpg", &[0xFF; 700]),
        ("a/0001.json", br#"{"captions": ["one", "two"]}"#),
        ("a/readme", b"x"),
        ("a/0002.txt", b"a caption\n"),
        ("a/0002.png", &[7; 20]),
    ];
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, bytes)
            .expect("memory");
    }
    let long = format!("{}/0003.jpg", "long".repeat(40));
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    builder
        .append_data(&mut header, long, &b"abc"[..])
        .expect("memory");
    let mut pax = tar::Builder::new(Vec::new());
    let path = [("path", &b"p/1.jpg"[..]), ("size", &b"4"[..])];
    pax.append_pax_extensions(path).expect("memory");
    let mut header = tar::Header::new_ustar();
    header.set_size(4);
    pax.append_data(&mut header, "1.jpg", &b"abcd"[..])
        .expect("memory");
    let set = Set::new(Dataset::Webdataset, "shard.tar");
    Target {
        name: "tar",
        grammar: Grammar {
            words: &[
                b"../",
                b"/etc/passwd",
                b".jpg",
                b".txt",
                b".json",
                b"././@LongLink",
                b"7777777777777",
                b"\x80\0\0\0\0\0\0\0\x7f\xff\xff\xff",
                b"ustar\0",
                b"ustar  \0",
                b"16 path=../x.jpg\n",
                b"26 size=99999999999999999\n",
                b"L",
                b"x",
            ],
            split: tar_blocks,
            mend: tar_sums,
        },
        seeds: vec![
            builder.into_inner().expect("memory"),
            pax.into_inner().expect("memory"),
        ],
        read: Box::new(move |bytes| {
            fs::write(&set.data.metadata, bytes).expect("the shard is written");
            set.read()
        }),
        // An index gathers its text in 2 MiB.
        memory: |length| 100 * length as u64 + (3 << 20),
    }
}

/// Samples of one of YFCC15M's archives, as a pickled list.
fn yfcc_list() -> Vec<u8> {
    let mut list = b"\x80\x04](".to_vec();
    for id in 0..6_u8 {
        list.extend([b'K', id]);
        list.extend(b"X\x01\0\0\0tX\x01\0\0\0d\x87");
    }
    list.extend(b"e.");
    list
}

/// An archive of YFCC15M: stored and deflated members.
fn yfcc_zip() -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (number, method) in [
        (0, CompressionMethod::Stored),
        (1, CompressionMethod::Deflated),
        (2, CompressionMethod::Stored),
        (4, CompressionMethod::Deflated),
    ] {
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .large_file(number > 1);
        writer
            .start_file(format!("{number:03}.jpg"), options)
            .expect("memory");
        let bytes = vec![number as u8; 300 * (number + 1)];
        writer.write_all(&bytes).expect("memory");
    }
    writer.finish().expect("memory").into_inner()
}

/// Records of a zip, by their signatures.
fn zip_records(bytes: &[u8]) -> Vec<Range<usize>> {
    cut(
        bytes,
        begins(
            bytes,
            &[b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06"],
        ),
    )
}

/// Where the directory is and how much of it there is, in the record at the end: what is looked at first.
fn zip_end(bytes: &mut [u8]) {
    let find = |word: &[u8]| bytes.windows(4).position(|bytes| bytes == word);
    let last = bytes.windows(4).rposition(|bytes| bytes == b"PK\x05\x06");
    let (Some(start), Some(end)) = (find(b"PK\x01\x02"), last) else {
        return;
    };
    if start > end || end + 22 > bytes.len() {
        return;
    }
    let members = bytes[start..end].windows(4);
    let count = members.filter(|bytes| *bytes == b"PK\x01\x02").count();
    let comment = bytes.len() - end - 22;
    bytes[end + 10..end + 12].copy_from_slice(&(count as u16).to_le_bytes());
    bytes[end + 12..end + 16].copy_from_slice(&((end - start) as u32).to_le_bytes());
    bytes[end + 16..end + 20].copy_from_slice(&(start as u32).to_le_bytes());
    bytes[end + 20..end + 22].copy_from_slice(&(comment as u16).to_le_bytes());
}

pub(crate) fn zip() -> Target {
    let set = Set::new(Dataset::Yfcc15m, "list.pkl");
    fs::write(&set.data.metadata, yfcc_list()).expect("a list");
    let archive = set.data.root.join("images/00/000.zip");
    fs::create_dir_all(archive.parent().unwrap_or(Path::new("/"))).expect("a folder");
    Target {
        name: "zip",
        grammar: Grammar {
            words: &[
                b"PK\x01\x02",
                b"PK\x03\x04",
                b"PK\x05\x06",
                b"PK\x06\x06",
                b"PK\x06\x07",
                b"000.jpg",
                b"../",
                b"\xff\xff\xff\xff",
                b"\x01\0\x10\0",
                b"\x08\0",
                b"\x0c\0",
            ],
            split: zip_records,
            mend: zip_end,
        },
        seeds: vec![yfcc_zip()],
        read: Box::new(move |bytes| {
            fs::write(&archive, bytes).expect("the archive is written");
            set.read()
        }),
        // Deflate makes at most 1,032 bytes of one; an index gathers its text in 2 MiB.
        memory: |length| 1200 * length as u64 + (3 << 20),
    }
}

/// Bytes of an index's header.
const PAGE: usize = 4096;
/// The sections in it, and what each has there: offset, length, checksum.
const SECTIONS: usize = 40;
const SECTION: usize = 24;

fn index_sections(bytes: &[u8]) -> Vec<Range<usize>> {
    let header = (16..40).step_by(8);
    let sections = (SECTIONS..SECTIONS + 8 * SECTION).step_by(8);
    let rest = (PAGE..bytes.len()).step_by(20);
    let starts = header.chain(sections).chain(rest);
    cut(bytes, starts.filter(|&at| at < bytes.len()).collect())
}

/// The right length and checksums, without which nothing else is looked at.
fn index_sums(bytes: &mut [u8]) {
    if bytes.len() < PAGE {
        return;
    }
    let length = bytes.len() as u64;
    bytes[16..24].copy_from_slice(&length.to_le_bytes());
    for section in 0..7 {
        let at = SECTIONS + section * SECTION;
        let word = |at: usize| {
            let field = bytes[at..at + 8].try_into().expect("eight bytes");
            usize::try_from(u64::from_le_bytes(field)).unwrap_or(usize::MAX)
        };
        let (start, length) = (word(at), word(at + 8));
        let crc = start
            .checked_add(length)
            .and_then(|end| bytes.get(start..end))
            .map_or(0, crc32c::crc32c);
        bytes[at + 16..at + 20].copy_from_slice(&crc.to_le_bytes());
    }
    bytes[12..16].fill(0);
    let crc = crc32c::crc32c(&bytes[..PAGE]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

pub(crate) fn index() -> Target {
    let set = Set::new(Dataset::Yfcc15m, "list.pkl");
    fs::write(&set.data.metadata, yfcc_list()).expect("a list");
    let archives = set.data.root.join("images/00");
    fs::create_dir_all(&archives).expect("a folder");
    fs::write(archives.join("000.zip"), yfcc_zip()).expect("an archive");
    let lines = set.folder.path().join("list.tsv");
    fs::write(&lines, "a.jpg\ta cat\tone more\nb.jpg\ta dog\n").expect("a list");
    let part = |dataset, list: &Path| Part {
        dataset,
        root: set.data.root.clone(),
        list: list.to_owned(),
    };
    let archived = part(Dataset::Yfcc15m, &set.data.metadata);
    let loose = part(Dataset::Filelist, &lines);
    let seeds = [
        vec![archived.clone()],
        vec![loose.clone()],
        vec![loose, archived.clone()],
    ];
    let seeds = seeds.iter().map(|parts| {
        let path = set.folder.path().join("an.index");
        write_index(parts, &path, Building::new(&path)).expect("an index");
        fs::read(&path).expect("an index")
    });
    Target {
        name: "index",
        grammar: Grammar {
            words: &[
                b"RKTIDX\xff\n",
                b"\xff\xff\xff\xff\x0f",
                b"\x80\x80\x80\x80\x80",
                br#""first":18446744073709551615"#,
                br#""places":99999999"#,
                br#","parts":[]"#,
            ],
            split: index_sections,
            mend: index_sums,
        },
        seeds: seeds.collect(),
        read: Box::new(move |bytes| {
            let index = match Index::from_bytes(bytes.to_vec()) {
                Ok(index) => index,
                Err(error) => return error.to_string(),
            };
            let whole = index.verify(|_| {}).is_ok();
            let parts = vec![archived.clone(); 3];
            let file = set.folder.path().to_owned();
            let source = Indexed::new(index, &parts, Duration::from_secs(60), file);
            let mut said = format!("whole: {whole} ");
            let far = [source.len(), usize::MAX / 8, usize::MAX];
            for sample in (0..source.len().min(200)).chain(far) {
                source.captions(sample);
                source.name(sample);
                let word = source.place(sample).err();
                if said.len() < 400 {
                    said.push_str(&word.map_or_else(String::new, |error| error.to_string()));
                }
            }
            said
        }),
        memory: |length| 100 * length as u64 + (1 << 20),
    }
}
