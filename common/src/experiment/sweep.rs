//! `sweep:` of an experiment: lists of values, of which each combination is a point, an experiment of
//! its own. The points are counted without being made, and made one by one.

use std::collections::BTreeMap;

use super::diagnostic::{Diagnostic, Report};
use super::resolved::decides_numbers;
use super::sections::Experiment;
use super::tree::{Node, Value};
use super::{Context, Here, Settings, sweep_read};

/// What an experiment file says.
#[derive(Debug)]
pub enum Reading<'a> {
    /// One experiment, and the profile of the settings that was filled in.
    One(Box<Experiment>, Option<String>),
    /// Many.
    Many(Sweep<'a>),
}

/// An experiment file with a `sweep:`.
pub struct Sweep<'a> {
    pub(super) context: Context<'a>,
    pub(super) path: &'a str,
    pub(super) overrides: &'a [String],
    /// The file with its overrides, without `sweep`.
    pub(super) root: Node,
    pub(super) name: String,
    pub(super) max_running: Option<u32>,
    /// The first varies slowest.
    pub(super) axes: Vec<Axis>,
}

/// Keys whose values go together, and what they are given.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub(super) keys: Vec<String>,
    /// One value for each key.
    pub(super) rows: Vec<Vec<Node>>,
}

/// One point of a sweep.
#[derive(Debug, Clone)]
pub struct Point {
    /// What it sets, by dotted key in the order of the file, as it was written.
    pub set: Vec<(String, String)>,
    /// The experiment, named `<name>-<what the point sets>`.
    pub experiment: Experiment,
    /// The profile of the settings that was filled in.
    pub profile: Option<String>,
}

/// Longest name of a point's experiment: run ids are refs, file names and job names.
const LONGEST_NAME: usize = 64;

impl std::fmt::Debug for Sweep<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sweep")
            .field("name", &self.name)
            .field("max_running", &self.max_running)
            .field("axes", &self.axes)
            .finish_non_exhaustive()
    }
}

/// As [`super::parse_under`], of a file that may hold a `sweep:`. Of a sweep each value is judged by
/// itself; what cannot be together is found by [`Sweep::point`].
///
/// # Errors
/// Every mistake that could be found, in the order of the file, then of the overrides.
pub fn parse_any<'a>(
    path: &'a str,
    text: &str,
    overrides: &'a [String],
    environment: &'a dyn Fn(&str) -> Option<String>,
    settings: &'a Settings,
    here: &'a Here,
) -> Result<Reading<'a>, Vec<Diagnostic>> {
    let context = Context {
        environment,
        settings: Some((settings, here)),
    };
    let mut report = Report::default();
    let reading = sweep_read::read(context, path, text, overrides, &mut report);
    match reading {
        Some(reading) if report.is_empty() => Ok(reading),
        _ => Err(report.into_diagnostics(path, overrides, &settings.names())),
    }
}

