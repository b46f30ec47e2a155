//! The subcommands of `rocket-worker`, one a file.

pub mod bench;
mod bench_data;
mod bench_eval;
mod bench_index;
pub mod convert;
pub mod data;
pub mod eval;
pub mod parity;
mod parity_against;
mod rank;
pub mod retrieval;
pub mod track;
pub mod train;
