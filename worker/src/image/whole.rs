//! Whether a file of an image is all there, told from its structure without decoding. Decoders make do
//! with what they get, as Pillow does when it is told to; who checks data wants to know.

/// What an image file's first bytes say that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// GIF.
    Gif,
    /// WebP.
    WebP,
    /// Windows bitmap.
    Bmp,
}

impl Format {
    /// The format of a file.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xFF, 0xD8, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', ..] => Some(Self::Png),
            [b'G', b'I', b'F', b'8', ..] => Some(Self::Gif),
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Some(Self::WebP),
            [b'B', b'M', ..] => Some(Self::Bmp),
            _ => None,
        }
    }

    /// Bytes that decoding a file of it takes per pixel, at most: three of the picture, and those of the decoder.
    #[must_use]
    pub(crate) fn decode_bytes_per_pixel(self) -> u64 {
        3 + match self {
            Self::Jpeg => 3,
            Self::Gif => 1,
            Self::Bmp => 4,
            // Four channels of 16 bits.
            Self::Png => 8,
            // The lossless form: its own four bytes, and four that it gives.
            Self::WebP => 8,
        }
    }

    /// Its usual name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
        }
    }
}

/// Whether a file ends before its image does. What follows an image is of no interest, and a file of
/// no known format is not judged.
#[must_use]
pub fn ends_early(bytes: &[u8]) -> bool {
    let whole = match Format::of(bytes) {
        Some(Format::Jpeg) => jpeg(bytes),
        Some(Format::Png) => png(bytes),
        Some(Format::Gif) => gif(bytes).is_ok(),
        Some(Format::WebP) => {
            let length = little_endian(bytes, 4).unwrap_or(u32::MAX);
            // The length counts what follows it, to an even number.
            bytes.len() as u64 >= u64::from(length).saturating_add(8)
        }
        // Writers disagree on what the length in the header counts.
        Some(Format::Bmp) | None => true,
    };
    !whole
}

/// Segments up to the first scan, then a marker for the end of the image (ITU T.81, B.1).
fn jpeg(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        // Anything before a marker is skipped, as decoders do.
        let Some(start) = rest.iter().position(|&byte| byte == 0xFF) else {
            return false;
        };
        rest = &rest[start..];
        let Some(fill) = rest.iter().position(|&byte| byte != 0xFF) else {
            return false;
        };
        let marker = rest[fill];
        rest = &rest[fill + 1..];
        match marker {
            0xD9 => return true,
            // Stuffed bytes, and markers that stand alone.
            0x00 | 0x01 | 0xD0..=0xD8 => {}
            _ => {
                let &[high, low, ..] = rest else {
                    return false;
                };
                let length = usize::from(u16::from_be_bytes([high, low])).max(2);
                let Some(after) = rest.get(length..) else {
                    return false;
                };
                rest = after;
            }
        }
    }
}

/// Chunks up to IEND (PNG specification, 5.3).
fn png(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(8..).unwrap_or_default();
    loop {
        let &[a, b, c, d, ref kind @ ..] = rest else {
            return false;
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if kind.starts_with(b"IEND") {
            return true;
        }
        // Length, kind, data, checksum.
        match length.checked_add(12).and_then(|length| rest.get(length..)) {
            Some(after) => rest = after,
            None => return false,
        }
    }
}

/// A GIF without a block at its end that is not all there; it is left out by Pillow too.
pub(super) fn whole_blocks(bytes: &[u8]) -> &[u8] {
    match gif(bytes) {
        Ok(()) => bytes,
        Err(part) => &bytes[..bytes.len() - part.len()],
    }
}

/// Blocks up to the end of the first image, which is the one that is used (GIF89a, appendix B); or, where
/// they end early, the part of a block that is there.
fn gif(bytes: &[u8]) -> Result<(), &[u8]> {
    let table = |flags: u8| {
        if flags & 0x80 == 0 {
            0
        } else {
            3 << ((flags & 7) + 1)
        }
    };
    let Some(&flags) = bytes.get(10) else {
        return Err(&[]);
    };
    let mut rest = bytes.get(13 + table(flags)..).unwrap_or_default();
    loop {
        let image = match rest {
            [0x21, _, ..] => {
                rest = &rest[2..];
                false
            }
            [0x2C, descriptor @ ..] if descriptor.len() > 9 => {
                // Position and size, flags, the table, the width of codes.
                rest = match descriptor.get(9 + table(descriptor[8]) + 1..) {
                    Some(after) => after,
                    None => return Err(&[]),
                };
                true
            }
            // An end without an image is the decoder's matter.
            [0x3B, ..] => return Ok(()),
            _ => return Err(&[]),
        };
        loop {
            match rest {
                [0, after @ ..] => {
                    rest = after;
                    break;
                }
                [length, after @ ..] => match after.get(usize::from(*length)..) {
                    Some(after) => rest = after,
                    None => return Err(rest),
                },
                [] => return Err(&[]),
            }
        }
        if image {
            return Ok(());
        }
    }
}

fn little_endian(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, &[u8]); 4] = [
        (
            "jpeg",
            include_bytes!("../../tests/golden/images/images/src/rgb420.jpg"),
        ),
        (
            "cmyk",
            include_bytes!("../../tests/golden/images/images/src/cmyk.jpg"),
        ),
        (
            "png",
            include_bytes!("../../tests/golden/images/images/src/palette.png"),
        ),
        (
            "gif",
            include_bytes!("../../tests/golden/images/images/src/img.gif"),
        ),
    ];

    #[test]
    fn whole_files_and_every_shorter_one() {
        for (name, bytes) in FILES {
            assert!(!ends_early(bytes), "{name}");
            let longer = [bytes, b"\0\0more"].concat();
            assert!(!ends_early(&longer), "{name} and more");
            // The last bytes are a checksum, a terminator: the image itself is all there.
            for length in (12..bytes.len() - 12).step_by(7) {
                assert!(ends_early(&bytes[..length]), "{name}, {length} bytes");
            }
        }
        let truncated = include_bytes!("../../tests/golden/images/images/src/truncated.jpg");
        assert!(ends_early(truncated));
        assert!(!ends_early(b"<html>"));
        assert!(ends_early(b"RIFF\x40\0\0\0WEBPVP8 "));
    }
}
