//! The supervisor's own log: `attempts/<n>/supervisor.log`, one file per attempt.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rocket_common::error::{Error, Result};
use tracing_subscriber::fmt::MakeWriter;

/// Where log lines go; handles share one target.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    file: Arc<Mutex<Option<File>>>,
}

impl Log {
    /// Sends this program's log lines here.
    pub(super) fn install() -> Self {
        let log = Self::default();
        // Fails only where a test has installed one already; lines then go there.
        let _ = tracing_subscriber::fmt()
            .with_writer(log.clone())
            .with_ansi(false)
            .with_target(false)
            .try_init();
        log
    }

    /// Goes on in another file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn switch(&self, path: &Path) -> Result<()> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|error| Error::io("write", path, error))?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *self.file.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.write(bytes),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
