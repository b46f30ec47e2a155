//! The trainer: one process per rank. Rooms depend one way:
//! `train -> {model, loss, optim, data, checkpoint, eval, track} -> rocket_common`.
pub mod data;
pub mod image;
pub mod random;
pub mod text;
