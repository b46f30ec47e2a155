//! The error that people see: a full sentence, what to do about it, and the exit kind behind it.

use std::fmt;
use std::io;
use std::path::Path;

use crate::exit::ExitKind;

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error for people. Both programs print `error: <message>` and a line `hint: ...` for each hint,
/// and the worker exits with the code of its kind.
#[derive(Debug)]
pub struct Error {
    kind: ExitKind,
    message: String,
    hints: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of a kind. `message` is a sentence that names the thing, without a leading capital
    /// or a final stop, since `error: ` stands before it.
    pub fn new(kind: ExitKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hints: Vec::new(),
            source: None,
        }
    }

    /// A failed operation on a path: `cannot <action> <path>: <reason>`. A full disk, an exceeded
    /// quota, a read-only file system and a missing permission are said in words, with what to do.
    pub fn io(action: &str, path: &Path, error: io::Error) -> Self {
        let (reason, hint) = io_words(&error);
        let mut this = Self::new(
            ExitKind::Internal,
            format!("cannot {action} '{}': {reason}", path.display()),
        );
        if let Some(hint) = hint {
            this = this.hint(hint);
        }
        this.source = Some(Box::new(error));
        this
    }

    /// The same error as another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ExitKind) -> Self {
        self.kind = kind;
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Puts what was being done before the message: `<context>: <message>`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// Kind, that is the exit code.
    #[must_use]
    pub fn kind(&self) -> ExitKind {
        self.kind
    }

    /// The sentence alone.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Whether the operating system said that the disk or a quota is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.io_error().is_some_and(is_disk_full)
    }

    /// The operating system's error, where there was one.
    #[must_use]
    pub fn io_error(&self) -> Option<&io::Error> {
        self.source.as_ref()?.downcast_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// Whether an error means that the disk or a quota is full.
#[must_use]
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Reason and advice of an operating system's error.
fn io_words(error: &io::Error) -> (String, Option<&'static str>) {
    match error.kind() {
        io::ErrorKind::StorageFull => (
            "the disk is full".into(),
            Some("free space on that file system, then resume the run"),
        ),
        io::ErrorKind::QuotaExceeded => (
            "the disk quota is used up".into(),
            Some("free space or ask for a larger quota, then resume the run"),
        ),
        io::ErrorKind::FileTooLarge => (
            "the file would exceed the largest size allowed".into(),
            Some("check 'ulimit -f' and the file system's limit"),
        ),
        io::ErrorKind::ReadOnlyFilesystem => ("the file system is read-only".into(), None),
        io::ErrorKind::PermissionDenied => ("permission denied".into(), None),
        io::ErrorKind::NotFound => ("no such file or directory".into(), None),
        io::ErrorKind::StaleNetworkFileHandle => (
            "the file vanished on the network file system (stale handle)".into(),
            None,
        ),
        _ => (error.to_string(), None),
    }
}
