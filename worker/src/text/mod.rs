//! Captions: cleaning, stop words, augmentation, tokens. Everything acts as the Python libraries
//! of the reference do (ftfy, html, NLTK, textaugment, CLIP's tokenizer).

mod clean;
mod eda;
mod html;
mod mojibake;
mod sentences;
mod tokenizer;
mod views;
mod wordnet;
mod words;

pub use clean::clean;
pub use eda::{random_deletion, random_swap, synonym_replacement};
pub use html::unescape;
pub use tokenizer::{CONTEXT_LENGTH, Tokenizer};
pub use views::{CaptionViews, CaptionViewsError};
pub use wordnet::{WordNet, WordNetError};
pub use words::{remove_stopwords, stop_words, word_tokenize};

/// Python's `str.isspace` of one character: Unicode's white space and four separators of ASCII.
pub(crate) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Python's `str.split()`.
pub(crate) fn split_words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}
