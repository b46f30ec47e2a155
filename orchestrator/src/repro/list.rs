//! The list: headings, commands, and lines that vary the command above them.

use std::path::Path;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use super::flags::Fate;
use super::words::{Given, parse};

/// A command with what the lines below it vary.
#[derive(Debug)]
pub(super) struct Command {
    /// Line in the list, from 1.
    pub(super) line: usize,
    /// Headings above it, the outermost first.
    pub(super) section: Vec<String>,

    pub(super) flags: Vec<Given>,
    /// Each is a grid of its own.
    pub(super) grids: Vec<Grid>,
}

/// Flags with several values each.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    pub(super) line: usize,
    /// A flag, and its values.
    pub(super) axes: Vec<(Given, Vec<String>)>,
}

impl Grid {
    /// Every combination, the last flag's values changing first.
    pub(super) fn points(&self) -> Vec<Vec<(&Given, &str)>> {
        let mut points = vec![Vec::new()];
        for (given, values) in &self.axes {
            points = points
                .into_iter()
                .flat_map(|point: Vec<(&Given, &str)>| {
                    values.iter().map(move |value| {
                        let mut point = point.clone();
                        point.push((given, value.as_str()));
                        point
                    })
                })
                .collect();
        }
        points
    }
}

/// Programs that take the flags.
const PROGRAMS: [&str; 2] = ["run_with_submitit.py", "main.py"];

/// Reads a list. Line ends of Windows and a byte order mark are passed over.
///
/// # Errors
/// Every mistake, with file and line.
pub(super) fn read(path: &Path) -> Result<Vec<Command>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::io("read the list of experiments", path, error).with_kind(ExitKind::Usage)
    })?;
    let shown = path.display().to_string();
    of_text(&text).map_err(|mistakes| super::faults(&shown, &mistakes))
}

/// A mistake with its line.
pub(super) type Mistake = (usize, String);

fn of_text(text: &str) -> Result<Vec<Command>, Vec<Mistake>> {
    let mut commands: Vec<Command> = Vec::new();
    let mut headings: Vec<(usize, String)> = Vec::new();
    let mut mistakes = Vec::new();
    // After a command that cannot be read, lines below it vary nothing.
    let mut open = None;
    for (number, line) in lines(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        let line = line.trim();
        if line.starts_with('#') {
            let depth = line.chars().take_while(|mark| *mark == '#').count();
            let title = line[depth..].trim();
            // '#wandb ...' is a remark; a heading has a blank behind its marks.
            if line[depth..].starts_with([' ', '\t']) && !title.is_empty() {
                headings.retain(|(above, _)| *above < depth);
                headings.push((depth, title.to_owned()));
                open = None;
            }
            continue;
        }
        let mut words = match shell_words::split(line) {
            Ok(words) => words,
            Err(_) => {
                mistakes.push((number, "a quote is left open".to_owned()));
                open = Some(false);
                continue;
            }
        };
        if let Some(remark) = words.iter().position(|word| word.starts_with('#')) {
            words.truncate(remark);
        }
        let Some(first) = words.first() else { continue };
        if first.starts_with('-') {
            match open {
                Some(true) => {}
                Some(false) => continue,
                None => {
                    mistakes.push((
                        number,
                        "a line of flags varies the command above it, and there is none".to_owned(),
                    ));
                    continue;
                }
            }
            match grid(number, &words) {
                Ok(grid) => commands
                    .last_mut()
                    .into_iter()
                    .for_each(|command| command.grids.push(grid.clone())),
                Err(found) => mistakes.extend(found.into_iter().map(|text| (number, text))),
            }
            continue;
        }
        open = Some(false);
        match command(&words) {
            Ok(flags) => {
                commands.push(Command {
                    line: number,
                    section: headings.iter().map(|(_, title)| title.clone()).collect(),
                    flags,
                    grids: Vec::new(),
                });
                open = Some(true);
            }
            Err(found) => mistakes.extend(found.into_iter().map(|text| (number, text))),
        }
    }
    if mistakes.is_empty() {
        Ok(commands)
    } else {
        Err(mistakes)
    }
}

/// Lines with their numbers; one that ends in a backslash goes on in the next.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut all: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_end();
        let (part, more) = match line.strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        match all.last_mut() {
            Some((_, whole)) if goes_on => {
                whole.push(' ');
                whole.push_str(part.trim_start());
            }
            _ => all.push((index + 1, part.to_owned())),
        }
        goes_on = more;
    }
    all
}

/// The flags of one command line, as a list or a person has it.
///
/// # Errors
/// Every mistake, a sentence each.
pub(super) fn command(words: &[String]) -> Result<Vec<Given>, Vec<String>> {
    let is_program = |word: &String| {
        let name = Path::new(word).file_name();
        name.is_some_and(|name| PROGRAMS.iter().any(|program| name == *program))
    };
    let begin = match words.iter().position(is_program) {
        Some(place) => place + 1,
        None if words.first().is_some_and(|word| word.starts_with('-')) => 0,
        None => {
            let all = PROGRAMS.join(" nor ");
            return Err(vec![format!(
                "'{}' starts neither {all}",
                words.first().map_or("", String::as_str)
            )]);
        }
    };
    parse(&words[begin..])
}

fn grid(line: usize, words: &[String]) -> Result<Grid, Vec<String>> {
    let mut wrong = Vec::new();
    let mut axes: Vec<(Given, Vec<String>)> = Vec::new();
    for given in parse(words)? {
        let name = given.flag.name;
        if let Fate::Pair(_) = given.flag.fate {
            wrong.push(format!("{name} takes two values, and cannot be varied"));
            continue;
        }
        let values: Vec<String> = match given.values.first() {
            Some(text) => text.split(',').map(|part| part.trim().to_owned()).collect(),
            None => vec![String::new()],
        };
        if !given.values.is_empty() && values.iter().any(String::is_empty) {
            wrong.push(format!(
                "{name} {} has an empty value between its commas",
                given.values[0]
            ));
        }
        if axes.iter().any(|(other, _)| other.flag.name == name) {
            wrong.push(format!("{name} is varied twice in one line"));
        }
        axes.push((given, values));
    }
    if wrong.is_empty() {
        Ok(Grid { line, axes })
    } else {
        Err(wrong)
    }
}
