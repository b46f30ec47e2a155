//! Zero-shot evaluation: a set of labelled images is scored by comparing each image's embedding
//! with one embedding per class, made of prompts (Radford et al. 2021, arXiv 2103.00020, sec. 3.1).
//!
//! ```text
//! catalog + labels + templates -> EvalSet -> Classifier -> Tally -> Scores -> ZeroShot (JSON, table)
//!                                  (cached)                            -> Details (by class, confusion)
//! ```
//! Nothing here knows a model or a process group: an [`Encoder`] gives embeddings and a [`Shard`]
//! sums tensors over ranks.

pub mod batches;
pub mod cache;
pub mod captioned;
pub mod catalog;
pub mod check;
pub mod classes;
pub mod classifier;
pub mod error;
pub mod filelist;
pub mod imagefolder;
mod json;
pub mod labels;
pub mod lbfgs;
pub mod metrics;
mod model;
pub mod prepare;
pub mod probe;
pub mod published;
pub mod report;
pub mod retrieval;
pub mod scorer;
pub mod set;
pub mod shard;
pub mod special;
pub mod zeroshot;

pub use cache::ClassifierCache;
pub use catalog::Catalog;
pub use classifier::{Classifier, Encoder, Heads};
pub use error::EvalError;
pub use labels::{Labels, Prompts, Templates};
pub use model::{Autocast, decoder, kind, tokenizer};
pub use report::{Details, ZeroShot};
pub use scorer::{Scorer, Stage, was_interrupted};
pub use set::{EvalSet, Samples, Split};
pub use shard::Shard;
pub use zeroshot::{Head, Scores, Settings};
