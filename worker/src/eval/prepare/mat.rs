//! MATLAB's MAT-files of level 5 (MathWorks, "MAT-File Format"): numbers, text, cells and structs,
//! compressed or not, as far as label files have them. Every length is held against what is there.

use std::io::Read;

use flate2::read::ZlibDecoder;

/// Most bytes of all variables, unpacked; the largest label file has some 10 MB.
const LIMIT: u64 = 64 << 20;
/// Deepest nesting of cells and structs.
const DEPTH: usize = 16;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mat {
    /// Numbers of any type, in MATLAB's order (columns first).
    Numbers(Vec<f64>),
    /// A row of characters.
    Text(String),
    /// A cell array.
    Cells(Vec<Mat>),
    /// An array of structs: names of the fields, and the values of each struct.
    Structs {
        /// Names of the fields.
        fields: Vec<String>,
        /// Per struct, a value per field.
        items: Vec<Vec<Mat>>,
    },
    /// What is not read (objects, sparse arrays).
    Other,
}

impl Mat {
    /// The numbers, if these are numbers.
    pub(super) fn numbers(&self) -> Option<&[f64]> {
        match self {
            Self::Numbers(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// A single number.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Numbers(numbers) => numbers.first().copied(),
            _ => None,
        }
    }

    /// The text, if this is text.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Per struct of an array, the value of a field.
    pub(super) fn field(&self, name: &str) -> Option<Vec<&Mat>> {
        let Self::Structs { fields, items } = self else {
            return None;
        };
        let at = fields.iter().position(|field| field == name)?;
        items.iter().map(|item| item.get(at)).collect()
    }
}

/// The variables of a file by name.
///
/// # Errors
/// A sentence: it is no MAT-file of level 5, or is cut off.
pub(super) fn read(file: &[u8]) -> Result<Vec<(String, Mat)>, String> {
    let Some((header, body)) = file.split_at_checked(128) else {
        return Err("is no MAT-file of level 5: it is shorter than its header".to_owned());
    };
    if &header[126..] != b"IM" {
        let hint = if file.starts_with(b"\x89HDF") || header.windows(3).any(|w| w == b"7.3") {
            "; it is of version 7.3: save it in MATLAB with '-v7'"
        } else {
            ""
        };
        return Err(format!("is no little-endian MAT-file of level 5{hint}"));
    }
    let mut variables = Vec::new();
    let mut left = LIMIT;
    let mut rest = body;
    while !rest.is_empty() {
        let (kind, data, after) = element(rest, true)?;
        match kind {
            15 => {
                let mut unpacked = Vec::new();
                ZlibDecoder::new(data)
                    .take(left)
                    .read_to_end(&mut unpacked)
                    .map_err(|error| {
                        format!("holds a variable that cannot be unpacked: {error}")
                    })?;
                left -= unpacked.len() as u64;
                let (kind, data, _) = element(&unpacked, true)?;
                if kind == 14 {
                    variables.push(matrix(data, 0)?);
                }
            }
            14 => variables.push(matrix(data, 0)?),
            _ => {}
        }
        rest = after;
    }
    Ok(variables)
}

fn cut() -> String {
    "is cut off: an element is longer than what is left of it".to_owned()
}

/// Type, data and what follows an element. `padded`: small elements and those of a matrix end at a
/// multiple of 8 bytes; compressed ones do not.
fn element(bytes: &[u8], padded: bool) -> Result<(u32, &[u8], &[u8]), String> {
    let word = |at: usize| {
        bytes
            .get(at..at + 4)
            .map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]))
            .ok_or_else(cut)
    };
    let tag = word(0)?;
    // The small form: type and length share a word, the data lies in the next.
    if tag >> 16 != 0 {
        let length = (tag >> 16) as usize;
        let data = bytes
            .get(4..4 + length)
            .filter(|_| length <= 4)
            .ok_or_else(cut)?;
        return Ok((tag & 0xFFFF, data, bytes.get(8..).ok_or_else(cut)?));
    }
    let length = word(4)? as usize;
    let end = 8_usize.checked_add(length).ok_or_else(cut)?;
    let data = bytes.get(8..end).ok_or_else(cut)?;
    let next = if padded && tag != 15 {
        end.next_multiple_of(8)
    } else {
        end
    };
    // Writers may leave out the padding of the last element.
    Ok((tag, data, bytes.get(next..).unwrap_or_default()))
}

