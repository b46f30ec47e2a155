//! The model: towers, projectors, and the registry of their tensors. Knows nothing of files or of
//! who gathers embeddings; a step is `encode`, then a loss, then backward.

mod batch;
mod batch_norm;
mod builder;
mod children;
mod clip;
mod convnext;
mod dense;
mod embeddings;
mod error;
mod features;
mod groups;
mod heads;
mod layers;
mod momentum;
mod options;
mod pass;
mod plans;
mod registry;
mod resnet;
mod segments;
#[cfg(test)]
mod tests;
mod text;
pub mod trace;
mod transformer;
mod vision;
mod vit;

pub use batch::Batch;
pub use batch_norm::SyncGroup;
pub use clip::{LOGIT_SCALE_MAX, Model, TextInit};
pub use embeddings::{ChildEmbeddings, Embeddings, Encoded, Targets, Views};
pub use error::{Error, Result};
pub use features::Features;
pub use momentum::MomentumEncoder;
pub use options::Options;
pub use registry::{Entry, LoadError, Registry, Role};
pub use segments::CheckpointReport;
pub use vision::{ConvNextSize, VisionSize, VitSize};
