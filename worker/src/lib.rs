//! The trainer: one process per rank. Rooms depend one way:
//! `train -> {model, loss, optim, data, checkpoint, eval, track} -> rocket_common`.

pub mod checkpoint;
pub mod data;
pub mod eval;
pub mod failure;
pub mod image;
pub mod loss;
pub mod model;
pub mod optim;
pub mod parity;
pub mod random;
pub mod rank;
pub mod text;
pub mod track;
