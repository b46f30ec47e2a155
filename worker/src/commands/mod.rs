//! The subcommands of `rocket-worker`, one a file.

pub mod bench;
pub mod convert;
pub mod eval;
pub mod parity;
pub mod train;
