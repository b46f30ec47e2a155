//! Logs of ranks and supervisors, as they are and as they grow, over attempts.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;
use rocket_common::error::{Error, Result};
use rocket_common::run_dir::{Attempt, RunDir};
use serde::Serialize;

use crate::backend::Backends;
use crate::output::stdout_error;
use crate::view::RunView;

const TICK: Duration = Duration::from_millis(250);
/// More ranks than this are a slip of the finger.
const MOST: u32 = 1 << 20;

/// Which ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ranks {
    All,
    Some(Vec<u32>),
}

impl Ranks {
    /// `3`, `0,2`, `0-7`, `all`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let wrong = || format!("'{text}' names no ranks; write 3, 0,2, 0-7 or all");
        let mut ranks = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<u32>().map_err(|_| wrong());
            let (first, last) = (number(first)?, number(last)?);
            if first > last || last >= MOST {
                return Err(wrong());
            }
            ranks.extend(first..=last);
        }
        ranks.sort_unstable();
        ranks.dedup();
        Ok(Self::Some(ranks))
    }
}

/// Which attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempts {
    All,
    One(u32),
}

impl Attempts {
    /// `2`, `all`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            _ => text
                .parse()
                .map(Self::One)
                .map_err(|_| format!("'{text}' is neither the number of an attempt nor 'all'")),
        }
    }
}

/// Whose logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Supervisor,
    Ranks(Ranks),
}

impl Source {
    /// Whether an attempt can have more than one.
    pub(crate) fn is_several(&self) -> bool {
        match self {
            Self::Supervisor => false,
            Self::Ranks(Ranks::All) => true,
            Self::Ranks(Ranks::Some(ranks)) => ranks.len() > 1,
        }
    }

    /// Those that an attempt has.
    fn of(&self, attempt: &Attempt) -> Vec<(Option<u32>, PathBuf)> {
        let ranks = match self {
            Self::Supervisor => {
                let path = attempt.supervisor_log_path();
                return if path.exists() {
                    vec![(None, path)]
                } else {
                    Vec::new()
                };
            }
            Self::Ranks(Ranks::All) => ranks_of(attempt),
            Self::Ranks(Ranks::Some(ranks)) => ranks.clone(),
        };
        ranks
            .into_iter()
            .map(|rank| (Some(rank), attempt.log_path(rank)))
            .filter(|(_, path)| path.exists())
            .collect()
    }
}

/// What is to be printed.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub(crate) source: Source,
    pub(crate) attempts: Option<Attempts>,
    /// So many last lines of each log that is there at the beginning.
    pub(crate) tail: Option<usize>,
    /// Lines of more than one log are printed.
    pub(crate) several: bool,
}

/// Ranks that have a log, in order.
pub(crate) fn ranks_of(attempt: &Attempt) -> Vec<u32> {
    let entries = std::fs::read_dir(attempt.ranks_dir());
    let mut ranks: Vec<u32> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_suffix(".log")?
                .parse()
                .ok()
        })
        .collect();
    ranks.sort_unstable();
    ranks
}

/// Prints what is there; `false` if there is nothing.
///
/// # Errors
/// A log cannot be read, or stdout not be written.
pub(crate) fn print(
    run: &RunDir,
    last: &Attempt,
    selection: &Selection,
    printer: Printer,
) -> Result<bool> {
    let attempts = match selection.attempts {
        None => vec![last.clone()],
        Some(Attempts::One(number)) => vec![run.attempt(number)],
        Some(Attempts::All) => run.attempts()?,
    };
    let mut any = false;
    for attempt in attempts {
        for (rank, path) in selection.source.of(&attempt) {
            let mut log = Log::new(attempt.number(), rank, path);
            log.skip_to_tail(selection.tail)?;
            log.read(&printer)?;
            log.finish(&printer)?;
            any = true;
        }
    }
    Ok(any)
}

