//! CLIP's byte-pair tokens.

use std::sync::LazyLock;

use instant_clip_tokenizer::{Token, Tokenizer as Bpe};
use regex::Regex;

use super::clean;

/// Tokens per caption.
pub const CONTEXT_LENGTH: usize = 77;

const START: i64 = 49406;
const END: i64 = 49407;

/// What is one word to the tokenizer; `<|startoftext|>` and `<|endoftext|>` may stand in a caption.
static WORDS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)<\|startoftext\|>|<\|endoftext\|>",
        r"|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+",
    ))
    .ok()
});

/// CLIP's tokenizer with the vocabulary of 49,408 tokens.
pub struct Tokenizer {
    bpe: Bpe,
}

impl Default for Tokenizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Tokenizer {
    /// Loads the vocabulary (some milliseconds; share it).
    #[must_use]
    pub fn new() -> Self {
        Self { bpe: Bpe::new() }
    }

    /// Tokens of a caption without start and end, as many as it has. The text is cleaned first.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<i64> {
        let text = clean(text);
        let mut ids = Vec::new();
        let mut word_tokens: Vec<Token> = Vec::new();
        let words = WORDS
            .as_ref()
            .into_iter()
            .flat_map(|words| words.find_iter(&text));
        for word in words {
            match word.as_str() {
                "<|startoftext|>" => ids.push(START),
                "<|endoftext|>" => ids.push(END),
                // The crate has markers of its own for these, which CLIP's vocabulary lacks.
                word => {
                    word_tokens.clear();
                    self.bpe.encode(word, &mut word_tokens);
                    ids.extend(word_tokens.iter().map(|token| i64::from(token.to_u16())));
                }
            }
        }
        ids
    }

    /// Writes the row of a caption: start, tokens, end, zeros. Too many tokens are cut, the end is kept.
    pub fn encode_into(&self, text: &str, row: &mut [i64]) {
        row.fill(0);
        let ids = self.encode(text);
        let all = std::iter::once(START).chain(ids).chain([END]);
        let mut last = 0;
        for (index, (slot, id)) in row.iter_mut().zip(all).enumerate() {
            *slot = id;
            last = index;
        }
        if let Some(slot) = row.get_mut(last) {
            *slot = END;
        }
    }

    /// The row of a caption, `[77]`.
    #[must_use]
    pub fn row(&self, text: &str) -> [i64; CONTEXT_LENGTH] {
        let mut row = [0; CONTEXT_LENGTH];
        self.encode_into(text, &mut row);
        row
    }
}
