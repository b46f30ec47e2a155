//! Sentence boundaries by the Punkt method (Kiss and Strunk, "Unsupervised multilingual sentence
//! boundary detection", Computational Linguistics 32, 2006) with NLTK's English parameters. Behaves
//! as `nltk.sent_tokenize`, whose decisions word tokenization rests on: "st." in "church of st. mary"
//! stays one word.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::LazyLock;

use super::is_space;
use super::words::is_word_char;

/// What was learnt of English.
struct Parameters {
    abbreviations: HashSet<&'static str>,
    collocations: HashSet<(&'static str, &'static str)>,
    starters: HashSet<&'static str>,
    /// In which cases and places a word was seen.
    cases: HashMap<&'static str, u8>,
}

/// Seen in upper case inside of a sentence.
const MIDDLE_UPPER: u8 = 1 << 2;
/// Seen in upper case anywhere.
const UPPER: u8 = 0b0000_1110;
/// Seen in lower case at a sentence's start.
const START_LOWER: u8 = 1 << 4;
/// Seen in lower case anywhere.
const LOWER: u8 = 0b0111_0000;

static ENGLISH: LazyLock<Parameters> = LazyLock::new(|| {
    let mut parameters = Parameters {
        abbreviations: HashSet::new(),
        collocations: HashSet::new(),
        starters: HashSet::new(),
        cases: HashMap::new(),
    };
    for line in include_str!("punkt_english.tsv").lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["abbreviation", word] => drop(parameters.abbreviations.insert(word)),
            ["collocation", first, second] => {
                parameters.collocations.insert((first, second));
            }
            ["starter", word] => drop(parameters.starters.insert(word)),
            ["case", word, flags] => {
                parameters.cases.insert(word, flags.parse().unwrap_or(0));
            }
            _ => {}
        }
    }
    parameters
});

/// The sentences of a text, without the white space between them.
pub(super) fn sentences(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    realign(&chars, &split(&chars))
        .into_iter()
        .map(|range| slice(&chars, range).iter().collect())
        .collect()
}

/// A slice as Python takes it: empty where the end lies before the start.
fn slice(chars: &[char], range: Range<usize>) -> &[char] {
    let end = range.end.min(chars.len());
    &chars[range.start.min(end)..end]
}

/// Punctuation that no word contains.
fn ends_word(character: char) -> bool {
    ")\";}]*:@'({[?!".contains(character)
}

/// A `.`, `?` or `!` that may end a sentence.
struct Candidate {
    at: usize,
    /// End of what follows: one mark of punctuation, or white space and a word.
    after: usize,
    /// Where the following word begins, if white space comes first.
    next_word: Option<usize>,
}

fn candidates(chars: &[char]) -> Vec<Candidate> {
    let mut found = Vec::new();
    for at in (0..chars.len()).filter(|&at| matches!(chars[at], '.' | '?' | '!')) {
        let Some(&next) = chars.get(at + 1) else {
            continue;
        };
        if ends_word(next) {
            found.push(Candidate {
                at,
                after: at + 2,
                next_word: None,
            });
        } else if is_space(next) {
            let skip = |from: usize, space: bool| {
                (from..chars.len())
                    .find(|&at| is_space(chars[at]) != space)
                    .unwrap_or(chars.len())
            };
            let word = skip(at + 1, true);
            let after = skip(word, false);
            if word < after {
                found.push(Candidate {
                    at,
                    after,
                    next_word: Some(word),
                });
            }
        }
    }
    found
}

/// Sentences before closing punctuation is put right.
fn split(chars: &[char]) -> Vec<Range<usize>> {
    let mut sentences = Vec::new();
    let mut start = 0;
    // The word before a candidate; of candidates in one word ("!!!") the last counts.
    let mut previous = 0..0;
    let mut waiting: Option<Candidate> = None;
    let mut judge = |word: &Range<usize>, candidate: Candidate| {
        let context: Vec<char> =
            [&chars[word.clone()], &chars[candidate.at..candidate.after]].concat();
        if holds_break(&context) {
            sentences.push(start..candidate.at + 1);
            start = candidate.next_word.unwrap_or(candidate.at + 1);
        }
    };
    for candidate in candidates(chars) {
        let before = &chars[previous.end.min(candidate.at)..candidate.at];
        // White space in the first place counts as none, as in NLTK.
        let space = before
            .iter()
            .rposition(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}'))
            .filter(|&at| at > 0);
        let word = match space {
            Some(at) => previous.end + at + 1..candidate.at,
            None => previous.start..candidate.at,
        };
        if let Some(waiting) = waiting.take()
            && previous.end <= word.start
        {
            judge(&previous, waiting);
        }
        waiting = Some(candidate);
        previous = word;
    }
    if let Some(waiting) = waiting {
        judge(&previous, waiting);
    }
    let end = chars
        .iter()
        .rposition(|&c| !is_space(c))
        .map_or(0, |at| at + 1);
    sentences.push(start..end);
    sentences
}