/// Prints what is there and what comes, until the run settles.
///
/// # Errors
/// As [`print`]; the run cannot be read.
pub(crate) fn follow(run: &RunDir, selection: &Selection, printer: Printer) -> Result<()> {
    let backends = Backends::default();
    let highest = run.highest_attempt()?.unwrap_or_default();
    let first = match selection.attempts {
        None => highest,
        Some(Attempts::One(number)) => number,
        Some(Attempts::All) => 0,
    };
    let mut logs: Vec<Log> = Vec::new();
    let mut known = run.highest_attempt()?;
    let mut at_start = true;
    loop {
        // Looked at before reading: what was written until it settled is still read.
        let view = RunView::read(run, &backends)?;
        let settled = view.status.is_settled() && view.supervisor.is_none();
        let highest = run.highest_attempt()?;
        if highest > known && !printer.json && !printer.prefix {
            eprintln!("note: attempt {} begins", highest.unwrap_or_default());
        }
        let newer = std::mem::replace(&mut known, highest) < highest;
        if let Some(last) = highest {
            // Whatever is older has been read to its end, and grows no more.
            let from = if at_start {
                first
            } else {
                first.max(last.saturating_sub(1))
            };
            for number in from..=last {
                for (rank, path) in selection.source.of(&run.attempt(number)) {
                    let is_known = logs
                        .iter()
                        .any(|log| log.attempt == number && log.rank == rank);
                    if !is_known {
                        let mut log = Log::new(number, rank, path);
                        if at_start {
                            log.skip_to_tail(selection.tail)?;
                        }
                        logs.push(log);
                    }
                }
            }
            logs.sort_by_key(|log| (log.attempt, log.rank));
            let last_but_one = last.saturating_sub(1);
            for log in logs
                .iter_mut()
                .filter(|log| at_start || log.attempt >= last_but_one)
            {
                log.read(&printer)?;
            }
        }
        at_start = false;
        if settled && !newer {
            for log in &mut logs {
                log.finish(&printer)?;
            }
            return Ok(());
        }
        std::thread::sleep(TICK);
    }
}

/// How lines are printed.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    pub(crate) json: bool,
    /// Each line says whose it is.
    pub(crate) prefix: bool,
    pub(crate) grep: Option<Regex>,
}

impl Printer {
    /// Whether bytes go through as they are, without waiting for the end of a line.
    fn is_plain(&self) -> bool {
        !self.json && !self.prefix && self.grep.is_none()
    }

    fn line(&self, log: &Log, line: &[u8], out: &mut dyn Write) -> io::Result<()> {
        #[derive(Serialize)]
        struct Line<'a> {
            attempt: u32,
            rank: Option<u32>,
            line: &'a str,
        }
        let text = String::from_utf8_lossy(line);
        if self.grep.as_ref().is_some_and(|grep| !grep.is_match(&text)) {
            return Ok(());
        }
        let (attempt, rank) = (log.attempt, log.rank);
        if self.json {
            serde_json::to_writer(
                &mut *out,
                &Line {
                    attempt,
                    rank,
                    line: &text,
                },
            )?;
            return out.write_all(b"\n");
        }
        if self.prefix {
            match rank {
                Some(rank) => write!(out, "[attempt {attempt} rank {rank}] ")?,
                None => write!(out, "[attempt {attempt}] ")?,
            }
        }
        out.write_all(line)?;
        out.write_all(b"\n")
    }
}

/// A log and how far it was read.
#[derive(Debug)]
struct Log {
    attempt: u32,
    rank: Option<u32>,
    path: PathBuf,
    inode: u64,
    offset: u64,
    /// A line whose end was not written yet.
    partial: Vec<u8>,
}

impl Log {
    fn new(attempt: u32, rank: Option<u32>, path: PathBuf) -> Self {
        Self {
            attempt,
            rank,
            path,
            inode: 0,
            offset: 0,
            partial: Vec::new(),
        }
    }

