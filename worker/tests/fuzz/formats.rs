//! What is fuzzed: the readers, good files to begin with, and the pieces of which the formats consist.

use std::io::{Cursor, Write};
use std::ops::Range;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use rocket_worker::data::fetch::{List, Pairs, unpack_tar_gz};
use rocket_worker::data::npy::object_pickle;
use rocket_worker::data::npy_write::{DictsWriter, Field};
use rocket_worker::data::pickle::{Dialect, Pickle, Value};
use rocket_worker::image::{decode, ends_early};

use super::Target;
use super::mutate::Grammar;

macro_rules! golden {
    ($($name:literal),* $(,)?) => {
        vec![$(include_bytes!(concat!("../golden/", $name)).to_vec()),*]
    };
}

/// All of them.
pub(crate) fn all() -> Vec<Target> {
    vec![
        npy(),
        pickle(),
        torch_pickle(),
        jpeg(),
        png(),
        gif(),
        tsv(),
        tar_gz(),
    ]
}

fn nothing(_: &mut [u8]) {}

const OPCODES: &[&[u8]] = &[
    b"\x80\x04",
    b"\x95\0\0\0\0\0\0\0\x10",
    b"(",
    b")",
    b"]",
    b"}",
    b"t",
    b"\x85",
    b"\x86",
    b"\x87",
    b"a",
    b"e",
    b"s",
    b"u",
    b"d",
    b"l",
    b"0",
    b"1",
    b"2",
    b"N",
    b"\x88",
    b"K\x01",
    b"J\xff\xff\xff\x7f",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"G\0\0\0\0\0\0\0\0",
    b"\x8c\x01x",
    b"X\x01\0\0\0x",
    b"X\xff\xff\xff\xff",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
    b"C\x01x",
    b"\x94",
    b"q\x00",
    b"h\x00",
    b"r\xff\xff\xff\xff",
    b"j\xff\xff\xff\xff",
    b"R",
    b"\x81",
    b"b",
    b"Q",
    b"\x93",
    b".",
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"cnumpy.core.multiarray\nscalar\n",
    b"cnumpy\nndarray\n",
    b"cnumpy\ndtype\n",
    b"c_codecs\nencode\n",
    b"cposix\nsystem\n",
    b"ccollections\nOrderedDict\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n",
    b"cargparse\nNamespace\n",
];

/// Pieces of a pickle, about an opcode each: nobody needs to know all arguments to cut at likely places.
fn opcodes(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut starts = vec![0];
    let opcodes =
        b"()]}tasuedl012NKJMGXCBcqhrjRbQ.\x80\x85\x86\x87\x88\x89\x8a\x8c\x8e\x93\x94\x95\x81";
    starts.extend((1..bytes.len()).filter(|&at| opcodes.contains(&bytes[at])));
    starts.push(bytes.len());
    starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// Reads all that can be read of a pickle.
fn walk(pickle: &Pickle<'_>) -> String {
    let root = pickle.root();
    let mut said = String::new();
    let mut todo = vec![root];
    let mut seen = 0;
    while let Some(node) = todo.pop() {
        seen += 1;
        if seen > 500 {
            break;
        }
        let kind = match pickle.value(node) {
            Value::Text(_) | Value::OwnedText(_) => "text",
            Value::Sequence(_) => "list",
            Value::Dict(_) => "dict",
            Value::Array { .. } => "array",
            Value::Int(_) => "int",
            _ => "other",
        };
        if said.len() < 60 {
            said.push_str(kind);
        }
        pickle.text(node);
        pickle.get(node, "captions");
        todo.extend(pickle.items(node).unwrap_or_default());
        let pairs = pickle.pairs(node).unwrap_or_default();
        todo.extend(pairs.iter().flat_map(|&(key, value)| [key, value]));
    }
    said
}

pub(crate) fn npy() -> Target {
    let mut seeds = golden![
        "cc/cc3m_protocol2.npy",
        "cc/cc3m_protocol3.npy",
        "cc/cc3m_protocol4.npy",
        "cc/cc3m_protocol5.npy",
        "cc/cc12m.npy",
        "cc/numbers.npy",
        "cc/dangerous.npy",
    ];
    let mut own = DictsWriter::new(Vec::new(), 3, &["image_id", "captions"]).expect("memory");
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        own.add(&[Field::Text(name), Field::Texts(&["one", "two"])])
            .expect("memory");
    }
    seeds.push(own.finish().expect("memory"));
    Target {
        name: "npy",
        grammar: Grammar {
            words: &[
                b"\x93NUMPY\x01\x00",
                b"\x93NUMPY\x02\x00",
                b"\x93NUMPY\x03\x00",
                b"'descr': '|O'",
                b"'descr': '<i8'",
                b"'descr': [('a', '<i8')]",
                b"'fortran_order': True",
                b"'shape': (99999999999,)",
                b"'shape': ()",
                b"\xff\xff\xff\xff",
            ],
            split: opcodes,
            mend: nothing,
        },
        seeds,
        read: |bytes| match object_pickle(bytes) {
            Err(error) => error.to_string(),
            Ok(pickle) => match Pickle::read(pickle) {
                Ok(pickle) => walk(&pickle),
                Err(error) => error.to_string(),
            },
        },
        memory: |length| 200 * length as u64 + (1 << 16),
    }
}