/// Moves closing quotes and brackets to the sentence they close.
fn realign(chars: &[char], sentences: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut shift = 0;
    for (index, sentence) in sentences.iter().enumerate() {
        let this = sentence.start + shift..sentence.end;
        let closing = sentences
            .get(index + 1)
            .and_then(|next| closing(slice(chars, next.clone())).map(|found| (next.start, found)));
        if let Some((start, (marks, all))) = closing {
            out.push(this.start..start + marks);
            shift = all;
        } else {
            shift = 0;
            if !slice(chars, this.clone()).is_empty() {
                out.push(this);
            }
        }
    }
    out
}

/// Length of the closing marks at the start, without and with the white space after them.
fn closing(sentence: &[char]) -> Option<(usize, usize)> {
    let marks = sentence
        .iter()
        .take_while(|c| matches!(c, '"' | '\'' | ')' | ']' | '}'))
        .count();
    let rest = &sentence[marks..];
    let spaces = rest.iter().take_while(|&&c| is_space(c)).count();
    let ends = rest.is_empty() || spaces > 0 || rest.starts_with(&['-', '-']);
    (marks > 0 && ends).then_some((marks, marks + spaces))
}

/// A word or mark in the context of a candidate.
struct Word {
    text: String,
    kind: String,
    abbreviation: bool,
    ellipsis: bool,
    ends_sentence: bool,
}

impl Word {
    fn new(chars: &[char]) -> Self {
        let text: String = chars.iter().collect();
        let lower = text.to_lowercase();
        let kind = if is_number(&lower) {
            "##number##".to_owned()
        } else {
            lower
        };
        let mut word = Self {
            text,
            kind,
            abbreviation: false,
            ellipsis: false,
            ends_sentence: false,
        };
        word.judge_alone();
        word
    }

    /// What the word itself says.
    fn judge_alone(&mut self) {
        let text = &self.text;
        if matches!(text.as_str(), "." | "?" | "!") {
            self.ends_sentence = true;
        } else if text.len() > 1 && text.chars().all(|c| c == '.') {
            self.ellipsis = true;
        } else if self.period_final() && !text.ends_with("..") {
            let stem = text[..text.len() - 1].to_lowercase();
            let last = stem.rsplit('-').next().unwrap_or(&stem);
            let known = &ENGLISH.abbreviations;
            if known.contains(stem.as_str()) || known.contains(last) {
                self.abbreviation = true;
            } else {
                self.ends_sentence = true;
            }
        }
    }

    fn period_final(&self) -> bool {
        self.text.ends_with('.')
    }

    fn kind_without_period(&self) -> &str {
        match self.kind.strip_suffix('.') {
            Some(stem) if !stem.is_empty() => stem,
            _ => &self.kind,
        }
    }

    /// Without the period, if that ends a sentence.
    fn kind_in_sentence(&self) -> &str {
        if self.ends_sentence {
            self.kind_without_period()
        } else {
            &self.kind
        }
    }

    fn is_initial(&self) -> bool {
        let mut chars = self.text.chars();
        let first = chars
            .next()
            .is_some_and(|c| is_word_char(c) && !is_digit(c));
        first && chars.as_str() == "."
    }

    fn first(&self) -> char {
        self.text.chars().next().unwrap_or(' ')
    }

    fn cases(&self) -> u8 {
        ENGLISH
            .cases
            .get(self.kind_in_sentence())
            .copied()
            .unwrap_or(0)
    }

