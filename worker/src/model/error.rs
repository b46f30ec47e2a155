//! Errors of building, filling and running a model.

use tch::TchError;

use super::registry::LoadError;

/// Why a model could not be built, filled or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The experiment's model section was not resolved: a part of it is unset.
    #[error("model.{0} is not set; give it, or give model.name as <base>_<vision>_<child>")]
    Unresolved(&'static str),
    /// A vision tower that this version does not build.
    #[error(
        "vision tower '{name}' is not in this version; it builds {known}, or a ViT of free dimensions"
    )]
    UnknownVision {
        /// The name asked for.
        name: String,
        /// The names that are known.
        known: String,
    },
    /// A part of the recipe that this version does not have.
    #[error("{0} is not in this version")]
    NotInThisVersion(String),
    /// Sizes that cannot go together.
    #[error("{0}")]
    Dimensions(String),
    /// Named tensors that do not fit the model.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// libtorch refused or failed.
    #[error("torch: {0}")]
    Torch(#[from] TchError),
    /// A collective failed, memory ran out, or libtorch failed in a checkpointed block.
    #[error("the pass through the model failed")]
    Distributed(#[from] tch_distributed::Error),
}

/// Result of the model room.
pub type Result<T> = std::result::Result<T, Error>;

impl From<Error> for tch_distributed::Error {
    /// For errors on their way out of a checkpointed block.
    fn from(error: Error) -> Self {
        match error {
            Error::Distributed(error) => error,
            Error::Torch(error) => error.into(),
            other => Self::Invalid(other.to_string()),
        }
    }
}
