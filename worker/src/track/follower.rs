//! Brings the records of `metrics.jsonl` to one tracker, from where it stands.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use rocket_common::run_dir::RunDir;

use super::cursor::CursorFile;
use super::records::{Position, Reader};
use super::sink::{Ending, Sink, Start};

/// One tracker and the records on their way to it.
pub struct Follower {
    sink: Box<dyn Sink>,
    reader: Reader,
    cursor: CursorFile,
    /// From where it wants records; `None` while it is not open.
    open: Option<Position>,
    /// When it last committed, if it took something since then.
    dirty: Option<Instant>,
    reached: Arc<Mutex<Position>>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("sink", &self.sink.name())
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl Follower {
    /// Follows the metrics of a run as they are now: an attempt that comes later writes a file of its own.
    ///
    /// # Errors
    /// When the metrics cannot be opened.
    pub fn new(run: &RunDir, sink: Box<dyn Sink>) -> Result<Self> {
        let path = run.metrics_path();
        let reader =
            Reader::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            cursor: CursorFile::new(run.path(), sink.file()),
            sink,
            reader,
            open: None,
            dirty: None,
            reached: Arc::default(),
        })
    }

    /// The tracker.
    #[must_use]
    pub fn sink(&self) -> &dyn Sink {
        &*self.sink
    }

    /// Where it stands, for others to look at.
    #[must_use]
    pub fn reached(&self) -> Arc<Mutex<Position>> {
        Arc::clone(&self.reached)
    }

    /// Brings it everything there is. Gives the number of records.
    ///
    /// # Errors
    /// When the tracker fails; it is opened again by the next call, which loses and doubles nothing.
    pub fn catch_up(&mut self) -> Result<u64> {
        let result = self.deliver().and_then(|count| {
            let spacing = self.sink.commit_spacing();
            if self.dirty.is_some_and(|since| since.elapsed() >= spacing) {
                self.commit()?;
            }
            Ok(count)
        });
        self.judge(result)
    }

    /// Brings it everything there is, and tells it that no more follows for now. Gives the number of
    /// records.
    ///
    /// # Errors
    /// As [`Self::catch_up`].
    pub fn finish(&mut self, ending: Ending) -> Result<u64> {
        let result = self.deliver().and_then(|count| {
            self.sink.end(ending)?;
            self.commit()?;
            Ok(count)
        });
        self.judge(result)
    }

    fn judge<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.open = None;
            self.dirty = None;
        }
        result
    }

    fn deliver(&mut self) -> Result<u64> {
        let mut position = match self.open {
            Some(position) => position,
            None => self.start()?,
        };
        let mut count = 0;
        loop {
            let mut chunk = self.reader.peek().context("cannot read metrics.jsonl")?;
            let Some(last) = chunk.records.last().map(|record| record.at) else {
                break;
            };
            chunk.records.retain(|record| record.at >= position);
            if !chunk.records.is_empty() {
                self.sink.write(&chunk.records)?;
                self.dirty.get_or_insert_with(Instant::now);
                count += chunk.records.len() as u64;
            }
            self.reader.accept(&chunk);
            position = position.max(last.next());
            self.open = Some(position);
            *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = position;
        }
        Ok(count)
    }

    fn start(&mut self) -> Result<Position> {
        let (first, last_step) = self.reader.ends().context("cannot read metrics.jsonl")?;
        let position = self.sink.open(&Start {
            saved: self.cursor.read(),
            first_time: first.map(|record| record.time),
            last_step,
        })?;
        self.reader.rewind();
        self.open = Some(position);
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = position;
        // Right away, so that what was opened is found again.
        self.commit()?;
        Ok(position)
    }

    fn commit(&mut self) -> Result<()> {
        let saved = self.sink.commit()?;
        self.cursor.write(&saved)?;
        self.dirty = None;
        Ok(())
    }
}
