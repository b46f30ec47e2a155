//! The caption views of a sample.

use rocket_common::experiment::{CaptionSampling, Text};

use super::is_space;
use super::{
    CONTEXT_LENGTH, Tokenizer, WordNet, WordNetError, clean, random_deletion, random_swap,
    remove_stopwords, synonym_replacement,
};
use crate::random::{Purpose, Stream};

/// Words are deleted with this probability (textaugment's default, which the reference uses).
const DELETION: f64 = 0.1;

/// Settings of `text` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaptionViewsError {
    /// Synonyms need WordNet, which cannot be read.
    #[error(
        "text.text_augment with text.synonym_replacement_prob {weight} needs WordNet for synonyms; install it, or set text.synonym_replacement_prob: 0 ({cause})"
    )]
    Synonyms {
        /// The weight, as printed.
        weight: String,
        /// What is wrong with WordNet.
        cause: WordNetError,
    },
    /// A probability or weight outside of its range.
    #[error("{key} is {value}; it must lie between 0 and 1")]
    Probability {
        /// The key.
        key: &'static str,
        /// As printed.
        value: String,
    },
    /// Nothing to choose from.
    #[error(
        "text.text_augment is set, but all of text.no_text_augment_prob, synonym_replacement_prob, random_swap_prob and random_deletion_prob are 0"
    )]
    NoWeights,
}

/// How the captions of a sample become rows of tokens.
pub struct CaptionViews {
    text: Text,
    sampling: CaptionSampling,
    views: usize,
    tokenizer: Tokenizer,
    /// Read only where synonyms are asked for.
    wordnet: Option<WordNet>,
}

impl CaptionViews {
    /// One first caption and `augmented` further ones. Synonyms are those of the machine's WordNet
    /// ([`WordNet::find`]), which is looked for only if the settings need it.
    ///
    /// # Errors
    /// [`CaptionViewsError`].
    pub fn new(
        text: &Text,
        sampling: CaptionSampling,
        augmented: usize,
    ) -> Result<Self, CaptionViewsError> {
        let numbers = [
            ("text.no_text_augment_prob", text.no_text_augment_prob),
            ("text.remove_stopwords_prob", text.remove_stopwords_prob),
            (
                "text.synonym_replacement_prob",
                text.synonym_replacement_prob,
            ),
            ("text.random_swap_prob", text.random_swap_prob),
            ("text.random_deletion_prob", text.random_deletion_prob),
        ];
        for (key, value) in numbers {
            if !(0.0..=1.0).contains(&value) {
                let value = value.to_string();
                return Err(CaptionViewsError::Probability { key, value });
            }
        }
        let mut wordnet = None;
        if text.text_augment {
            if weights(text).iter().sum::<f64>() <= 0.0 {
                return Err(CaptionViewsError::NoWeights);
            }
            if text.synonym_replacement_prob > 0.0 && augmented > 0 {
                let found = WordNet::find();
                wordnet = Some(found.map_err(|cause| CaptionViewsError::Synonyms {
                    weight: text.synonym_replacement_prob.to_string(),
                    cause,
                })?);
            }
        }
        Ok(Self {
            text: text.clone(),
            sampling,
            views: 1 + augmented,
            tokenizer: Tokenizer::new(),
            wordnet,
        })
    }

    /// Number of views, V.
    #[must_use]
    pub fn len(&self) -> usize {
        self.views
    }

    /// Never: there is always a first view.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.views == 0
    }

    /// The caption views of a sample as text: a pure function of its arguments.
    #[must_use]
    pub fn texts(&self, captions: &[&str], seed: u64, epoch: u64, sample: u64) -> Vec<String> {
        let mut choice = Stream::new(seed, epoch, sample, Purpose::CaptionChoice);
        let one;
        let candidates = match self.sampling {
            CaptionSampling::Multi => captions,
            CaptionSampling::Single => {
                one = [captions[choice.index(captions.len())]];
                &one
            }
        };
        (0..self.views)
            .map(|view| {
                let mut stream = Stream::new(seed, epoch, sample, Purpose::Caption(view as u32));
                let caption = candidates[stream.index(candidates.len())];
                let caption = if self.text.clean_before_augment {
                    clean(caption)
                } else {
                    caption.to_owned()
                };
                self.augment(caption, view > 0, &mut stream)
            })
            .collect()
    }

    /// Writes the rows of all views, `[V, 77]`.
    pub fn tokens_into(&self, texts: &[String], rows: &mut [i64]) {
        for (text, row) in texts.iter().zip(rows.chunks_exact_mut(CONTEXT_LENGTH)) {
            self.tokenizer.encode_into(text, row);
        }
    }

    /// What would be left empty stays as it was. A caption of white space alone counts as empty
    /// (the reference's augmentation raises on it).
    fn augment(&self, caption: String, strong: bool, stream: &mut Stream) -> String {
        if caption.chars().all(is_space) {
            return caption;
        }
        let mut text = caption;
        if stream.chance(self.text.remove_stopwords_prob) {
            let stripped = remove_stopwords(&text);
            if !stripped.is_empty() {
                text = stripped;
            }
        }
        if !(strong && self.text.text_augment) {
            return text;
        }
        let augmented = match (stream.weighted(&weights(&self.text)), &self.wordnet) {
            (Some(1), Some(wordnet)) => synonym_replacement(&text, wordnet, stream),
            (Some(2), _) => random_swap(&text, stream),
            (Some(3), _) => random_deletion(&text, DELETION, stream),
            _ => return text,
        };
        if augmented.is_empty() {
            text
        } else {
            augmented
        }
    }
}

/// Weights of doing nothing, a synonym, a swap and a deletion.
fn weights(text: &Text) -> [f64; 4] {
    [
        text.no_text_augment_prob,
        text.synonym_replacement_prob,
        text.random_swap_prob,
        text.random_deletion_prob,
    ]
}
