//! HTML character references, as Python's `html.unescape` replaces them: the rules of HTML 5,
//! but control characters and non-characters vanish.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Names (with their semicolon, where it belongs to them) and what they stand for; the table of the
/// HTML standard, one `name<TAB>code points` a line.
static ENTITIES: LazyLock<HashMap<&'static str, String>> = LazyLock::new(|| {
    include_str!("entities.tsv")
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, codes)| {
            let text = codes
                .split(' ')
                .filter_map(|code| u32::from_str_radix(code, 16).ok())
                .filter_map(char::from_u32)
                .collect();
            (name, text)
        })
        .collect()
});

/// What the numbers 0x80 to 0x9f stand for (Windows-1252, whatever the page's encoding).
pub(super) const WINDOWS: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}',
    '\u{2c6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}',
    '\u{90}', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}',
    '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}', '\u{178}',
];

/// Replaces all character references once.
#[must_use]
pub fn unescape(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        let after = &rest[start + 1..];
        let (length, replacement) = reference(after);
        match replacement {
            Some(replacement) => out.push_str(&replacement),
            None => {
                out.push('&');
                out.push_str(&after[..length]);
            }
        }
        rest = &after[length..];
    }
    out.push_str(rest);
    out
}

/// Length of the reference at the start of `text` (after its `&`), and what it stands for.
fn reference(text: &str) -> (usize, Option<String>) {
    if let Some(digits) = text.strip_prefix('#') {
        let (prefix, base, digits) = match digits.strip_prefix(['x', 'X']) {
            Some(digits) => (2, 16, digits),
            None => (1, 10, digits),
        };
        let count = digits
            .find(|c: char| !c.is_digit(base))
            .unwrap_or(digits.len());
        if count > 0 {
            let number = digits[..count]
                .chars()
                .filter_map(|digit| digit.to_digit(base))
                .fold(0u32, |all, digit| {
                    all.saturating_mul(base).saturating_add(digit)
                });
            let semicolon = usize::from(digits[count..].starts_with(';'));
            return (prefix + count + semicolon, Some(numbered(number)));
        }
        // A name may not begin with '#'.
        return (0, None);
    }
    let stop = |c: char| matches!(c, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';');
    let mut length: usize = text
        .chars()
        .take(32)
        .take_while(|&c| !stop(c))
        .map(char::len_utf8)
        .sum();
    if length == 0 {
        return (0, None);
    }
    if text[length..].starts_with(';') {
        length += 1;
    }
    let name = &text[..length];
    if let Some(value) = ENTITIES.get(name) {
        return (length, Some(value.clone()));
    }
    // Some old names need no semicolon: the longest one that fits, of at least two characters.
    let ends = name.char_indices().map(|(end, _)| end).skip(2);
    let longest = ends
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .find_map(|end| ENTITIES.get(&name[..end]).map(|value| (end, value)));
    match longest {
        Some((end, value)) => (length, Some(format!("{value}{}", &name[end..]))),
        None => (length, None),
    }
}

fn numbered(number: u32) -> String {
    let character = match number {
        0 => '\u{fffd}',
        0x0d => '\r',
        0x80..=0x9f => WINDOWS[(number - 0x80) as usize],
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => return String::new(),
        _ if number <= 0x10_ffff && number & 0xfffe == 0xfffe => return String::new(),
        _ => char::from_u32(number).unwrap_or('\u{fffd}'),
    };
    character.to_string()
}
