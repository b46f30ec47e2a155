//! The trainer: one process per rank. Rooms depend one way:
//! `train -> {model, loss, optim, data, checkpoint, eval, track} -> rocket_common`.

pub mod loss;
pub mod model;
