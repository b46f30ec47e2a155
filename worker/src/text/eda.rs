//! Easy data augmentation of text (Wei and Zou, arXiv 1901.11196), as the package textaugment does it.

use super::words::is_stop_word;
use super::{WordNet, split_words};
use crate::random::Stream;

/// Replaces one word, wherever it stands, by one of its synonyms. Stop words stay, in lower case, and words
/// without synonyms; a text without any other is left as it is. A synonym can be several words, or empty.
#[must_use]
pub fn synonym_replacement(text: &str, wordnet: &WordNet, stream: &mut Stream) -> String {
    let mut words: Vec<&str> = split_words(text).collect();
    let mut left: Vec<&str> = Vec::new();
    for word in &words {
        if !is_stop_word(word) && !left.contains(word) {
            left.push(word);
        }
    }
    while !left.is_empty() {
        let word = left.remove(stream.index(left.len()));
        let synonyms = wordnet.synonyms(word);
        if synonyms.is_empty() {
            continue;
        }
        let synonym = &synonyms[stream.index(synonyms.len())];
        for place in words.iter_mut().filter(|place| **place == word) {
            *place = synonym;
        }
        return words.join(" ");
    }
    words.join(" ")
}

/// Swaps two words. The second is drawn up to three times until it is another one; a text of one word,
/// or three unlucky draws, leave the order as it is (textaugment draws a fourth time, and drops what it drew).
#[must_use]
pub fn random_swap(text: &str, stream: &mut Stream) -> String {
    let mut words: Vec<&str> = split_words(text).collect();
    if !words.is_empty() {
        let first = stream.index(words.len());
        for _ in 0..3 {
            let second = stream.index(words.len());
            if second != first {
                words.swap(first, second);
                break;
            }
        }
    }
    words.join(" ")
}

/// Deletes each word with probability `p`; if all would go, one random word stays.
#[must_use]
pub fn random_deletion(text: &str, p: f64, stream: &mut Stream) -> String {
    let words: Vec<&str> = split_words(text).collect();
    if words.len() <= 1 {
        return words.concat();
    }
    let kept: Vec<&str> = words
        .iter()
        .copied()
        .filter(|_| stream.unit() > p)
        .collect();
    if kept.is_empty() {
        return words[stream.index(words.len())].to_owned();
    }
    kept.join(" ")
}