    /// Whether the word starts a sentence, by the cases it was seen in; `None` if they do not tell.
    fn starts_sentence(&self) -> Option<bool> {
        if matches!(self.text.as_str(), ";" | ":" | "," | "." | "!" | "?") {
            return Some(false);
        }
        let cases = self.cases();
        let first = self.first();
        if first.is_uppercase() && cases & LOWER != 0 && cases & MIDDLE_UPPER == 0 {
            return Some(true);
        }
        if first.is_lowercase() && (cases & UPPER != 0 || cases & START_LOWER == 0) {
            return Some(false);
        }
        None
    }
}

/// Whether the context holds a sentence's end that something follows.
fn holds_break(context: &[char]) -> bool {
    let mut words: Vec<Word> = context
        .split(|&c| c == '\n')
        .flat_map(context_words)
        .map(|range| Word::new(&range))
        .collect();
    for index in 1..words.len() {
        let (before, from) = words.split_at_mut(index);
        if let (Some(word), Some(next)) = (before.last_mut(), from.first()) {
            judge_pair(word, next);
        }
    }
    let without_last = words.len().saturating_sub(1);
    words[..without_last].iter().any(|word| word.ends_sentence)
}

/// What the following word says about a word that ends in a period.
fn judge_pair(word: &mut Word, next: &Word) {
    if !word.period_final() {
        return;
    }
    let kind = word.kind_without_period();
    let next_kind = next.kind_in_sentence();
    if ENGLISH.collocations.contains(&(kind, next_kind)) {
        word.ends_sentence = false;
        word.abbreviation = true;
        return;
    }
    let initial = word.is_initial();
    let number = kind == "##number##";
    if (word.abbreviation || word.ellipsis) && !initial {
        let frequent = next.first().is_uppercase() && ENGLISH.starters.contains(next_kind);
        if next.starts_sentence() == Some(true) || frequent {
            word.ends_sentence = true;
            return;
        }
    }
    if initial || number {
        let upper_only = initial && next.first().is_uppercase() && next.cases() & LOWER == 0;
        match next.starts_sentence() {
            Some(false) => {}
            None if upper_only => {}
            _ => return,
        }
        word.ends_sentence = false;
        word.abbreviation = true;
    }
}

/// Words and marks of one line; periods stay with their word.
fn context_words(line: &[char]) -> Vec<Vec<char>> {
    let mut words = Vec::new();
    let mut at = 0;
    while at < line.len() {
        if is_space(line[at]) {
            at += 1;
            continue;
        }
        let length = multi_mark(&line[at..]).unwrap_or_else(|| {
            if "(\"`{[:;&#*@)}]-,".contains(line[at]) {
                1
            } else {
                word_length(&line[at..])
            }
        });
        words.push(line[at..at + length].to_vec());
        at += length;
    }
    words
}

/// Length of a dash, or of an ellipsis with or without blanks.
fn multi_mark(rest: &[char]) -> Option<usize> {
    for mark in ['-', '.'] {
        let count = rest.iter().take_while(|&&c| c == mark).count();
        if count >= 2 {
            return Some(count);
        }
    }
    let mut pairs = 0;
    while rest.get(pairs * 2) == Some(&'.') && rest.get(pairs * 2 + 1).is_some_and(|&c| is_space(c))
    {
        pairs += 1;
    }
    // The last pair may have to give its period back.
    while pairs >= 2 {
        if rest.get(pairs * 2) == Some(&'.') {
            return Some(pairs * 2 + 1);
        }
        pairs -= 1;
    }
    None
}

/// Length of the word at the start, at least 1.
fn word_length(rest: &[char]) -> usize {
    let stops = |at: usize| match rest.get(at) {
        None => true,
        Some(&c) => is_space(c) || ends_word(c) || multi_mark(&rest[at..]).is_some(),
    };
    (1..rest.len())
        .find(|&at| stops(at) || (rest[at] == ',' && stops(at + 1)))
        .unwrap_or(rest.len())
}

/// A decimal digit of any script.
fn is_digit(character: char) -> bool {
    DIGIT
        .as_ref()
        .is_some_and(|digit| digit.is_match(character.encode_utf8(&mut [0; 4])))
}

static DIGIT: LazyLock<Option<regex::Regex>> = LazyLock::new(|| regex::Regex::new(r"^\d$").ok());
static NUMBER: LazyLock<Option<regex::Regex>> =
    LazyLock::new(|| regex::Regex::new(r"^-?[.,]?\d[\d,.\-]*\z").ok());

fn is_number(lower: &str) -> bool {
    NUMBER.as_ref().is_some_and(|number| number.is_match(lower))
}
