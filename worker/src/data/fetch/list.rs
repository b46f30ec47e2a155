//! The published lists: CC3M's are lines of caption and address, CC12M's of address and caption, with
//! a tab between. Read as a stream with bounded memory, whatever the file holds.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use sha2::{Digest, Sha256};

/// Longest line that is read, in bytes. The published lists' longest are some 10 KB.
const LONGEST_LINE: usize = 1 << 16;

/// Which set a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// Conceptual Captions: `<caption>\t<url>`.
    Cc3m,
    /// Conceptual 12M: `<url>\t<caption>`.
    Cc12m,
}

impl Pairs {
    /// The name that experiments use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cc3m => "cc3m",
            Self::Cc12m => "cc12m",
        }
    }
}

/// A row of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The caption as it is written.
    pub caption: String,
    /// The address as it is written.
    pub url: String,
}

/// What is known of a list before it is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFacts {
    /// Number of lines.
    pub rows: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

/// A list, read line by line.
pub struct List {
    path: PathBuf,
    pairs: Pairs,
    reader: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
}

impl List {
    /// Opens a list.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(path: &Path, pairs: Pairs) -> Result<Self> {
        let file = File::open(path).map_err(|error| unreadable(path, error))?;
        Ok(Self::of(path, pairs, Box::new(file)))
    }

    /// Reads from anything; `path` is for messages.
    #[must_use]
    pub fn of(path: &Path, pairs: Pairs, reader: Box<dyn Read + Send>) -> Self {
        Self {
            path: path.to_owned(),
            pairs,
            reader: BufReader::with_capacity(1 << 18, reader),
            line: Vec::new(),
        }
    }

    /// The next row, or in words why its line is none; `None` at the end.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn next_row(&mut self) -> Result<Option<Result<Row, String>>> {
        let read = read_line(&mut self.reader, &mut self.line)
            .map_err(|error| unreadable(&self.path, error))?;
        Ok(read.map(|length| {
            if length > LONGEST_LINE {
                return Err(format!(
                    "the line has {length} bytes; at most {LONGEST_LINE} are read"
                ));
            }
            parse(&self.line, self.pairs)
        }))
    }
}

/// Reads a line without its end into `line`, of which no more than [`LONGEST_LINE`] bytes are kept, and
/// gives its true length.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<usize>> {
    line.clear();
    let mut length = 0;
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            return Ok((length > 0).then_some(length));
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        let room = LONGEST_LINE.saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        length += part.len();
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(length));
        }
    }
}

fn parse(line: &[u8], pairs: Pairs) -> Result<Row, String> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8".to_owned())?;
    let split = match pairs {
        // A caption could hold a tab, an address cannot.
        Pairs::Cc3m => text.rsplit_once('\t'),
        Pairs::Cc12m => text.split_once('\t').map(|(url, caption)| (caption, url)),
    };
    let (caption, url) = split.ok_or("the line has no tab between caption and address")?;
    if caption.contains('\0') {
        return Err("the caption holds the character NUL".to_owned());
    }
    if url.is_empty() {
        return Err("the line has no address".to_owned());
    }
    Ok(Row {
        caption: caption.to_owned(),
        url: url.to_owned(),
    })
}

/// Counts and hashes a list.
///
/// # Errors
/// If the file cannot be read, or has no line.
pub fn survey(path: &Path) -> Result<ListFacts> {
    let mut file = File::open(path).map_err(|error| unreadable(path, error))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let (mut rows, mut last) = (0, b'\n');
    loop {
        let length = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(path, error)),
        };
        let part = &buffer[..length];
        hash.update(part);
        rows += part.iter().filter(|&&byte| byte == b'\n').count() as u64;
        last = part[length - 1];
    }
    rows += u64::from(last != b'\n');
    if rows == 0 {
        return Err(Error::new(
            ExitKind::Data,
            format!("'{}' is empty", path.display()),
        ));
    }
    let sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(ListFacts { rows, sha256 })
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::io("read the list", path, error).with_kind(ExitKind::Data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(pairs: Pairs, text: &[u8]) -> Vec<Result<Row, String>> {
        let reader = Box::new(io::Cursor::new(text.to_vec()));
        let mut list = List::of(Path::new("list.tsv"), pairs, reader);
        std::iter::from_fn(|| list.next_row().expect("memory can be read")).collect()
    }

    #[test]
    fn both_orders_are_read() {
        let row = Row {
            caption: "a cat\twith a tab".into(),
            url: "http://x/y.jpg".into(),
        };
        let cc3m = rows(Pairs::Cc3m, b"a cat\twith a tab\thttp://x/y.jpg\r\n");
        assert_eq!(cc3m, [Ok(row.clone())]);
        let cc12m = rows(Pairs::Cc12m, b"http://x/y.jpg\ta cat\twith a tab");
        assert_eq!(cc12m, [Ok(row)]);
    }

    #[test]
    fn broken_lines_are_told_apart_and_keep_their_place() {
        let mut text = b"no tab\n\na\0b\thttp://x/1\n\xff\thttp://x/2\ncaption\t\n".to_vec();
        text.extend(vec![b'x'; LONGEST_LINE + 1]);
        text.extend(b"\nlast\thttp://x/3\n");
        let found: Vec<String> = rows(Pairs::Cc3m, &text)
            .into_iter()
            .map(|row| row.map_or_else(|why| why, |row| row.url))
            .collect();
        insta::assert_snapshot!(found.join("\n"), @r"
        the line has no tab between caption and address
        the line has no tab between caption and address
        the caption holds the character NUL
        the line is not UTF-8
        the line has no address
        the line has 65537 bytes; at most 65536 are read
        http://x/3
        ");
    }

    #[test]
    fn lines_are_counted_as_they_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        for text in ["a\tb", "a\tb\n", "a\tb\nc\td", "\n\n"] {
            let path = folder.path().join("list.tsv");
            std::fs::write(&path, text).expect("a file");
            let facts = survey(&path).expect("it can be read");
            let read = rows(Pairs::Cc3m, text.as_bytes()).len() as u64;
            assert_eq!(facts.rows, read, "{text:?}");
            assert_eq!(facts.sha256.len(), 64);
        }
    }
}
