//! Words as `nltk.word_tokenize` splits them (the Penn Treebank's rules with NLTK's additions), and
//! stop words.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use super::sentences::sentences;
use super::{is_space, split_words};

/// A substitution over a whole sentence.
struct Rule {
    pattern: Regex,
    replacement: &'static str,
}

fn rules(table: &[(&str, &'static str)]) -> Vec<Rule> {
    table
        .iter()
        .filter_map(|&(pattern, replacement)| {
            let pattern = Regex::new(pattern).ok()?;
            Some(Rule {
                pattern,
                replacement,
            })
        })
        .collect()
}

/// Opening quotes become two backticks.
static OPENING: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[
        ("[«“‘„]|`+", " ${0} "),
        ("^\"", "``"),
        ("``", " ${0} "),
        ("([ (\\[{<])(?:\"|'')", "${1} `` "),
    ])
});

/// Punctuation gets blanks around it: the last period, colons and commas that no digit follows, and
/// so on; then brackets and dashes.
static PUNCTUATION: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[
        (
            "([^.])(\\.)([\\])}>\"'»”’ ]*)[\\s\\x1c-\\x1f]*\\z",
            "${1} ${2} ${3} ",
        ),
        (r"([:,])(\D)", " ${1} ${2}"),
        (r"([:,])(\n?)\z", " ${1} ${2}"),
        (r"\.{2,}", " ${0} "),
        ("[;@#$%&]", " ${0} "),
        (
            "([^.])(\\.)([\\])}>\"']*)[\\s\\x1c-\\x1f]*\\z",
            "${1} ${2}${3} ",
        ),
        ("[?!]", " ${0} "),
        ("([^'])' ", "${1} ' "),
        (r"\*", " ${0} "),
        (r"[\]\[(){}<>]", " ${0} "),
        ("--", " -- "),
    ])
});

/// Closing quotes, and what is written together with the word before.
static CLOSING: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[
        ("[»”’]", " ${0} "),
        ("''", " '' "),
        ("\"", " '' "),
        (r"[\s\x1c-\x1f]+", " "),
        ("([^' ])('[sSmMdD]|') ", "${1} ${2} "),
        ("([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "${1} ${2} "),
    ])
});

/// Words that are two, such as "cannot": pattern of both parts, and what must hold at the ends.
static JOINED: LazyLock<Vec<(Regex, Ends)>> = LazyLock::new(|| {
    [
        ("(?i)(can)(not)", Ends::Words),
        ("(?i)(d)('ye)", Ends::Words),
        ("(?i)(gim)(me)", Ends::Words),
        ("(?i)(gon)(na)", Ends::Words),
        ("(?i)(got)(ta)", Ends::Words),
        ("(?i)(lem)(me)", Ends::Words),
        ("(?i)(more)('n)", Ends::Words),
        ("(?i)(wan)(na)", Ends::WordThenSpace),
        ("(?i) ('t)(is)", Ends::LastWord),
        ("(?i) ('t)(was)", Ends::LastWord),
    ]
    .into_iter()
    .filter_map(|(pattern, ends)| Some((Regex::new(pattern).ok()?, ends)))
    .collect()
});

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// Word boundaries on both sides.
    Words,
    /// A word boundary before, white space after.
    WordThenSpace,
    /// A word boundary after.
    LastWord,
}

static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\p{L}\p{N}_]$").ok());

/// Python's `\w`: letters, numbers of all kinds and the underscore, but no marks.
pub(super) fn is_word_char(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_alphanumeric() || character == '_';
    }
    WORD.as_ref()
        .is_some_and(|word| word.is_match(character.encode_utf8(&mut [0; 4])))
}

/// Words and marks of a text.
#[must_use]
pub fn word_tokenize(text: &str) -> Vec<String> {
    sentences(text)
        .iter()
        .flat_map(|sentence| sentence_words(sentence))
        .collect()
}

fn sentence_words(sentence: &str) -> Vec<String> {
    let text = apply(&OPENING, Cow::Borrowed(sentence));
    let text = split_quoted_letter(text);
    let text = apply(&PUNCTUATION, text);
    let text = apply(&CLOSING, Cow::Owned(format!(" {text} ")));
    let text = JOINED.iter().fold(text, |text, (pattern, ends)| {
        split_joined(text, pattern, *ends)
    });
    split_words(&text).map(str::to_owned).collect()
}

fn apply<'text>(rules: &[Rule], text: Cow<'text, str>) -> Cow<'text, str> {
    rules.iter().fold(text, |text, rule| {
        match rule.pattern.replace_all(&text, rule.replacement) {
            Cow::Borrowed(_) => text,
            Cow::Owned(changed) => Cow::Owned(changed),
        }
    })
}

/// Puts a blank between an apostrophe and a word of one letter, unless it is a clitic ('s, 't, ...).
fn split_quoted_letter(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains('\'') {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 4);
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        out.push(character);
        if character != '\'' {
            continue;
        }
        let mut ahead = rest.clone();
        let letter = ahead
            .next()
            .filter(|&c| is_word_char(c) && !"mtsdnMTSDN\u{17f}".contains(c));
        if let Some(letter) = letter
            && !ahead.next().is_some_and(is_word_char)
        {
            out.push(' ');
            out.push(letter);
            rest.next();
        }
    }
    Cow::Owned(out)
}

fn split_joined<'text>(text: Cow<'text, str>, pattern: &Regex, ends: Ends) -> Cow<'text, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut from = 0;
    while let Some(found) = pattern.captures_at(&text, from) {
        let (Some(whole), Some(first), Some(second)) = (found.get(0), found.get(1), found.get(2))
        else {
            break;
        };
        let word = |c: Option<char>| c.is_some_and(is_word_char);
        let before = text[..whole.start()].chars().next_back();
        let after = text[whole.end()..].chars().next();
        let starts = ends == Ends::LastWord || !word(before);
        let stops = match ends {
            Ends::WordThenSpace => after.is_some_and(is_space),
            _ => !word(after),
        };
        if starts && stops {
            out.push_str(&text[copied..whole.start()]);
            out.push_str(&format!(" {} {} ", first.as_str(), second.as_str()));
            copied = whole.end();
            from = copied;
        } else {
            // Not here: look again from the next character on.
            let step = text[whole.start()..]
                .chars()
                .next()
                .map_or(1, char::len_utf8);
            from = whole.start() + step;
        }
    }
    if copied == 0 {
        return text;
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// NLTK's English stop words (198).
static STOP_WORDS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    stop_words::get(stop_words::Language::English)
        .iter()
        .map(|word| (*word).to_owned())
        .collect()
});

/// The words and marks of a text that are no stop words, with single blanks between them.
#[must_use]
pub fn remove_stopwords(text: &str) -> String {
    let words: Vec<String> = word_tokenize(text)
        .into_iter()
        .filter(|word| !STOP_WORDS.contains(word.to_lowercase().as_str()))
        .collect();
    words.join(" ")
}

/// Whether a word is a stop word as it is written: these are in lower case.
pub(super) fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.contains(word)
}

/// The stop words, sorted.
#[must_use]
pub fn stop_words() -> Vec<&'static str> {
    let mut all: Vec<&str> = STOP_WORDS.iter().map(String::as_str).collect();
    all.sort_unstable();
    all
}
