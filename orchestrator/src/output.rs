//! Human and JSON output behind one trait: whoever implements [`Report`] has `--json` for free.

use std::io::{self, Write};
use std::path::Path;

use rocket_common::error::{Error, Result};
use serde::Serialize;

/// What a reading command has to say.
pub trait Report: Serialize {
    /// Writes it for people.
    ///
    /// # Errors
    /// What the writer says.
    fn human(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// `--json`, to be flattened into a command's arguments.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Format {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Format {
    /// Prints a report to stdout.
    ///
    /// # Errors
    /// It cannot be written; a closed pipe is one too, which [`crate::report`] forgives.
    pub fn print(self, report: &impl Report) -> Result<()> {
        // By itself stdout is written line by line, and a thousand runs have fifty thousand lines.
        let mut out = io::BufWriter::new(io::stdout().lock());
        let result = if self.json {
            serde_json::to_writer_pretty(&mut out, report)
                .map_err(io::Error::from)
                .and_then(|()| out.write_all(b"\n"))
        } else {
            report.human(&mut out)
        };
        result.and_then(|()| out.flush()).map_err(stdout_error)
    }
}

/// Prints text to stdout.
///
/// # Errors
/// As [`Format::print`].
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(stdout_error)
}

pub(crate) fn stdout_error(error: io::Error) -> Error {
    Error::io("write to", Path::new("stdout"), error)
}

/// Columns of text, each as wide as its widest cell; the last one is not filled up.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
}

impl Table {
    /// With a row of headings.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|&text| text.to_owned()).collect()],
            right: Vec::new(),
        }
    }

    /// Sets these columns flush right: numbers.
    #[must_use]
    pub fn right(mut self, columns: &[usize]) -> Self {
        self.right = columns.to_vec();
        self
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Writes it.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                if self.right.contains(&column) {
                    line.push_str(&format!("{cell:>width$}  "));
                } else {
                    line.push_str(&format!("{cell:<width$}  "));
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
