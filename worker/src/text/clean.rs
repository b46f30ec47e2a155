//! Cleaning before augmentation and before tokens.

use super::mojibake::reread;
use super::{is_space, unescape};

/// ftfy, HTML references (twice, since they are often escaped twice), white space to single blanks,
/// lower case.
#[must_use]
pub fn clean(text: &str) -> String {
    let text = plsfix::fix_text(&reread(text), None);
    let text = unescape(&unescape(&text));
    // The ends are stripped of Python's white space; inside, of the `regex` package's, which keeps
    // four separators of ASCII.
    let mut out = String::with_capacity(text.len());
    for word in text
        .trim_matches(is_space)
        .split(char::is_whitespace)
        .filter(|word| !word.is_empty())
    {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out.trim_matches(is_space).to_lowercase()
}
