//! `metrics.jsonl`: one JSON object a line, `{"kind", "step", ...scalars, "time"}`; the time is in seconds
//! since 1970.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

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
    /// The file is always made anew, so that an earlier attempt that still has it open appends to
    /// nothing. `fence` is asked right before the file is put in place.
    ///
    /// # Errors
    /// When the file cannot be read or written, or what `fence` says.
    pub fn resume(path: &Path, step: u64, fence: impl Fn() -> Result<()>) -> Result<Self> {
        let aside = path.with_extension(format!("jsonl.{}.tmp", rocket_common::atomic::unique()));
        let replaced = copy_until(path, &aside, step)
            .with_context(|| format!("cannot rewrite {}", path.display()))
            .and_then(|()| fence())
            .and_then(|()| {
                fs::rename(&aside, path)
                    .with_context(|| format!("cannot replace {}", path.display()))
            });
        if replaced.is_err() {
            let _ = fs::remove_file(&aside);
        }
        replaced?;
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
        // About the machine, as what the caller puts last.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = now.unwrap_or_default().as_millis() as f64 / 1e3;
        line.insert("time".to_owned(), time.into());
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

/// Copies the whole records of at most `step`; a file that does not exist holds none.
fn copy_until(path: &Path, aside: &Path, step: u64) -> std::io::Result<()> {
    let mut out = BufWriter::new(File::create(aside)?);
    match File::open(path) {
        Ok(file) => {
            for line in BufReader::new(file).split(b'\n') {
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
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    out.into_inner()?.sync_all()
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
        let mut metrics = MetricsFile::resume(&path, 0, || Ok(())).expect("new file");
        for step in 1..=5 {
            metrics
                .record(RecordKind::Train, step, &Map::new())
                .expect("written");
        }
        metrics
            .file
            .write_all(b"{\"kind\":\"train\",\"st")
            .expect("torn line");
        let mut metrics = MetricsFile::resume(&path, 3, || Ok(())).expect("resumed");
        metrics
            .record(RecordKind::Train, 4, &Map::new())
            .expect("written");
        metrics.flush().expect("synced");
        assert_eq!(steps(&path), [1, 2, 3, 4]);
    }
    #[test]
    fn an_attempt_that_was_superseded_changes_nothing() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("metrics.jsonl");
        let mut ghost = MetricsFile::resume(&path, 0, || Ok(())).expect("new file");
        ghost
            .record(RecordKind::Train, 1, &Map::new())
            .expect("written");
        let mut metrics = MetricsFile::resume(&path, 0, || Ok(())).expect("resumed");
        for step in 2..=9 {
            ghost
                .record(RecordKind::Train, step, &Map::new())
                .expect("written to nobody");
        }
        metrics
            .record(RecordKind::Train, 1, &Map::new())
            .expect("written");
        let refused = MetricsFile::resume(&path, 0, || anyhow::bail!("superseded"));
        assert!(refused.is_err());
        assert_eq!(steps(&path), [1]);
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
    }
}