fn pickles(dialect: Dialect, bytes: &[u8]) -> String {
    match Pickle::read_as(bytes, dialect) {
        Ok(pickle) => walk(&pickle),
        Err(error) => error.to_string(),
    }
}

pub(crate) fn pickle() -> Target {
    Target {
        name: "pickle",
        grammar: Grammar {
            words: OPCODES,
            split: opcodes,
            mend: nothing,
        },
        seeds: npy()
            .seeds
            .iter()
            .filter_map(|file| object_pickle(file).ok().map(<[u8]>::to_vec))
            .collect(),
        read: |bytes| pickles(Dialect::Numpy, bytes),
        memory: |length| 200 * length as u64 + (1 << 16),
    }
}

pub(crate) fn torch_pickle() -> Target {
    let mut target = pickle();
    target.name = "torch_pickle";
    // {'a': tensor} and a Namespace, as torch.save has them.
    target.seeds.push(
        b"\x80\x02}q\x00X\x01\0\0\0aq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\0\0\0storageq\x03ctorch\nFloatStorage\nq\x04X\x01\0\0\x000q\x05X\x03\0\0\0cpuq\x06K\x04tq\x07QK\0K\x02K\x02\x86q\x08K\x02K\x01\x86q\x09\x89ccollections\nOrderedDict\nq\x0a)Rq\x0btq\x0cRq\x0ds."
            .to_vec(),
    );
    target.seeds.push(
        b"\x80\x02cargparse\nNamespace\nq\x00)\x81q\x01}q\x02(X\x02\0\0\0lrq\x03G?PbM\xd2\xf1\xa9\xfcX\x01\0\0\0bq\x04K\x80ub."
            .to_vec(),
    );
    target.read = |bytes| pickles(Dialect::Torch, bytes);
    target
}

fn pictures(bytes: &[u8]) -> String {
    let early = ends_early(bytes);
    match decode(bytes) {
        Ok(picture) => {
            assert_eq!(picture.data.len(), picture.width * picture.height * 3);
            format!("a picture, {early}")
        }
        Err(error) => error.to_string(),
    }
}

/// The largest picture that is decoded has 2^29 / 3 pixels; with 8 bytes a pixel before and 3 after.
fn picture_memory(_: usize) -> u64 {
    (1 << 29) / 3 * 12 + (64 << 20)
}

/// Segments of a JPEG, by their markers.
fn segments(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut starts = vec![0];
    let marks = bytes.windows(2).enumerate().skip(1);
    starts.extend(
        marks
            .filter(|(_, pair)| pair[0] == 0xFF && pair[1] >= 0xC0)
            .map(|(at, _)| at),
    );
    starts.push(bytes.len());
    starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

pub(crate) fn jpeg() -> Target {
    Target {
        name: "jpeg",
        grammar: Grammar {
            words: &[
                b"\xff\xd8",
                b"\xff\xd9",
                b"\xff\xda",
                b"\xff\xc0\x00\x11\x08\xea\x60\xea\x60\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01",
                b"\xff\xc0\x00\x0b\x08\x00\x10\x00\x10\x01\x01\x11\x00",
                b"\xff\xc2",
                b"\xff\xc4",
                b"\xff\xdb",
                b"\xff\xdd\x00\x04\x00\x01",
                b"\xff\xee\x00\x0eAdobe\x00d\x00\x00\x00\x00\x02",
                b"\xff\xd0",
                b"\xff\xdc\x00\x04\x00\x10",
            ],
            split: segments,
            mend: nothing,
        },
        seeds: golden![
            "images/images/src/cmyk.jpg",
            "images/images/src/exif_rot6.jpg",
            "images/images/src/gray.jpg",
            "images/images/src/rgb420.jpg",
            "images/images/src/truncated.jpg",
        ],
        read: pictures,
        memory: picture_memory,
    }
}

/// Chunks of a PNG, after its first 8 bytes.
fn chunks(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut ranges = vec![0..bytes.len().min(8)];
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let end = bytes
            .len()
            .min(at.saturating_add(length).saturating_add(12));
        ranges.push(at..end);
        at = end.max(at + 4);
    }
    ranges
}

