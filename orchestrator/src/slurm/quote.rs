//! Texts in batch scripts. A text gets into a template only through one of these filters: what is
//! printed without one is refused, so that no template can forget it.

use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

/// Longest argument of a `#SBATCH` line: sbatch reads it into a buffer of 8192 bytes.
const LONGEST: usize = 8000;

/// An environment for templates of batch scripts.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment.set_auto_escape_callback(|_| AutoEscape::Custom("batch script"));
    environment.set_formatter(format);
    environment.add_filter("directive", |text: String| safe(directive(&text)));
    environment.add_filter("shell", |text: String| safe(shell(&text)));
    environment.add_filter("variable", |text: String| safe(variable(&text)));
    environment.add_filter("pattern", |text: String| safe(pattern(&text)));
    // Code by design: the experiment's author wrote it to be run.
    environment.add_filter("code", |text: String| safe(Ok(text)));
    environment
}

/// Numbers, texts of the template itself and what a filter made safe.
fn format(out: &mut Output<'_>, _: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let plain = |text: &str| {
        let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        text.chars().all(ordinary)
    };
    let printable = match value.kind() {
        ValueKind::Number => true,
        ValueKind::String => value.is_safe() || value.as_str().is_some_and(plain),
        _ => false,
    };
    if !printable {
        let words = format!("a template prints {value:?} without a filter that quotes it");
        return Err(Error::new(ErrorKind::InvalidOperation, words));
    }
    write!(out, "{value}").map_err(Error::from)
}

fn safe(quoted: Result<String, String>) -> Result<Value, Error> {
    quoted
        .map(Value::from_safe_string)
        .map_err(|wrong| Error::new(ErrorKind::InvalidOperation, wrong))
}

/// Whether a text needs no quotes, for sbatch and for a shell.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '-' | '_' | '.' | '/' | ':' | ',' | '=' | '@' | '+' | '%')
    };
    !text.is_empty() && text.chars().all(plain)
}

fn check(text: &str) -> Result<(), String> {
    match text.chars().find(|c| c.is_control() && *c != '\t') {
        Some(_) => Err(format!(
            "'{}' holds a line break or another control character",
            text.escape_debug()
        )),
        None => Ok(()),
    }
}

/// An argument of a `#SBATCH` line. Its quotes are sbatch's own: a backslash escapes in single quotes
/// too, an unquoted `#` ends the line, nothing is expanded.
///
/// # Errors
/// The text holds a control character, or is too long.
pub(super) fn directive(text: &str) -> Result<String, String> {
    check(text)?;
    if text.len() > LONGEST {
        return Err(format!(
            "a text of {} bytes is longer than the {LONGEST} that Slurm reads",
            text.len()
        ));
    }
    if is_plain(text) {
        return Ok(text.to_owned());
    }
    Ok(format!(
        "'{}'",
        text.replace('\\', r"\\").replace('\'', r"\'")
    ))
}

/// One word of a shell's command line.
///
/// # Errors
/// The text holds a control character.
pub(super) fn shell(text: &str) -> Result<String, String> {
    check(text)?;
    if is_plain(text) && !text.contains('=') {
        return Ok(text.to_owned());
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

fn variable(name: &str) -> Result<String, String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.starts_with(|c: char| word(c) && !c.is_ascii_digit()) && name.chars().all(word) {
        return Ok(name.to_owned());
    }
    let shown = name.escape_debug();
    Err(format!(
        "'{shown}' is not the name of an environment variable"
    ))
}

/// Names with wildcards of `case`.
fn pattern(text: &str) -> Result<String, String> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '*' | '|');
    if text.chars().all(word) {
        return Ok(text.to_owned());
    }
    Err(format!("'{}' is not a pattern", text.escape_debug()))
}
