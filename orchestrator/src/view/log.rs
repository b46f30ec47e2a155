//! Ends of logs.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes of a log that its last lines are taken from.
const TAIL: u64 = 32 << 10;

/// The last lines of a log, whatever bytes are in it; empty if it is not there.
pub(crate) fn log_tail(path: &Path, most: usize) -> Vec<String> {
    let read = || -> std::io::Result<(Vec<u8>, bool)> {
        let mut file = File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(TAIL);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok((bytes, from > 0))
    };
    let Ok((bytes, begins_within)) = read() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if begins_within && lines.len() > 1 {
        // Half a line says nothing.
        lines.remove(0);
    }
    lines[lines.len().saturating_sub(most)..]
        .iter()
        .map(|line| printable(line))
        .collect()
}

/// Without colours and other control characters.
fn printable(line: &str) -> String {
    let mut clean = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            // An escape sequence ends at its first letter.
            '\u{1b}' => while chars.next().is_some_and(|c| !c.is_ascii_alphabetic()) {},
            '\t' => clean.push_str("    "),
            c if c.is_control() => clean.push('\u{fffd}'),
            c => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_whole_lines_that_can_be_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        assert!(log_tail(&path, 3).is_empty());
        std::fs::write(&path, b"one\n\x1b[31mred\x1b[0m \xff\n\ttab").unwrap();
        assert_eq!(log_tail(&path, 2), ["red \u{fffd}", "    tab"]);
        std::fs::write(&path, "0123456789\n".repeat(10_000)).unwrap();
        let lines = log_tail(&path, usize::MAX);
        assert!(lines.len() > 2000 && lines.iter().all(|line| line == "0123456789"));
    }
}
