//! The optimiser's surroundings.

pub mod schedule;
