//! Losses over embeddings. Knows nothing of towers, files, or of who gathers.

mod contrastive;

pub use contrastive::{Gathered, LossOptions, LossOutput, Normalised, contrastive};