/// Name and value of a matrix.
fn matrix(bytes: &[u8], depth: usize) -> Result<(String, Mat), String> {
    if depth > DEPTH {
        return Err(format!("nests cells deeper than {DEPTH}"));
    }
    // An empty cell is a matrix without anything.
    if bytes.is_empty() {
        return Ok((String::new(), Mat::Numbers(Vec::new())));
    }
    let (_, flags, rest) = element(bytes, true)?;
    let class = *flags.first().ok_or_else(cut)?;
    let (_, dims, rest) = element(rest, true)?;
    let count = dims
        .chunks_exact(4)
        .map(|d| u32::from_le_bytes([d[0], d[1], d[2], d[3]]) as usize)
        .try_fold(1_usize, |all, side| all.checked_mul(side))
        .ok_or_else(cut)?;
    let (_, name, mut rest) = element(rest, true)?;
    let name = String::from_utf8_lossy(name).into_owned();
    // Each value below takes at least one byte of what is left.
    if count > rest.len() && matches!(class, 1 | 2) {
        return Err(cut());
    }
    let value = match class {
        1 => {
            let mut cells = Vec::new();
            for _ in 0..count {
                let (_, data, after) = element(rest, true)?;
                cells.push(matrix(data, depth + 1)?.1);
                rest = after;
            }
            Mat::Cells(cells)
        }
        2 => {
            let (_, length, after) = element(rest, true)?;
            let length = length
                .get(..4)
                .map(|l| u32::from_le_bytes([l[0], l[1], l[2], l[3]]) as usize)
                .filter(|&length| length > 0)
                .ok_or_else(cut)?;
            let (_, names, after) = element(after, true)?;
            let fields: Vec<String> = names
                .chunks_exact(length)
                .map(|name| {
                    let end = name.iter().position(|&b| b == 0).unwrap_or(length);
                    String::from_utf8_lossy(&name[..end]).into_owned()
                })
                .collect();
            rest = after;
            // Structs without fields take no bytes, however many there are said to be.
            let count = if fields.is_empty() { 0 } else { count };
            let mut items = Vec::new();
            for _ in 0..count {
                let mut item = Vec::new();
                for _ in &fields {
                    let (_, data, after) = element(rest, true)?;
                    item.push(matrix(data, depth + 1)?.1);
                    rest = after;
                }
                items.push(item);
            }
            Mat::Structs { fields, items }
        }
        4 => {
            let (kind, data, _) = element(rest, true)?;
            Mat::Text(match kind {
                // Characters of two bytes; the others are of one, or UTF-8.
                4 | 17 => char::decode_utf16(
                    data.chunks_exact(2)
                        .map(|c| u16::from_le_bytes([c[0], c[1]])),
                )
                .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
                _ => String::from_utf8_lossy(data).into_owned(),
            })
        }
        6..=15 => {
            let (kind, data, _) = element(rest, true)?;
            Mat::Numbers(
                numbers(kind, data)
                    .ok_or_else(|| format!("holds numbers of a type that is not known ({kind})"))?,
            )
        }
        _ => Mat::Other,
    };
    Ok((name, value))
}

/// Numbers of one of MATLAB's storage types.
fn numbers(kind: u32, data: &[u8]) -> Option<Vec<f64>> {
    fn of<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>()
            .0
            .iter()
            .map(|&bytes| value(bytes))
            .collect()
    }
    Some(match kind {
        1 => of(data, |b| f64::from(i8::from_le_bytes(b))),
        2 => of(data, |b| f64::from(u8::from_le_bytes(b))),
        3 => of(data, |b| f64::from(i16::from_le_bytes(b))),
        4 => of(data, |b| f64::from(u16::from_le_bytes(b))),
        5 => of(data, |b| f64::from(i32::from_le_bytes(b))),
        6 => of(data, |b| f64::from(u32::from_le_bytes(b))),
        7 => of(data, |b| f64::from(f32::from_le_bytes(b))),
        9 => of(data, f64::from_le_bytes),
        12 => of(data, |b| i64::from_le_bytes(b) as f64),
        13 => of(data, |b| u64::from_le_bytes(b) as f64),
        _ => return None,
    })
}
