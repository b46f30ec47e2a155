//! The experiment: what a researcher writes, validated and with its defaults filled.

mod sections;

pub use sections::*;
