//! What became of each row, kept as lines that are only ever added, so that a fetch goes on where it
//! was stopped: a header, then `<row>\t<result>\t<detail>`, where the result is `ok` or a cause.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use serde::{Deserialize, Serialize};

use super::cause::{Cause, Failure};

/// What a folder was begun with. Going on with something else would mix two data sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Version of this file's form.
    pub(super) version: u32,
    /// `cc3m` or `cc12m`.
    pub(super) set: String,
    /// SHA-256 of the list.
    pub(super) list_sha256: String,
    /// Rows of the list.
    pub(super) rows: u64,
    /// How images are kept, in words.
    pub(super) pictures: String,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing yet.
    Open,
    /// Its image is there.
    Kept,
    /// There is none.
    Failed(Cause),
}

/// The journal of a folder, which no other process writes meanwhile.
pub(super) struct Journal {
    path: PathBuf,
    file: Arc<File>,
    pending: Vec<u8>,
    /// One small number a row: an index into `causes`, or one of the constants.
    fates: Vec<u8>,
    causes: Vec<Cause>,
    /// Bytes of all images that are kept.
    pub(super) kept_bytes: u64,
}

const OPEN: u8 = 0;
const KEPT: u8 = 1;
const CAUSES: u8 = 2;
/// Different causes that a byte can tell apart.
const MOST_CAUSES: usize = (u8::MAX - CAUSES) as usize + 1;

