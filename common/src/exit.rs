//! Exit codes of `rocket-worker`, and what each means to the supervisor.

use serde::{Deserialize, Serialize};

/// Why a rank ended. The number is the process's exit code; the name is what events record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ExitKind {
    /// The work is done, or an agreed stop was reached (the end record says which).
    Ok = 0,
    /// A defect or an error of no known kind: worth one more try.
    Internal = 1,
    /// Wrong command line (clap's code).
    Usage = 2,
    /// The experiment cannot run as written: no retry.
    Experiment = 3,
    /// Data is missing or unreadable beyond what is tolerated: no retry.
    Data = 4,
    /// The loss became NaN or infinite: no retry.
    NotFinite = 5,
    /// A checkpoint could not be written or none could be read (full disk, no permission): no retry.
    Checkpoint = 6,
    /// A peer was lost or a collective timed out: relaunch.
    Distributed = 7,
    /// The pinned files are not what was submitted: no retry.
    Pin = 8,
    /// A newer attempt of the same run exists: leave without publishing anything.
    Fenced = 9,
    /// A parity check found a deviation over its tolerance.
    Parity = 10,
}

impl ExitKind {
    /// Every kind, in the order of its code.
    pub const ALL: [Self; 11] = [
        Self::Ok,
        Self::Internal,
        Self::Usage,
        Self::Experiment,
        Self::Data,
        Self::NotFinite,
        Self::Checkpoint,
        Self::Distributed,
        Self::Pin,
        Self::Fenced,
        Self::Parity,
    ];

    /// The process exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind behind an exit code; codes that are not ours are [`ExitKind::Internal`].
    #[must_use]
    pub fn from_code(code: i32) -> Self {
        Self::ALL
            .into_iter()
            .find(|kind| i32::from(kind.code()) == code)
            .unwrap_or(Self::Internal)
    }
}
