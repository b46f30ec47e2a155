//! `metrics.jsonl`: one JSON object a line, `{"kind", "step", ...scalars}`.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::{RecordKind, Tracker};

/// Appends to a run's `metrics.jsonl`.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens the file for a run that goes on after `step` steps: records of later steps, written by
    /// an attempt that did not live to save them, are dropped, so that each step is there once.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn resume(path: &Path, step: u64) -> Result<Self> {
        if path.exists() {
            drop_after(path, step).with_context(|| format!("cannot rewrite {}", path.display()))?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot open {} for writing", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }
}

impl Tracker for MetricsFile {
    fn record(&mut self, kind: RecordKind, step: u64, values: &Map<String, Value>) -> Result<()> {
        let mut line = Map::new();
        line.insert("kind".to_owned(), kind.name().into());
        line.insert("step".to_owned(), step.into());
        line.extend(
            values
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        // One write per line: a kill between two leaves whole lines only.
        self.file
            .write_all(&bytes)
            .with_context(|| format!("cannot append to {}", self.path.display()))
    }

    fn flush(&mut self) -> Result<()> {
        self.file
            .sync_data()
            .with_context(|| format!("cannot sync {}", self.path.display()))
    }
}

fn drop_after(path: &Path, step: u64) -> std::io::Result<()> {
    let aside = path.with_extension("jsonl.tmp");
    {
        let mut out = BufWriter::new(File::create(&aside)?);
        for line in BufReader::new(File::open(path)?).split(b'\n') {
            let line = line?;
            let kept = serde_json::from_slice::<Value>(&line)
                .ok()
                .and_then(|value| value.get("step")?.as_u64())
                .is_some_and(|at| at <= step);
            if kept {
                out.write_all(&line)?;
                out.write_all(b"\n")?;
            }
        }
        out.into_inner()?.sync_all()?;
    }
    fs::rename(aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(path: &Path) -> Vec<u64> {
        fs::read_to_string(path)
            .expect("readable")
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).expect("json")["step"]
                    .as_u64()
                    .expect("step")
            })
            .collect()
    }

    #[test]
    fn a_resumed_file_holds_each_step_once_and_no_torn_line() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("metrics.jsonl");
        let mut metrics = MetricsFile::resume(&path, 0).expect("new file");
        for step in 1..=5 {
            metrics
                .record(RecordKind::Train, step, &Map::new())
                .expect("written");
        }
        metrics
            .file
            .write_all(b"{\"kind\":\"train\",\"st")
            .expect("torn line");
        let mut metrics = MetricsFile::resume(&path, 3).expect("resumed");
        metrics
            .record(RecordKind::Train, 4, &Map::new())
            .expect("written");
        metrics.flush().expect("synced");
        assert_eq!(steps(&path), [1, 2, 3, 4]);
    }
}
