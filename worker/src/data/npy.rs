//! numpy's npy files that hold a pickled array of objects (numpy's `format.py`, versions 1 to 3).

use super::pickle::PickleError;

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
    /// The pickle inside.
    #[error("holds no data that can be read: {0}")]
    Pickle(#[from] PickleError),
}

/// The pickle inside of an npy file with dtype object.
///
/// # Errors
/// [`NpyError`].
pub fn object_pickle(file: &[u8]) -> Result<&[u8], NpyError> {
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
    let header = String::from_utf8_lossy(header);
    let dtype = descr(&header).ok_or_else(|| NpyError::Header(shorten(&header)))?;
    if dtype != "|O" && dtype != "O" {
        return Err(NpyError::Dtype(dtype.to_owned()));
    }
    Ok(&file[start + length..])
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
