//! Training data: sources, order, loader.

pub mod order;
