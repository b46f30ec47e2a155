//! Words of a command line to flags with values, as Python's argparse takes them.

use rocket_common::run_dir::suggest;

use super::flags::{FLAGS, Flag, SHORT};

/// A flag with what was given to it.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) flag: &'static Flag,
    pub(super) values: Vec<String>,
}

/// Splits words into flags; every mistake is a sentence.
pub(super) fn parse(words: &[String]) -> Result<Vec<Given>, Vec<String>> {
    let (mut given, mut wrong) = (Vec::new(), Vec::new());
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let (name, inline) = split(word);
        let flag = match find(name) {
            Ok(flag) => flag,
            Err(message) => {
                wrong.push(message);
                // Its values, if it has any, are nobody's.
                while words.next_if(|word| !is_flag(word)).is_some() {}
                continue;
            }
        };
        let wanted = flag.fate.values();
        if wanted == 0 && inline.is_some() {
            wrong.push(format!("{} is a switch and takes no value", flag.name));
            continue;
        }
        let mut values: Vec<String> = inline.map(str::to_owned).into_iter().collect();
        while values.len() < wanted {
            let Some(value) = words.next_if(|word| !is_flag(word)) else {
                break;
            };
            values.push(value.to_owned());
        }
        if values.len() < wanted {
            let count = ["no value", "a value", "two values"][wanted.min(2)];
            wrong.push(format!("{} needs {count}", flag.name));
            continue;
        }
        given.push(Given { flag, values });
    }
    if wrong.is_empty() {
        Ok(given)
    } else {
        Err(wrong)
    }
}

/// `--flag=value`, and `-j8`.
fn split(word: &str) -> (&str, Option<&str>) {
    if !word.starts_with("--")
        && let Some(rest) = word.strip_prefix(SHORT.0)
        && !rest.is_empty()
    {
        return (SHORT.0, Some(rest.strip_prefix('=').unwrap_or(rest)));
    }
    match word.split_once('=') {
        Some((name, value)) if word.starts_with("--") => (name, Some(value)),
        _ => (word, None),
    }
}

/// By its name, or the beginning of one name alone.
fn find(name: &str) -> Result<&'static Flag, String> {
    if !name.starts_with('-') {
        return Err(format!("'{name}' is no flag, and belongs to none"));
    }
    let name = if name == SHORT.0 { SHORT.1 } else { name };
    if let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) {
        return Ok(flag);
    }
    let begun: Vec<&Flag> = FLAGS
        .iter()
        .filter(|flag| name.len() > 2 && flag.name.starts_with(name))
        .collect();
    match begun[..] {
        [flag] => Ok(flag),
        [] => {
            let names = FLAGS.iter().map(|flag| flag.name);
            let nearest = suggest(name, names).map(|near| format!("; did you mean {near}?"));
            Err(format!(
                "unknown flag {name}{}",
                nearest.unwrap_or_default()
            ))
        }
        _ => {
            let names: Vec<&str> = begun.iter().map(|flag| flag.name).collect();
            Err(format!("{name} could be {}", names.join(" or ")))
        }
    }
}

/// A negative number is a value.
fn is_flag(word: &str) -> bool {
    word.starts_with('-') && word.len() > 1 && word.parse::<f64>().is_err()
}
