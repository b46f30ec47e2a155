//! Losses over embeddings. Knows nothing of towers, files, or of who gathers.

mod barlip;
mod contrastive;
mod normalise;
mod objective;
mod ranks;
mod siamlip;
mod swalip;
mod together;

pub use objective::{LossOutput, Objective};
pub use ranks::{Alone, Ranks};
pub use together::Together;
