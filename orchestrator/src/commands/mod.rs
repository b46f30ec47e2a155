//! One file per command: its arguments and what it does.

pub(crate) mod cancel;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod drill;
pub(crate) mod eval;
pub(crate) mod heal;
pub(crate) mod import;
pub(crate) mod logs;
pub(crate) mod machines;
pub(crate) mod man;
pub(crate) mod plot;
pub(crate) mod preempt;
pub(crate) mod rank;
pub(crate) mod report;
pub(crate) mod repro;
pub(crate) mod resume;
pub(crate) mod share;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod supervise;
pub(crate) mod sweep;
