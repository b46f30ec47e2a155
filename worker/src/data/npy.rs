//! numpy's npy files (numpy's `format.py`, versions 1 to 3): pickled arrays of objects, and columns
//! of text or whole numbers.

use super::pickle::{Pickle, PickleError, Value};

/// Why a file is no npy file of objects. The caller names the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NpyError {
    /// The first bytes are wrong.
    #[error(
        "is not an npy file: it begins with {found}, not with the bytes of numpy's format; write it with numpy.save"
    )]
    Magic {
        /// The first bytes.
        found: String,
    },
    /// A version that is not read.
    #[error("is an npy file of version {0}, which is not read (1, 2 and 3 are)")]
    Version(u8),
    /// It ends inside of the header.
    #[error("is not a whole npy file: it ends after {0} bytes, inside of the header")]
    Truncated(usize),
    /// The header is no dict as numpy writes it.
    #[error("is not an npy file of objects: its header is {0}")]
    Header(String),
    /// An array of numbers where dicts are wanted.
    #[error("holds an array of dtype '{0}'; an array of objects (dicts) is needed")]
    Dtype(String),
    /// An array of something else where whole numbers are wanted.
    #[error("holds an array of dtype '{0}'; an array of whole numbers is needed")]
    NoNumbers(String),
    /// It ends inside of the data.
    #[error("is not a whole npy file: it has {0} bytes of data, and should have {1}")]
    Short(usize, usize),
    /// An array of another shape than one axis.
    #[error("holds no list of values: its header is {0}; an array of one axis is needed")]
    NotAColumn(String),
    /// Values that are neither text nor whole numbers.
    #[error("holds an array of dtype '{0}'; text or whole numbers, little-endian, are needed")]
    ColumnType(String),
    /// The pickle inside.
    #[error("holds no data that can be read: {0}")]
    Pickle(#[from] PickleError),
}

/// An array of one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// Text of any length.
    Texts(Vec<String>),
    /// Whole numbers.
    Integers(Vec<i64>),
}

/// The pickle inside of an npy file with dtype object.
///
/// # Errors
/// [`NpyError`].
pub fn object_pickle(file: &[u8]) -> Result<&[u8], NpyError> {
    let (header, data) = split(file)?;
    let dtype = descr(&header).ok_or_else(|| NpyError::Header(shorten(&header)))?;
    if !is_object(dtype) {
        return Err(NpyError::Dtype(dtype.to_owned()));
    }
    Ok(data)
}

/// The whole numbers of an npy file of integers, in the order in which they lie there.
///
/// # Errors
/// [`NpyError`], also if there are fewer than the shape says.
pub fn whole_numbers(file: &[u8]) -> Result<impl Iterator<Item = i64>, NpyError> {
    let (header, data) = split(file)?;
    let wrong = || NpyError::Header(shorten(&header));
    let dtype = descr(&header).ok_or_else(wrong)?;
    let (width, signed) = match dtype {
        "<i8" | "<u8" => (8, false),
        "<i4" => (4, true),
        "<u4" => (4, false),
        other => return Err(NpyError::NoNumbers(other.to_owned())),
    };
    let count = count(&header).ok_or_else(wrong)?;
    let length = count.checked_mul(width).ok_or_else(wrong)?;
    let data = data
        .get(..length)
        .ok_or(NpyError::Short(data.len(), length))?;
    Ok(data.chunks_exact(width).map(move |bytes| {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(bytes);
        match (width, signed) {
            (4, true) => i64::from(i64::from_le_bytes(wide) as i32),
            _ => i64::from_le_bytes(wide),
        }
    }))
}

/// The product of the sides in `'shape': (3, 2)`.
fn count(header: &str) -> Option<usize> {
    let rest = header.split_once("'shape'")?.1.split_once('(')?.1;
    let sides = rest.split_once(')')?.0;
    sides
        .split(',')
        .map(str::trim)
        .filter(|side| !side.is_empty())
        .try_fold(1usize, |all, side| all.checked_mul(side.parse().ok()?))
}

/// A column of text or whole numbers, written as numbers (`<i8`), as text of fixed length (`<U40`,
/// `|S40`) or as objects.
///
/// # Errors
/// [`NpyError`].
pub fn column(file: &[u8]) -> Result<Column, NpyError> {
    let (header, data) = split(file)?;
    let dtype = descr(&header).ok_or_else(|| NpyError::Header(shorten(&header)))?;
    if is_object(dtype) {
        return column_of_objects(data);
    }
    let rows = rows(&header).ok_or_else(|| NpyError::NotAColumn(shorten(&header)))?;
    let unread = || NpyError::ColumnType(dtype.to_owned());
    let (kind, size) = match dtype.strip_prefix(['<', '|', '=']) {
        Some(rest) if rest.is_char_boundary(1) && !rest.is_empty() => rest.split_at(1),
        _ => return Err(unread()),
    };
    let count: usize = size.parse().map_err(|_| unread())?;
    let width = match kind {
        "U" => count.checked_mul(4).ok_or_else(unread)?,
        "S" => count,
        "i" | "u" if [1, 2, 4, 8].contains(&count) => count,
        _ => return Err(unread()),
    };
    if width == 0 {
        return Err(unread());
    }
    let whole = rows.checked_mul(width).ok_or_else(unread)?;
    let data = data
        .get(..whole)
        .ok_or(NpyError::Short(data.len(), whole))?;
    let values = data.chunks_exact(width);
    Ok(match kind {
        "U" => Column::Texts(values.map(fixed_text).collect()),
        "S" => Column::Texts(
            values
                .map(|bytes| {
                    let end = bytes.iter().rposition(|&b| b != 0).map_or(0, |at| at + 1);
                    String::from_utf8_lossy(&bytes[..end]).into_owned()
                })
                .collect(),
        ),
        kind => Column::Integers(values.map(|bytes| integer(bytes, kind == "i")).collect()),
    })
}

