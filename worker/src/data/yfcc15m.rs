//! YFCC15M's list of samples: those images of YFCC100M that were downloaded and are in OpenAI's subset, with
//! titles and descriptions cleaned as the reference's preparation does it (SLIP's `make_dataset.py`).

use std::borrow::Cow;
use std::io::{self, BufRead, Read, Write};
use std::sync::LazyLock;

use percent_encoding::percent_decode_str;
use regex::Regex;

/// Ids of YFCC100M, which are line numbers of its list.
pub const IDS: usize = 100_000_000;

/// Columns of YFCC100M's list.
const TITLE: usize = 8;
const DESCRIPTION: usize = 9;
/// The longest line that is read; the longest description of the list has 64 KiB.
const MOST_LINE: u64 = 16 << 20;

/// A set of ids.
#[derive(Debug, Clone)]
pub struct Ids(Vec<u64>);

impl Default for Ids {
    fn default() -> Self {
        Self(vec![0; IDS.div_ceil(64)])
    }
}

impl Ids {
    /// Adds an id; false if it is none.
    pub fn insert(&mut self, id: i64) -> bool {
        let Some(id) = usize::try_from(id).ok().filter(|&id| id < IDS) else {
            return false;
        };
        self.0[id / 64] |= 1 << (id % 64);
        true
    }

    /// Whether an id is in it.
    #[must_use]
    pub fn contains(&self, id: i64) -> bool {
        usize::try_from(id)
            .ok()
            .filter(|&id| id < IDS)
            .is_some_and(|id| self.0[id / 64] & (1 << (id % 64)) != 0)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }
}

/// What is wrong with a line, from 1.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It is no line of that list.
    #[error("line {line}: {what}")]
    Line {
        /// From 1.
        line: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Calls `each` with every line (without its end) and its number, in bounded memory.
fn lines(
    mut list: impl BufRead,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), ListError>,
) -> Result<(), ListError> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = list.by_ref().take(MOST_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        if read as u64 == MOST_LINE {
            let what = "it is too long for a line of this list";
            return Err(ListError::Line { line: number, what });
        }
        // As Python's strip(), as far as it matters between tabs.
        let text = line.trim_ascii();
        if !text.is_empty() {
            each(number, text)?;
        }
    }
    Ok(())
}

fn id_of(number: u64, field: &[u8]) -> Result<i64, ListError> {
    let id = std::str::from_utf8(field).ok();
    id.and_then(|id| id.trim().parse().ok())
        .ok_or(ListError::Line {
            line: number,
            what: "its first column is no number",
        })
}

/// The ids of OpenAI's subset (`yfcc100m_subset_data.tsv`: id, photo, hash).
///
/// # Errors
/// [`ListError`].
pub fn subset(list: impl BufRead) -> Result<Ids, ListError> {
    let mut ids = Ids::default();
    lines(list, |number, line| {
        let field = line.split(|&byte| byte == b'\t').next();
        let id = id_of(number, field.unwrap_or_default())?;
        if ids.insert(id) {
            return Ok(());
        }
        Err(ListError::Line {
            line: number,
            what: "its id is none of YFCC100M's",
        })
    })?;
    Ok(ids)
}

/// Writes the list as a pickle, as the reference reads it, and says how many samples it has. `progress` gets the
/// lines and the samples so far.
///
/// # Errors
/// [`ListError`].
pub fn make(
    dataset: impl BufRead,
    downloaded: &Ids,
    subset: &Ids,
    out: impl Write,
    mut progress: impl FnMut(u64, u64),
) -> Result<u64, ListError> {
    let mut out = PickledList::begin(out)?;
    lines(dataset, |number, line| {
        if number.is_multiple_of(1 << 14) {
            progress(number, out.count);
        }
        let mut fields = line.split(|&byte| byte == b'\t');
        let id = id_of(number, fields.next().unwrap_or_default())?;
        if !downloaded.contains(id) || !subset.contains(id) {
            return Ok(());
        }
        let title = fields.nth(TITLE - 1);
        let description = fields.nth(DESCRIPTION - TITLE - 1);
        let (Some(title), Some(description)) = (title, description) else {
            let what = "it has fewer than ten columns";
            return Err(ListError::Line { line: number, what });
        };
        out.add(id, &clean(title), &clean(description))?;
        Ok(())
    })?;
    Ok(out.end()?)
}

static TAGS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("<a.*?>|</a>|<b>|</b>|<i>|</i>").ok());
// Python's white space has four characters more than Unicode's.
static URLS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"http[^\s\x1c-\x1f]+|www[^\s\x1c-\x1f]+").ok());

/// A title or description without percent-encoding, links, emphasis and addresses.
fn clean(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field);
    // A plus sign that was encoded becomes a space as well, as in the reference.
    let text = percent_decode_str(&text)
        .decode_utf8_lossy()
        .replace('+', " ");
    let without = |regex: &Option<Regex>, text: String| match regex {
        Some(regex) => match regex.replace_all(&text, "") {
            Cow::Borrowed(_) => text,
            Cow::Owned(text) => text,
        },
        None => text,
    };
    without(&URLS, without(&TAGS, text))
}

/// A list of tuples (id, title, description) in Python's pickle protocol 4.
struct PickledList<W> {
    out: W,
    count: u64,
}

/// Elements that Python appends at a time.
const BATCH: u64 = 1000;

impl<W: Write> PickledList<W> {
    fn begin(mut out: W) -> io::Result<Self> {
        out.write_all(b"\x80\x04]")?;
        Ok(Self { out, count: 0 })
    }

    fn add(&mut self, id: i64, title: &str, description: &str) -> io::Result<()> {
        if self.count.is_multiple_of(BATCH) {
            self.out
                .write_all(if self.count == 0 { b"(" } else { b"e(" })?;
        }
        self.out.write_all(b"J")?;
        // Ids have 27 bits.
        self.out.write_all(&(id as i32).to_le_bytes())?;
        for text in [title, description] {
            self.out.write_all(b"X")?;
            // A line is shorter than 4 GiB, and so is its text.
            self.out.write_all(&(text.len() as u32).to_le_bytes())?;
            self.out.write_all(text.as_bytes())?;
        }
        self.out.write_all(b"\x87")?;
        self.count += 1;
        Ok(())
    }

    fn end(mut self) -> io::Result<u64> {
        self.out
            .write_all(if self.count == 0 { b"." } else { b"e." })?;
        self.out.flush()?;
        Ok(self.count)
    }
}
