//! Pictures.

use std::ops::Range;

use rocket_worker::image::{decode, ends_early};

use super::{begins, cut, files, nothing};
use crate::Target;
use crate::mutate::Grammar;

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
    let marks = bytes.windows(2).enumerate().skip(1);
    let marks = marks.filter(|(_, pair)| pair[0] == 0xFF && pair[1] >= 0xC0);
    cut(bytes, marks.map(|(at, _)| at).collect())
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
        seeds: files![
            "../golden/images/images/src/cmyk.jpg",
            "../golden/images/images/src/exif_rot6.jpg",
            "../golden/images/images/src/gray.jpg",
            "../golden/images/images/src/rgb420.jpg",
            "../golden/images/images/src/truncated.jpg",
            "seeds/progressive.jpg",
        ],
        read: Box::new(pictures),
        memory: picture_memory,
    }
}

/// Chunks of a PNG, after its first 8 bytes.
fn chunks(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut starts = Vec::new();
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4) {
        starts.push(at);
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        // Length, name and checksum come on top of the data.
        at += length + 12;
    }
    cut(bytes, starts)
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
        seeds: files![
            "../golden/images/images/src/gray1bit.png",
            "../golden/images/images/src/palette.png",
            "../golden/images/images/src/rgba.png",
            "../golden/images/images/src/tiny.png",
            "../golden/images/images/src/rgb16.png",
        ],
        read: Box::new(pictures),
        memory: picture_memory,
    }
}

/// Blocks of a GIF, about: cut at what begins one.
fn blocks(bytes: &[u8]) -> Vec<Range<usize>> {
    let starts = (1..bytes.len()).filter(|&at| matches!(bytes[at], 0x21 | 0x2C | 0x3B | 0));
    cut(bytes, starts.collect())
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
        seeds: files!["../golden/images/images/src/img.gif"],
        read: Box::new(pictures),
        memory: picture_memory,
    }
}

/// Chunks of a WebP, about: cut at what is called like one.
fn webp_chunks(bytes: &[u8]) -> Vec<Range<usize>> {
    let names: [&[u8]; 7] = [
        b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF",
    ];
    cut(bytes, begins(bytes, &names))
}

pub(crate) fn webp() -> Target {
    Target {
        name: "webp",
        grammar: Grammar {
            words: &[
                b"RIFF\xff\xff\xff\xffWEBP",
                b"VP8 ",
                b"VP8L",
                b"VP8X\x0a\0\0\0\x10\0\0\0\x5f\xea\0\x5f\xea\0",
                b"ALPH",
                b"ANIM",
                b"ANMF",
                b"\x9d\x01\x2a\xff\x3f\xff\x3f",
                b"\x2f\xff\xff\xff\x0f",
            ],
            split: webp_chunks,
            mend: riff,
        },
        seeds: files![
            "seeds/lossy.webp",
            "seeds/lossless.webp",
            "seeds/alpha.webp",
            "seeds/moving.webp",
        ],
        read: Box::new(pictures),
        memory: picture_memory,
    }
}

/// The right length in the header.
fn riff(bytes: &mut [u8]) {
    let length = (bytes.len() as u32).saturating_sub(8);
    if let Some(field) = bytes.get_mut(4..8) {
        field.copy_from_slice(&length.to_le_bytes());
    }
}

/// File header, picture header, palette and rows, about.
fn bmp_parts(bytes: &[u8]) -> Vec<Range<usize>> {
    let parts = [14, 54, 118].into_iter();
    cut(bytes, parts.filter(|&at| at < bytes.len()).collect())
}

pub(crate) fn bmp() -> Target {
    Target {
        name: "bmp",
        grammar: Grammar {
            words: &[
                b"BM",
                b"\x28\0\0\0\x60\xea\0\0\x60\xea\0\0\x01\0\x18\0",
                b"\x28\0\0\0\x10\0\0\0\xf0\xff\xff\xff\x01\0\x08\0\x01\0\0\0",
                b"\x28\0\0\0\x10\0\0\0\x10\0\0\0\x01\0\x04\0\x02\0\0\0",
                b"\x01\0\x10\0\x03\0\0\0",
                b"\x01\0\x20\0\x06\0\0\0",
                b"\0\0",
                b"\0\x01",
                b"\0\x02\xff\xff",
            ],
            split: bmp_parts,
            mend: nothing,
        },
        seeds: files![
            "seeds/color.bmp",
            "seeds/palette.bmp",
            "seeds/two.bmp",
            "seeds/alpha.bmp",
        ],
        read: Box::new(pictures),
        memory: picture_memory,
    }
}
