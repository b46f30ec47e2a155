//! Cleaning before augmentation and before tokens.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use super::mojibake::reread;
use super::{is_space, unescape};

/// What colours text in a terminal. plsfix means to remove it but looks for another character before it.
static ESCAPES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\x1b\[[\d;]*[a-zA-Z]").ok());

/// ftfy, HTML references (twice, since they are often escaped twice), white space to single blanks,
/// lower case.
#[must_use]
pub fn clean(text: &str) -> String {
    if is_plain(text) {
        return squeeze(text);
    }
    let text = plsfix::fix_text(&reread(&without_escapes(text)), None);
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

fn without_escapes(text: &str) -> Cow<'_, str> {
    match ESCAPES.as_ref() {
        Some(escapes) if text.contains('\x1b') => escapes.replace_all(text, ""),
        _ => Cow::Borrowed(text),
    }
}

/// Whether the text is printable ASCII without references, in which there is nothing to fix but blanks and case:
/// most captions are so, and done in a small part of the time.
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' '..=b'~') && byte != b'&')
}

/// Single blanks and lower case, of plain text.
fn squeeze(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out.make_ascii_lowercase();
    out
}
