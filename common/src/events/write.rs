//! Writing events.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Event, EventKind};
use crate::atomic;
use crate::error::{Error, Result};
use crate::host;
use crate::run_dir::RunDir;

/// The one writer of an event file. Not to be shared between processes.
#[derive(Debug)]
pub struct EventWriter {
    name: String,
    path: PathBuf,
    file: Option<File>,
    seq: u64,
    /// The last line may lack its end, after a failed write.
    torn: bool,
}

impl EventWriter {
    /// A writer named `<role>-<host>-<pid>-<unique>`, say `submit-login1-4711-...`. Its file is made
    /// with the first event.
    #[must_use]
    pub fn new(run: &RunDir, role: &str) -> Self {
        let unique = atomic::unique();
        let name = format!("{role}-{}-{}-{unique}", host::name(), std::process::id());
        Self {
            path: run.events_dir().join(format!("{name}.jsonl")),
            name,
            file: None,
            seq: 0,
            torn: false,
        }
    }

    /// Name of the writer, without `.jsonl`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The writer's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends an event in one write and waits until it is on the disk.
    ///
    /// # Errors
    /// The file system refuses. The event is then lost or torn; readers skip a torn line, and the
    /// next event starts on a line of its own.
    pub fn append(&mut self, mut event: Event) -> Result<()> {
        event.seq = self.seq;
        let mut line = Vec::with_capacity(256);
        if self.torn {
            line.push(b'\n');
        }
        serde_json::to_writer(&mut line, &event)
            .map_err(|error| Error::io("write", &self.path, error.into()))?;
        line.push(b'\n');
        let result = self.write(&line);
        self.torn = result.is_err();
        self.seq += 1;
        result.map_err(|error| Error::io("append to", &self.path, error))
    }

    /// Appends an event of now with nothing but its kind.
    ///
    /// # Errors
    /// As [`EventWriter::append`].
    pub fn kind(&mut self, kind: EventKind) -> Result<()> {
        self.append(Event::new(kind))
    }

    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(&self.path)?;
                if let Some(dir) = self.path.parent() {
                    File::open(dir)?.sync_all()?;
                }
                none.insert(file)
            }
        };
        // One write(2); the rest, if the system took only a part, follows in further ones.
        file.write_all(line)?;
        file.sync_data()
    }
}
