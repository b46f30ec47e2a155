//! CLIP's byte-pair tokens.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;

use instant_clip_tokenizer::{Token, Tokenizer as Bpe};
use regex::Regex;

use super::clean::{clean, is_plain};

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

/// Tokens of words that were met, in one thread: the vocabulary is always the same.
type Known = HashMap<Box<str>, Box<[u16]>>;

/// Words whose tokens are remembered, and how long they may be: some ten megabytes per thread at most.
const MOST_KNOWN: usize = 1 << 16;
const LONGEST_KNOWN: usize = 32;

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

/// What [`WORDS`] finds, in cleaned plain text.
fn plain_words<'text>(text: &'text str, mut found: impl FnMut(&'text str)) {
    let bytes = text.as_bytes();
    let run = |from: usize, inside: fn(&u8) -> bool| {
        let rest = &bytes[from..];
        from + rest
            .iter()
            .position(|byte| !inside(byte))
            .unwrap_or(rest.len())
    };
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let fixed = match bytes[at] {
            b'<' => ["<|startoftext|>", "<|endoftext|>"].as_slice(),
            b'\'' => ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].as_slice(),
            _ => &[],
        };
        let fixed = fixed.iter().find(|word| rest.starts_with(**word));
        let end = match (bytes[at], fixed) {
            (b' ', _) => {
                at += 1;
                continue;
            }
            (_, Some(word)) => at + word.len(),
            (b'0'..=b'9', _) => at + 1,
            (b'a'..=b'z', _) => run(at, u8::is_ascii_lowercase),
            _ => run(at, |byte| *byte != b' ' && !byte.is_ascii_alphanumeric()),
        };
        found(&text[at..end]);
        at = end;
    }
}

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
        let mut ids = Vec::with_capacity(text.len() / 3);
        KNOWN.with_borrow_mut(|known| {
            if is_plain(&text) {
                plain_words(&text, |word| self.word(word, known, &mut ids));
            } else if let Some(words) = WORDS.as_ref() {
                for word in words.find_iter(&text) {
                    self.word(word.as_str(), known, &mut ids);
                }
            }
        });
        ids
    }

    /// Tokens of one word or mark.
    fn word(&self, word: &str, known: &mut Known, ids: &mut Vec<i64>) {
        // The crate has markers of its own for these, which CLIP's vocabulary lacks.
        match word {
            "<|startoftext|>" => return ids.push(START),
            "<|endoftext|>" => return ids.push(END),
            _ => {}
        }
        if let Some(tokens) = known.get(word) {
            ids.extend(tokens.iter().map(|token| i64::from(*token)));
            return;
        }
        let mut tokens: Vec<Token> = Vec::new();
        self.bpe.encode(word, &mut tokens);
        let tokens: Box<[u16]> = tokens.iter().map(|token| token.to_u16()).collect();
        ids.extend(tokens.iter().map(|token| i64::from(*token)));
        if known.len() < MOST_KNOWN && word.len() <= LONGEST_KNOWN {
            known.insert(word.into(), tokens);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Plain text takes another way to the same words, and cleaning one to the same text.
        #[test]
        fn plain_text_is_read_as_any_other(text in "([ -~]|'(s|t|re|ve|m|ll|d)|<\\|endoftext\\|>|[a-z ]){0,40}") {
            let lower = text.to_lowercase();
            let words: Vec<&str> = WORDS.as_ref().unwrap().find_iter(&lower).map(|word| word.as_str()).collect();
            let mut plain = Vec::new();
            plain_words(&lower, |word| plain.push(word));
            prop_assert_eq!(plain, words);
            if is_plain(&text) {
                // What is not plain any more, at its end, takes the long way.
                let long = clean(&format!("{text} \u{e9}"));
                let short = clean(&text);
                let short = if short.is_empty() { "\u{e9}".to_owned() } else { format!("{short} \u{e9}") };
                prop_assert_eq!(long, short);
            }
        }
    }
}