impl Journal {
    /// Opens the journal of `folder`, or begins it.
    ///
    /// # Errors
    /// If it was begun with another list or other settings, another process has it, or the file system
    /// refuses.
    pub(super) fn open(folder: &Path, header: &Header) -> Result<Self> {
        let path = folder.join("journal.tsv");
        let failed = |error| Error::io("open", &path, error);
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(Error::new(
                    ExitKind::Usage,
                    format!("another process fetches into '{}'", folder.display()),
                ));
            }
            // A file system without locks: there the user must take care.
            Err(std::fs::TryLockError::Error(_)) => {}
        }
        let rows = usize::try_from(header.rows).unwrap_or(usize::MAX);
        let mut journal = Self {
            path: path.clone(),
            file: Arc::new(file),
            pending: Vec::new(),
            fates: vec![OPEN; rows],
            causes: Vec::new(),
            kept_bytes: 0,
        };
        let whole = journal.read(header)?;
        // A line that a crash cut short is not there.
        journal.file.set_len(whole).map_err(failed)?;
        if whole == 0 {
            let line =
                serde_json::to_string(header).map_err(|error| failed(io::Error::other(error)))?;
            journal.pending.extend(line.as_bytes());
            journal.pending.push(b'\n');
            journal.batch().write(None)?;
        }
        Ok(journal)
    }

    /// Reads what is there, and gives the length of its whole lines.
    fn read(&mut self, header: &Header) -> Result<u64> {
        let path = self.path.clone();
        let failed = |error| Error::io("read", &path, error);
        let file = Arc::clone(&self.file);
        let mut file = &*file;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let (mut whole, mut line, mut number) = (0, Vec::new(), 0_u64);
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(failed)?;
            if line.pop() != Some(b'\n') {
                return Ok(whole);
            }
            number += 1;
            if number == 1 {
                compare(&path, &line, header)?;
            } else if self.note(&line).is_none() {
                return Err(Error::new(
                    ExitKind::Data,
                    format!("{}:{number}: is no line of a journal", path.display()),
                )
                .hint("fetch into an empty folder"));
            }
            whole += length as u64;
        }
    }

    fn note(&mut self, line: &[u8]) -> Option<()> {
        let line = std::str::from_utf8(line).ok()?;
        let mut fields = line.splitn(3, '\t');
        let row: u64 = fields.next()?.parse().ok()?;
        let (result, detail) = (fields.next()?, fields.next()?);
        let fate = if result == "ok" {
            self.kept_bytes += detail.parse::<u64>().ok()?;
            Fate::Kept
        } else {
            Fate::Failed(Cause::from_name(result)?)
        };
        self.set(row, fate)
    }

    fn set(&mut self, row: u64, fate: Fate) -> Option<()> {
        let code = match fate {
            Fate::Open => OPEN,
            Fate::Kept => KEPT,
            Fate::Failed(cause) => {
                let known = self.causes.iter().position(|&known| known == cause);
                let index = known.unwrap_or_else(|| {
                    // Servers answer with fewer different codes; those of a list that has more count as the
                    // last.
                    if self.causes.len() < MOST_CAUSES {
                        self.causes.push(cause);
                    }
                    self.causes.len() - 1
                });
                index as u8 + CAUSES
            }
        };
        *self.fates.get_mut(usize::try_from(row).ok()?)? = code;
        Some(())
    }

    /// What became of a row.
    pub(super) fn fate(&self, row: u64) -> Fate {
        let code = usize::try_from(row)
            .ok()
            .and_then(|row| self.fates.get(row).copied())
            .unwrap_or(OPEN);
        match code {
            OPEN => Fate::Open,
            KEPT => Fate::Kept,
            code => Fate::Failed(
                self.causes
                    .get(usize::from(code - CAUSES))
                    .copied()
                    .unwrap_or(Cause::Connection),
            ),
        }
    }

    /// How many rows have an image, how many have none by cause, and how many are open.
    pub(super) fn tally(&self) -> Tally {
        let mut counts = [0_u64; 256];
        for &fate in &self.fates {
            counts[usize::from(fate)] += 1;
        }
        let failed = self.causes.iter().enumerate();
        Tally {
            open: counts[usize::from(OPEN)],
            kept: counts[usize::from(KEPT)],
            failed: failed
                .map(|(index, &cause)| (cause, counts[index + usize::from(CAUSES)]))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }

    /// Makes failed rows open again.
    pub(super) fn reopen_failed(&mut self) {
        for fate in &mut self.fates {
            if *fate >= CAUSES {
                *fate = OPEN;
            }
        }
    }

    /// Notes that a row's image is there.
    pub(super) fn kept(&mut self, row: u64, bytes: u64) {
        self.set(row, Fate::Kept);
        self.kept_bytes += bytes;
        self.pending
            .extend(format!("{row}\tok\t{bytes}\n").as_bytes());
    }

    /// Notes that a row has no image.
    pub(super) fn failed(&mut self, row: u64, failure: &Failure) {
        self.set(row, Fate::Failed(failure.cause));
        let detail: String = failure
            .detail
            .chars()
            .take(200)
            .map(|character| {
                if character.is_control() {
                    ' '
                } else {
                    character
                }
            })
            .collect();
        let line = format!("{row}\t{}\t{detail}\n", failure.cause);
        self.pending.extend(line.as_bytes());
    }

    /// What was noted since the last time, to be written by any thread.
    pub(super) fn batch(&mut self) -> Batch {
        Batch {
            path: self.path.clone(),
            file: Arc::clone(&self.file),
            lines: std::mem::take(&mut self.pending),
        }
    }

    /// Has lines written to another file from now on, and gives the one before.
    #[cfg(test)]
    pub(super) fn redirect(&mut self, file: Arc<File>) -> Arc<File> {
        std::mem::replace(&mut self.file, file)
    }
}

/// Lines that are to be written.
pub(super) struct Batch {
    path: PathBuf,
    file: Arc<File>,
    lines: Vec<u8>,
}

impl Batch {
    /// Adds the lines to the file, after everything in `images` has reached the disk: what the journal
    /// says is there survives a power cut.
    pub(super) fn write(self, images: Option<&File>) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        if let Some(images) = images {
            nix::unistd::syncfs(images)
                .map_err(|error| Error::io("sync", &self.path, error.into()))?;
        }
        (&*self.file)
            .write_all(&self.lines)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| Error::io("write", &self.path, error))
    }
}

/// How a fetch stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) open: u64,
    pub(super) kept: u64,
    pub(super) failed: Vec<(Cause, u64)>,
}