fn column_of_objects(pickled: &[u8]) -> Result<Column, NpyError> {
    let pickle = Pickle::read(pickled)?;
    let items = pickle
        .items(pickle.root())
        .ok_or_else(|| NpyError::NotAColumn("an array of more than one axis".to_owned()))?;
    // A file may recall one long text for many values; labels are short, and paths differ.
    let long = items.iter().filter_map(|&item| pickle.text(item));
    if long.map(str::len).sum::<usize>() > pickled.len().saturating_mul(100) {
        return Err(NpyError::Pickle(PickleError::Broken {
            what: "it repeats itself too often",
            at: 0,
        }));
    }
    let texts: Option<Vec<String>> = items
        .iter()
        .map(|&item| pickle.text(item).map(str::to_owned))
        .collect();
    let numbers = || {
        items
            .iter()
            .map(|&item| match pickle.value(item) {
                Value::Int(number) => Some(*number),
                _ => None,
            })
            .collect::<Option<Vec<i64>>>()
    };
    texts
        .map(Column::Texts)
        .or_else(|| numbers().map(Column::Integers))
        .ok_or_else(|| {
            NpyError::ColumnType("O (objects that are neither all text nor all numbers)".to_owned())
        })
}

/// Characters of four bytes each, filled up with zeros (numpy's `U`).
pub(super) fn fixed_text(bytes: &[u8]) -> String {
    let text: String = bytes
        .chunks_exact(4)
        .map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]))
        .map(|code| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    text.trim_end_matches('\0').to_owned()
}

/// A little-endian number of up to 8 bytes.
fn integer(bytes: &[u8], signed: bool) -> i64 {
    let negative = signed && bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut wide = if negative { [0xFF; 8] } else { [0; 8] };
    wide[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(wide)
}

fn is_object(dtype: &str) -> bool {
    dtype == "|O" || dtype == "O"
}

/// Header and data of an npy file.
fn split(file: &[u8]) -> Result<(String, &[u8]), NpyError> {
    const MAGIC: &[u8] = b"\x93NUMPY";
    if !file.starts_with(MAGIC) {
        if !file.is_empty() && MAGIC.starts_with(file) {
            return Err(NpyError::Truncated(file.len()));
        }
        return Err(NpyError::Magic {
            found: first_bytes(file),
        });
    }
    let truncated = || NpyError::Truncated(file.len());
    let &[major, _, ..] = file.get(6..).unwrap_or_default() else {
        return Err(truncated());
    };
    let (start, length) = match major {
        1 => {
            let field = file.get(8..10).ok_or_else(truncated)?;
            (10, usize::from(u16::from_le_bytes([field[0], field[1]])))
        }
        2 | 3 => {
            let field = file.get(8..12).ok_or_else(truncated)?;
            let length = u32::from_le_bytes([field[0], field[1], field[2], field[3]]);
            (12, length as usize)
        }
        other => return Err(NpyError::Version(other)),
    };
    let header = file.get(start..start + length).ok_or_else(truncated)?;
    let header = String::from_utf8_lossy(header).into_owned();
    Ok((header, &file[start + length..]))
}

/// Length of the only axis: `'shape': (3,)`.
fn rows(header: &str) -> Option<usize> {
    let rest = header.split_once("'shape'")?.1.trim_start();
    let rest = rest.strip_prefix(':')?.trim_start().strip_prefix('(')?;
    let (inside, _) = rest.split_once(')')?;
    inside.trim().strip_suffix(',')?.trim().parse().ok()
}

/// The value of `descr` in a header such as `{'descr': '|O', 'fortran_order': False, 'shape': (3,), }`.
fn descr(header: &str) -> Option<&str> {
    let rest = header.split_once("'descr'")?.1.trim_start();
    let rest = rest.strip_prefix(':')?.trim_start();
    if let Some(rest) = rest.strip_prefix('\'') {
        return rest.split_once('\'').map(|(dtype, _)| dtype);
    }
    // A list of fields: a structured array.
    rest.starts_with('[')
        .then(|| rest.split_once(']').map(|(fields, _)| fields))?
}

fn shorten(text: &str) -> String {
    let start: String = text.trim().chars().take(60).collect();
    format!("'{}'", start.escape_debug())
}

fn first_bytes(file: &[u8]) -> String {
    if file.is_empty() {
        return "nothing (the file is empty)".to_owned();
    }
    let start = &file[..file.len().min(8)];
    let text = String::from_utf8_lossy(start);
    format!("'{}'", text.escape_debug())
}
