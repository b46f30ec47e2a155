//! Easy data augmentation of text (Wei and Zou, arXiv 1901.11196), as the package textaugment does it.

use super::split_words;
use crate::random::Stream;

/// Swaps two words. The second is drawn up to four times until it is another one; a text of one word,
/// or four unlucky draws, leave the order as it is.
#[must_use]
pub fn random_swap(text: &str, stream: &mut Stream) -> String {
    let mut words: Vec<&str> = split_words(text).collect();
    if !words.is_empty() {
        let first = stream.index(words.len());
        for _ in 0..4 {
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