fn compare(path: &Path, line: &[u8], header: &Header) -> Result<()> {
    let there: Header = serde_json::from_slice(line).map_err(|error| {
        Error::new(
            ExitKind::Data,
            format!("{}:1: is no header of a journal: {error}", path.display()),
        )
        .hint("fetch into an empty folder")
    })?;
    let differs = [
        ("set", there.set != header.set, &there.set, &header.set),
        (
            "list",
            there.list_sha256 != header.list_sha256,
            &there.list_sha256,
            &header.list_sha256,
        ),
        (
            "form of the images",
            there.pictures != header.pictures,
            &there.pictures,
            &header.pictures,
        ),
    ];
    if there.version != header.version {
        return Err(Error::new(
            ExitKind::Data,
            format!(
                "{}: was written by another version of rocket-worker",
                path.display()
            ),
        ));
    }
    match differs.iter().find(|(_, differs, _, _)| *differs) {
        Some((what, _, there, here)) => Err(Error::new(
            ExitKind::Usage,
            format!(
                "{}: was begun with another {what} ('{there}', not '{here}')",
                path.display()
            ),
        )
        .hint("fetch into another folder, or with what it was begun with")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            version: 1,
            set: "cc3m".into(),
            list_sha256: "ab".into(),
            rows: 10,
            pictures: "as they are".into(),
        }
    }

    fn message(folder: &Path, header: &Header) -> String {
        let error = Journal::open(folder, header).err().expect("a refusal");
        error
            .message()
            .replace(&folder.display().to_string(), "DIR")
    }

    #[test]
    fn fates_survive_and_a_torn_line_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut journal = Journal::open(folder.path(), &header()).expect("a journal");
        journal.kept(3, 1000);
        journal.failed(4, &Failure::new(Cause::Status(404), ""));
        journal.failed(5, &Failure::new(Cause::Timeout, "after\n30 s"));
        journal.batch().write(None).expect("it is written");
        insta::assert_snapshot!(message(folder.path(), &header()), @"another process fetches into 'DIR'");
        drop(journal);

        let path = folder.path().join("journal.tsv");
        let whole = std::fs::read(&path).expect("the journal");
        std::fs::write(&path, [&whole[..], b"6\tok\t12"].concat()).expect("a torn line");
        let mut journal = Journal::open(folder.path(), &header()).expect("a journal");
        assert_eq!(journal.fate(3), Fate::Kept);
        assert_eq!(journal.fate(4), Fate::Failed(Cause::Status(404)));
        assert_eq!(journal.fate(6), Fate::Open);
        assert_eq!(journal.kept_bytes, 1000);
        let tally = journal.tally();
        assert_eq!((tally.open, tally.kept), (7, 1));
        assert_eq!(tally.failed, [(Cause::Status(404), 1), (Cause::Timeout, 1)]);
        journal.reopen_failed();
        assert_eq!(journal.tally().open, 9);
        journal.kept(5, 7);
        journal.batch().write(None).expect("it is written");
        drop(journal);
        let journal = Journal::open(folder.path(), &header()).expect("a journal");
        // The last line about a row counts.
        assert_eq!(journal.fate(5), Fate::Kept);
    }

    #[test]
    fn more_causes_than_a_byte_holds_are_counted_all_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let many = Header {
            rows: 600,
            ..header()
        };
        let mut journal = Journal::open(folder.path(), &many).expect("a journal");
        for row in 0..600 {
            let status = Cause::Status(100 + row as u16);
            journal.failed(row, &Failure::new(status, ""));
        }
        let failed = journal.tally().failed;
        assert_eq!(failed.len(), MOST_CAUSES);
        assert_eq!(failed.iter().map(|(_, rows)| rows).sum::<u64>(), 600);
    }

    #[test]
    fn other_lists_and_other_files_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(Journal::open(folder.path(), &header()).expect("a journal"));
        let mut other = header();
        other.list_sha256 = "cd".into();
        insta::assert_snapshot!(message(folder.path(), &other), @"DIR/journal.tsv: was begun with another list ('ab', not 'cd')");
        let mut other = header();
        other.pictures = "shorter side 256".into();
        insta::assert_snapshot!(message(folder.path(), &other), @"DIR/journal.tsv: was begun with another form of the images ('as they are', not 'shorter side 256')");
        let path = folder.path().join("journal.tsv");
        let mut text = std::fs::read_to_string(&path).expect("the journal");
        text.push_str("10\tok\t5\n");
        std::fs::write(&path, &text).expect("a row too many");
        insta::assert_snapshot!(message(folder.path(), &header()), @"DIR/journal.tsv:2: is no line of a journal");
        std::fs::write(&path, "row\tok\n").expect("another file");
        insta::assert_snapshot!(message(folder.path(), &header()), @"DIR/journal.tsv:1: is no header of a journal: expected value at line 1 column 1");
    }
}