impl Sweep<'_> {
    /// Its name: what it says, else the experiment's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many points may run at once.
    #[must_use]
    pub fn max_running(&self) -> Option<u32> {
        self.max_running
    }

    /// Number of points, at most `u64::MAX`.
    #[must_use]
    pub fn count(&self) -> u64 {
        let lengths = self.axes.iter().map(|axis| axis.rows.len() as u64);
        lengths.fold(1, u64::saturating_mul)
    }

    /// How the points come about, in words: `3 optim.lr x 4 seed`.
    #[must_use]
    pub fn shape(&self) -> String {
        let axis = |axis: &Axis| format!("{} {}", axis.rows.len(), axis.keys.join(" + "));
        self.axes.iter().map(axis).collect::<Vec<_>>().join(" x ")
    }

    /// Keys that differ from point to point, in the order of the file.
    #[must_use]
    pub fn keys(&self) -> Vec<&str> {
        let keys = self.axes.iter().flat_map(|axis| &axis.keys);
        keys.map(String::as_str).collect()
    }

    /// What a point sets, by dotted key in the order of the file, as it was written.
    #[must_use]
    pub fn set(&self, number: u64) -> Vec<(String, String)> {
        let place = self.place(number);
        let rows = self.axes.iter().zip(place);
        rows.filter_map(|(axis, at)| Some((axis, axis.rows.get(at)?)))
            .flat_map(|(axis, row)| axis.keys.iter().zip(row))
            .map(|(key, value)| (key.clone(), flow(value)))
            .collect()
    }

    /// Makes a point. `number` is below [`Sweep::count`]; the last axis varies fastest.
    ///
    /// # Errors
    /// Every mistake of its experiment, such as values that cannot be together.
    pub fn point(&self, number: u64) -> Result<Point, Vec<Diagnostic>> {
        let mut report = Report::default();
        let mut root = self.root.clone();
        let set = self.set(number);
        let mut words = Vec::new();
        for (axis, at) in self.axes.iter().zip(self.place(number)) {
            let Some(row) = axis.rows.get(at) else {
                continue;
            };
            for (key, value) in axis.keys.iter().zip(row) {
                if let Err(walked) = root.set(key, value.place, value.clone()) {
                    let message = format!("'{walked}' holds a value, not a group of keys");
                    report.add(value.place, message);
                }
                words.push(self.word(key, &flow(value)));
            }
        }
        let found = self.context.finish(root, &mut report);
        match found {
            Some((mut experiment, profile)) if report.is_empty() => {
                experiment.name = name_of(&experiment.name, &words, number);
                Ok(Point {
                    set,
                    experiment,
                    profile,
                })
            }
            _ => {
                let settings = self.context.settings.map(|(settings, _)| settings.names());
                let names = settings.unwrap_or_default();
                Err(report.into_diagnostics(self.path, self.overrides, &names))
            }
        }
    }

    /// Index into each axis.
    fn place(&self, number: u64) -> Vec<usize> {
        let mut rest = number;
        let mut place: Vec<usize> = self
            .axes
            .iter()
            .rev()
            .map(|axis| {
                let length = axis.rows.len().max(1) as u64;
                let at = rest % length;
                rest /= length;
                at as usize
            })
            .collect();
        place.reverse();
        place
    }

    /// A value with as much of its key as tells it apart: `lr1e-3`, `seed0`, `precision-bf16`.
    fn word(&self, key: &str, value: &str) -> String {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let keys = self.axes.iter().flat_map(|axis| &axis.keys);
        let alike = keys.filter(|other| last(other) == last(key)).count();
        let short = if alike > 1 { key.to_owned() } else { last(key) };
        // The end of a path says most of it.
        let value = value.trim_end_matches('/').rsplit('/').next();
        let value = plain(value.unwrap_or_default());
        if short == "command" || key == "model.name" {
            return value;
        }
        let dash = if value.starts_with(|c: char| c.is_ascii_digit()) {
            ""
        } else {
            "-"
        };
        format!("{}{dash}{value}", plain(&short))
    }
}

/// What a point of a sweep is known by across commits and changes of the sweep's file: the recipe, and
/// what it sets that no recipe covers, such as variables of a command.
#[must_use]
pub fn point_identity<'a>(
    recipe_hash: &str,
    set: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let beside: BTreeMap<&str, String> = set
        .into_iter()
        .filter(|(key, _)| !decides_numbers(key))
        .map(|(key, text)| (key, canonical(text)))
        .collect();
    let beside: Vec<String> = beside
        .iter()
        .map(|(key, text)| format!(" {key}={text}"))
        .collect();
    format!("{recipe_hash}{}", beside.concat())
}

/// `1e-3` and `0.001` are one value.
fn canonical(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => number.to_string(),
        _ => text.to_owned(),
    }
}

/// `<name>-<words>`; with the point's number in place of words that are too long.
fn name_of(name: &str, words: &[String], number: u64) -> String {
    let whole = format!("{name}-{}", words.join("-"));
    let whole = whole.trim_end_matches(['.', '-']);
    if whole.len() <= LONGEST_NAME && !whole.contains("..") && !whole.ends_with(".lock") {
        return whole.to_owned();
    }
    let number = format!("-p{number:03}");
    let room = LONGEST_NAME - number.len();
    let cut: String = name.chars().take(room).collect();
    format!("{}{number}", cut.trim_end_matches(['.', '-']))
}

/// With nothing but what names may hold.
fn plain(text: &str) -> String {
    let mut clean = String::new();
    for c in text.chars() {
        let c = match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') => c,
            _ => '-',
        };
        if !(c == '-' && clean.ends_with('-')) {
            clean.push(c);
        }
    }
    clean.trim_matches('-').to_owned()
}

/// A value on one line, as it was written.
pub(super) fn flow(node: &Node) -> String {
    match &node.value {
        Value::Scalar { text, .. } => text.clone(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(entries) => {
            let entries = entries.iter();
            let entries: Vec<String> = entries
                .map(|entry| format!("{}: {}", entry.key, flow(&entry.node)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}