    /// Prints what is new.
    fn read(&mut self, printer: &Printer) -> Result<()> {
        let path = self.path.clone();
        let failed = |error| Error::io("read", &path, error);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            // It was there; whoever cleans up while we look is no error.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let metadata = file.metadata().map_err(failed)?;
        let another = self.inode != 0 && self.inode != metadata.ino();
        if another || metadata.len() < self.offset {
            // Another file, or one that was emptied: from its beginning.
            self.offset = 0;
            self.finish(printer)?;
        }
        self.inode = metadata.ino();
        file.seek(SeekFrom::Start(self.offset)).map_err(failed)?;
        let mut out = io::stdout().lock();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = file.read(&mut buffer).map_err(failed)?;
            if read == 0 {
                return out.flush().map_err(stdout_error);
            }
            self.offset += read as u64;
            if printer.is_plain() {
                out.write_all(&buffer[..read]).map_err(stdout_error)?;
                continue;
            }
            self.partial.extend_from_slice(&buffer[..read]);
            let partial = std::mem::take(&mut self.partial);
            let mut lines = partial.split(|byte| *byte == b'\n');
            // What follows the last line end is not a whole line, or empty.
            self.partial = lines.next_back().unwrap_or_default().to_vec();
            for line in lines {
                printer.line(self, line, &mut out).map_err(stdout_error)?;
            }
        }
    }

    /// Prints a last line that has no end.
    fn finish(&mut self, printer: &Printer) -> Result<()> {
        let partial = std::mem::take(&mut self.partial);
        if partial.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        printer
            .line(self, &partial, &mut out)
            .and_then(|()| out.flush())
            .map_err(stdout_error)
    }

    /// Passes over all but the last lines of what is there.
    fn skip_to_tail(&mut self, lines: Option<usize>) -> Result<()> {
        if let Some(lines) = lines {
            self.offset = tail_offset(&self.path, lines)
                .map_err(|error| Error::io("read", &self.path, error))?;
        }
        Ok(())
    }
}

/// Where the last lines of a file begin; it is read from its end.
fn tail_offset(path: &Path, lines: usize) -> io::Result<u64> {
    const BLOCK: u64 = 1 << 16;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut left = lines;
    let mut end = length;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        (&mut file).take(end - start).read_to_end(&mut block)?;
        for (at, byte) in block.iter().enumerate().rev() {
            let place = start + at as u64 + 1;
            // The line end at the very end of the file ends a line, and begins none.
            if *byte != b'\n' || place == length {
                continue;
            }
            if left == 1 || left == 0 {
                return Ok(if left == 0 { length } else { place });
            }
            left -= 1;
        }
        end = start;
    }
    Ok(if lines == 0 { length } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_named_by_number_list_and_range() {
        let some = |ranks: &[u32]| Ok(Ranks::Some(ranks.to_vec()));
        assert_eq!(Ranks::parse("all"), Ok(Ranks::All));
        assert_eq!(Ranks::parse("3"), some(&[3]));
        assert_eq!(Ranks::parse("4,0-2,1"), some(&[0, 1, 2, 4]));
        for wrong in ["", "a", "3-1", "0-99999999", "1,", "-1"] {
            let error = Ranks::parse(wrong).unwrap_err();
            assert!(error.contains("write 3, 0,2, 0-7 or all"), "{error}");
        }
    }

    #[test]
    fn a_tail_begins_at_a_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let tail = |text: &str, lines| {
            std::fs::write(file.path(), text).unwrap();
            let offset = tail_offset(file.path(), lines).unwrap();
            text[offset as usize..].to_owned()
        };
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("a\nb\n", 5), "a\nb\n");
        assert_eq!(tail("a\nb\n", 0), "");
        assert_eq!(tail("", 3), "");
        assert_eq!(tail("\n\n\n", 1), "\n");
        let long = "0123456789abcdef\n".repeat(10_000);
        assert_eq!(tail(&long, 7_000).lines().count(), 7_000);
    }
}
