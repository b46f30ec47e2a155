//! Losses over embeddings. Knows nothing of towers, files, or of who gathers.

mod contrastive;
mod ranks;

pub use contrastive::{Gathered, LossOptions, LossOutput, Normalised, contrastive};
pub use ranks::{Alone, Ranks};