pub(crate) fn png() -> Target {
    Target {
        name: "png",
        grammar: Grammar {
            words: &[
                b"IHDR",
                b"PLTE",
                b"IDAT",
                b"IEND",
                b"tRNS",
                b"acTL",
                b"fcTL",
                b"fdAT",
                b"iCCP",
                b"zTXt",
                b"iTXt",
                b"gAMA",
                b"sBIT",
                b"eXIf",
                b"\x00\x00\x00\x0dIHDR\x00\x00\xea\x60\x00\x00\xea\x60\x10\x06\x00\x00\x01",
            ],
            split: chunks,
            mend: nothing,
        },
        seeds: golden![
            "images/images/src/gray1bit.png",
            "images/images/src/palette.png",
            "images/images/src/rgba.png",
            "images/images/src/tiny.png",
            "images/images/src/gray1bit.png",
        ],
        read: pictures,
        memory: picture_memory,
    }
}

/// Blocks of a GIF, about: cut at what begins one.
fn blocks(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut starts = vec![0];
    starts.extend((1..bytes.len()).filter(|&at| matches!(bytes[at], 0x21 | 0x2C | 0x3B | 0)));
    starts.push(bytes.len());
    starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

pub(crate) fn gif() -> Target {
    Target {
        name: "gif",
        grammar: Grammar {
            words: &[
                b"GIF89a",
                b"GIF87a",
                b"\x21\xf9\x04\x01\x00\x00\x00\x00",
                b"\x21\xfe\x01x\x00",
                b"\x2c\x00\x00\x00\x00\xff\xff\xff\xff\x87",
                b"\x3b",
            ],
            split: blocks,
            mend: nothing,
        },
        seeds: golden!["images/images/src/img.gif"],
        read: pictures,
        memory: picture_memory,
    }
}

fn lines(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut starts = vec![0];
    let ends = bytes.iter().enumerate();
    starts.extend(
        ends.filter(|(_, byte)| matches!(byte, b'\n' | b'\t'))
            .map(|(at, _)| at + 1),
    );
    starts.push(bytes.len());
    starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

pub(crate) fn tsv() -> Target {
    Target {
        name: "tsv",
        grammar: Grammar {
            words: &[b"\t", b"\n", b"\r\n", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"http://", b"\xc3\x28"],
            split: lines,
            mend: nothing,
        },
        seeds: vec![
            b"a very typical bus station\thttp://a.example/x.jpg\nsierra looked stunning\thttps://b.example/%20y?z=1\n".to_vec(),
            b"http://a.example/x.jpg\tcaption with a\ttab\r\nhttps://b.example/\xc3\xbc\t\xc3\x9cbersicht\n\n".to_vec(),
        ],
        read: |bytes| {
            let mut said = String::new();
            for pairs in [Pairs::Cc3m, Pairs::Cc12m] {
                let reader = Box::new(Cursor::new(bytes.to_vec()));
                let mut list = List::of(Path::new("list"), pairs, reader);
                while let Some(row) = list.next_row().expect("memory can be read") {
                    let word = match row {
                        Ok(row) => {
                            assert!(!row.caption.contains('\0') && !row.url.is_empty());
                            "row".to_owned()
                        }
                        Err(why) => why,
                    };
                    if said.len() < 200 {
                        said.push_str(&word);
                    }
                }
            }
            said
        },
        // Two buffers, and a line of at most 64 KiB that is doubled while it grows.
        memory: |length| 8 * length as u64 + (1 << 20),
    }
}

/// Blocks of 512 bytes of a tar.
fn tar_blocks(bytes: &[u8]) -> Vec<Range<usize>> {
    (0..bytes.len())
        .step_by(512)
        .map(|at| at..bytes.len().min(at + 512))
        .collect()
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
        read: |bytes| {
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
        },
        memory: |length| 8 * length as u64 + (2 << 20),
    }
}
