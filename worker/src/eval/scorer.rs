//! One set from its prompts to its result: what the command, the job and the training do alike.

use std::ops::ControlFlow;

use super::cache::ClassifierCache;
use super::classifier::Tokenize;
use super::zeroshot::{self, Scores};
use super::{Classifier, Encoder, EvalError, EvalSet, Settings, Shard};

/// What sets are scored with.
pub struct Scorer<'a> {
    /// The model.
    pub encoder: &'a dyn Encoder,
    /// Its tokenizer.
    pub tokenize: &'a Tokenize<'a>,
    /// Sizes and threads.
    pub settings: Settings,
    /// This rank's part.
    pub shard: &'a Shard<'a>,
    /// Where class embeddings are kept, for weights that are scored more than once.
    pub cache: Option<&'a ClassifierCache>,
}

/// How far a set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Texts of classes are encoded.
    Classes,
    /// So many of so many images of this rank are done.
    Images(usize, usize),
}

impl Scorer<'_> {
    /// Scores a set. `progress` is told how far it is; with [`ControlFlow::Break`] it has the rest left
    /// out.
    ///
    /// # Errors
    /// See [`EvalError`]; [`was_interrupted`] tells those that are a rank's wish.
    pub fn score(
        &self,
        set: &EvalSet,
        mut progress: impl FnMut(Stage) -> ControlFlow<()>,
    ) -> Result<Scores, EvalError> {
        let Self {
            encoder,
            tokenize,
            settings,
            shard,
            cache,
        } = self;
        let text_batch = settings.text_batch;
        let mut classes = || progress(Stage::Classes);
        let classifier = match cache {
            Some(cache) => {
                cache.classifier(*encoder, set, tokenize, text_batch, shard, &mut classes)?
            }
            None => Classifier::new(
                *encoder,
                &set.prompts,
                tokenize,
                text_batch,
                shard,
                &set.name,
                &mut classes,
            )?,
        };
        zeroshot::score(
            *encoder,
            &classifier,
            set,
            settings,
            shard,
            |done, total| progress(Stage::Images(done, total)),
        )
    }
}

/// Whether some rank broke an evaluation off, as all see it; or, if none did, ranks see different files.
#[must_use]
pub fn was_interrupted(error: &EvalError) -> bool {
    matches!(
        error,
        EvalError::SampleCount { .. } | EvalError::Interrupted { .. }
    )
}
