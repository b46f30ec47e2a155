//! Members of a tar archive (POSIX ustar and pax, and GNU's long names), by reading their headers alone.

use std::fs::File;
use std::os::unix::fs::FileExt;

const BLOCK: u64 = 512;
/// The longest name or pax header that is read.
const MOST_HEADER: u64 = 1 << 20;

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Its name.
    pub(super) name: String,
    /// Where its bytes begin.
    pub(super) offset: u64,
    /// How many there are.
    pub(super) size: u64,
}

/// Hands every regular file of an archive of `length` bytes to `each`, in order.
///
/// # Errors
/// What is wrong with the archive, in words that follow its name, or what `each` says.
pub(super) fn members(
    file: &File,
    length: u64,
    mut each: impl FnMut(Member) -> Result<(), String>,
) -> Result<(), String> {
    let mut at = 0;
    let mut count = 0u64;
    let mut long_name: Option<String> = None;
    let mut long_size: Option<u64> = None;
    loop {
        let mut block = [0; BLOCK as usize];
        if at + BLOCK > length {
            return Err(format!(
                "is not a whole tar archive: it ends after {count} files without an end; fetch it again, or leave it out"
            ));
        }
        file.read_exact_at(&mut block, at)
            .map_err(|error| format!("cannot be read: {error}"))?;
        if block.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        if !checksum_is_right(&block) {
            return Err(if count == 0 {
                "is not a tar archive (shards that are compressed as a whole are not read: their images have no places)".to_owned()
            } else {
                format!(
                    "is a broken tar archive: the header after {count} files has a wrong checksum"
                )
            });
        }
        let size = long_size.take().or_else(|| number(&block[124..136]));
        let size = size.ok_or_else(|| {
            format!("is a broken tar archive: the size of file {count} is no number")
        })?;
        let data = at + BLOCK;
        let end = size
            .checked_next_multiple_of(BLOCK)
            .and_then(|size| data.checked_add(size));
        let name = long_name.take();
        match end {
            Some(end) if data + size <= length => at = end,
            _ => {
                let name = name.unwrap_or_else(|| name_of(&block));
                return Err(format!(
                    "is not a whole tar archive: it ends within '{}'; fetch it again, or leave it out",
                    name.escape_debug()
                ));
            }
        }
        match block[156] {
            kind @ (b'L' | b'x') => {
                if size > MOST_HEADER {
                    return Err(format!(
                        "is a broken tar archive: a header after {count} files has {size} bytes"
                    ));
                }
                let mut bytes = vec![0; size as usize];
                file.read_exact_at(&mut bytes, data)
                    .map_err(|error| format!("cannot be read: {error}"))?;
                if kind == b'L' {
                    long_name = Some(text(&bytes));
                } else {
                    let (path, size) = pax(&bytes);
                    long_name = path;
                    long_size = size;
                }
            }
            b'0' | 0 => {
                count += 1;
                each(Member {
                    name: name.unwrap_or_else(|| name_of(&block)),
                    offset: data,
                    size,
                })?;
            }
            // Folders, links, and what concerns the archive as a whole.
            _ => {}
        }
    }
}

fn checksum_is_right(block: &[u8]) -> bool {
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, &byte)| {
            if (148..156).contains(&at) {
                32
            } else {
                byte.into()
            }
        })
        .sum();
    number(&block[148..156]) == Some(sum)
}

/// A number in octal, or in binary where the first bit is set (GNU).
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        return field
            .iter()
            .enumerate()
            .try_fold(0u64, |number, (at, &byte)| {
                let byte = if at == 0 { byte & 0x7F } else { byte };
                number.checked_mul(256)?.checked_add(byte.into())
            });
    }
    let digits = text(field);
    let digits = digits.trim();
    if digits.is_empty() {
        return Some(0);
    }
    u64::from_str_radix(digits, 8).ok()
}

fn name_of(block: &[u8]) -> String {
    let name = text(&block[..100]);
    let prefix = text(&block[345..500]);
    // GNU's own format has other things there.
    if &block[257..263] == b"ustar\0" && !prefix.is_empty() {
        return format!("{prefix}/{name}");
    }
    name
}

/// Text up to the first NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

/// Path and size out of pax records: `<length> <key>=<value>\n`.
fn pax(mut bytes: &[u8]) -> (Option<String>, Option<u64>) {
    let (mut path, mut size) = (None, None);
    while let Some(space) = bytes.iter().position(|&byte| byte == b' ') {
        let length = std::str::from_utf8(&bytes[..space]).ok();
        let length: Option<usize> = length.and_then(|length| length.parse().ok());
        let Some((record, rest)) = length
            .filter(|&length| length > space)
            .and_then(|length| bytes.split_at_checked(length))
        else {
            break;
        };
        let record = record[space + 1..].strip_suffix(b"\n").unwrap_or_default();
        if let Some(value) = record.strip_prefix(b"path=") {
            path = Some(text(value));
        } else if let Some(value) = record.strip_prefix(b"size=") {
            size = text(value).parse().ok();
        }
        bytes = rest;
    }
    (path, size)
}
