//! Results of a list's runs against expected numbers, over seeds.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use rocket_common::error::Result;
use rocket_common::events::{self, Status};
use rocket_common::run_dir;
use serde::Serialize;
use serde_json::Value;

use super::{Derived, Expected};
use crate::output::{Report, Table};

/// Where expected numbers come from.
pub(crate) enum Source {
    /// Nowhere: results are shown.
    None,
    /// A file.
    File(Expected),
    /// Runs of the same names in another folder, and how far off is near enough.
    Runs(Results, f64),
}

/// What the runs of a folder came to, by their experiments' names.
#[derive(Debug, Default)]
pub(crate) struct Results(BTreeMap<String, Vec<Found>>);

#[derive(Debug, Clone)]
struct Found {
    recipe: String,
    status: Status,
    metrics: BTreeMap<String, f64>,
}

impl Results {
    /// Reads all runs of a folder. A damaged one is said and passed over.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut all: BTreeMap<String, Vec<Found>> = BTreeMap::new();
        for run in run_dir::list(root)? {
            let read = || -> Result<_> {
                let manifest = run.manifest()?;
                let mut state = events::derive(&events::read(&run)?);
                if run.is_done() {
                    state.status = Status::Finished;
                }
                Ok((manifest, state))
            };
            match read() {
                Ok((manifest, state)) => all.entry(manifest.name).or_default().push(Found {
                    recipe: manifest.recipe_hash,
                    status: state.status,
                    metrics: state.metrics,
                }),
                Err(error) => eprintln!("warning: run {}: {error}", run.id()),
            }
        }
        Ok(Self(all))
    }

    /// The run that counts: of this recipe, a finished one before others, the last one.
    fn of(&self, name: &str, recipe: &str) -> Option<&Found> {
        let runs = self.0.get(name).into_iter().flatten();
        runs.filter(|run| run.recipe == recipe)
            .max_by_key(|run| run.status == Status::Finished)
    }

    fn is_other(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Mean of a metric over the finished runs of names.
    fn mean(&self, names: &[&str], metric: &str) -> Option<f64> {
        let runs = names.iter().filter_map(|name| self.0.get(*name)).flatten();
        let done = runs.filter(|run| run.status == Status::Finished);
        let values: Vec<f64> = done
            .filter_map(|run| run.metrics.get(metric).copied())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// Nothing was expected.
    Shown,
    /// Within the tolerance.
    Met,
    /// Outside of it.
    Missed,
    /// Not every run is finished, or none has the metric.
    Open,
}

/// A metric of the runs that differ in their seed alone.
#[derive(Debug, Serialize)]
struct Row {
    /// Name without the seed.
    name: String,
    metric: Option<String>,
    /// Finished runs with the metric.
    count: usize,
    /// Runs in the list.
    wanted: usize,
    mean: Option<f64>,
    /// Over seeds, of a sample; absent for one run.
    deviation: Option<f64>,
    expected: Option<f64>,
    tolerance: Option<f64>,
    verdict: Verdict,
    /// Runs that do not count, and why.
    open: Vec<String>,
}

/// The table.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    rows: Vec<Row>,
}

impl Check {
    /// Compares the runs of a list.
    pub(crate) fn new(list: &[Derived], results: &Results, source: &Source) -> Self {
        let mut groups: Vec<(Value, Vec<&Derived>)> = Vec::new();
        for derived in list {
            let key = without_seed(derived);
            match groups.iter_mut().find(|(other, _)| *other == key) {
                Some((_, group)) => group.push(derived),
                None => groups.push((key, vec![derived])),
            }
        }
        let rows = groups
            .iter()
            .flat_map(|(_, group)| rows(group, results, source))
            .collect();
        Self { rows }
    }

    /// Whether nothing that was expected was missed, and no run is open.
    pub(crate) fn passed(&self) -> bool {
        let fine = |row: &Row| matches!(row.verdict, Verdict::Met | Verdict::Shown);
        self.rows.iter().all(fine)
    }

    /// As a table of Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("| ");
        text.push_str(&HEADINGS.join(" | "));
        text.push_str(" |\n|---|---|---:|---:|---:|---|\n");
        for row in &self.rows {
            text.push_str(&format!("| {} |\n", row.cells().join(" | ")));
        }
        text
    }
}

const HEADINGS: [&str; 6] = ["RUN", "METRIC", "SEEDS", "MEAN", "EXPECTED", "RESULT"];

impl Row {
    fn cells(&self) -> Vec<String> {
        let percent = |value: f64| format!("{:.2}", value * 100.0);
        let dash = || "-".to_owned();
        let with = |value: Option<f64>, around: Option<f64>| match (value, around) {
            (Some(value), Some(around)) => format!("{} ± {} %", percent(value), percent(around)),
            (Some(value), None) => format!("{} %", percent(value)),
            _ => dash(),
        };
        let result = match self.verdict {
            Verdict::Shown => String::new(),
            Verdict::Met => "ok".to_owned(),
            Verdict::Missed => "OUTSIDE".to_owned(),
            Verdict::Open => "open".to_owned(),
        };
        let result = [result].into_iter().chain(self.open.iter().cloned());
        let result: Vec<String> = result.filter(|part| !part.is_empty()).collect();
        vec![
            self.name.clone(),
            self.metric.clone().unwrap_or_else(dash),
            format!("{}/{}", self.count, self.wanted),
            with(self.mean, self.deviation),
            with(self.expected, self.tolerance),
            result.join("; "),
        ]
    }
}

impl Report for Check {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&HEADINGS).right(&[2, 3, 4]);
        for row in &self.rows {
            table.row(row.cells());
        }
        table.write(out)
    }
}

/// What runs have in common that differ in their seed.
fn without_seed(derived: &Derived) -> Value {
    let mut recipe = derived.experiment.recipe();
    if let Some(keys) = recipe.as_object_mut() {
        keys.remove("seed");
    }
    recipe
}

/// `name-seed_3` is `name`.
fn group_name(name: &str) -> String {
    match name.rsplit_once("-seed_") {
        Some((front, seed)) if seed.chars().all(|digit| digit.is_ascii_digit()) => front.to_owned(),
        _ => name.to_owned(),
    }
}

fn rows(group: &[&Derived], results: &Results, source: &Source) -> Vec<Row> {
    let names: Vec<&str> = group
        .iter()
        .map(|run| run.experiment.name.as_str())
        .collect();
    let name = group_name(names[0]);
    let mut open = Vec::new();
    let mut done: Vec<&Found> = Vec::new();
    for derived in group {
        let run = derived.experiment.name.as_str();
        match results.of(run, &derived.experiment.recipe_hash()) {
            Some(found) if found.status == Status::Finished => done.push(found),
            Some(found) => open.push(format!("{run} is {}", found.status)),
            None if results.is_other(run) => {
                open.push(format!("{run} was run with another recipe"));
            }
            None => open.push(format!("{run} was not run")),
        }
    }
    let mut wanted: Vec<(String, Option<f64>, Option<f64>)> = match source {
        Source::File(expected) => {
            let by_run = expected.of(names[0]).chain(expected.of(&name));
            let mut all: Vec<_> = by_run
                .map(|(metric, value, around)| (metric.to_owned(), Some(value), Some(around)))
                .collect();
            all.dedup();
            all
        }
        _ => Vec::new(),
    };
    if wanted.is_empty() {
        // What decides the best checkpoint; everything else is in 'rocket show'.
        let metrics = done.iter().flat_map(|run| run.metrics.keys());
        let mut metrics: Vec<&String> = metrics.filter(|name| name.ends_with("z_top1")).collect();
        metrics.sort();
        metrics.dedup();
        wanted = metrics
            .into_iter()
            .map(|metric| match source {
                Source::Runs(earlier, around) => {
                    let before = earlier.mean(&names, metric);
                    (metric.clone(), before, before.map(|_| *around))
                }
                _ => (metric.clone(), None, None),
            })
            .collect();
    }
    let row = |metric: Option<String>, expected: Option<f64>, tolerance: Option<f64>| {
        let value = |run: &&Found| run.metrics.get(metric.as_ref()?).copied();
        let values: Vec<f64> = done.iter().filter_map(value).collect();
        let (mean, deviation) = statistics(&values);
        let count = match metric {
            Some(_) => values.len(),
            None => done.len(),
        };
        let verdict = match (mean, expected, tolerance) {
            _ if count < group.len() => Verdict::Open,
            (Some(mean), Some(expected), Some(around)) if (mean - expected).abs() <= around => {
                Verdict::Met
            }
            (Some(_), Some(_), Some(_)) => Verdict::Missed,
            _ => Verdict::Shown,
        };
        Row {
            name: name.clone(),
            metric,
            count,
            wanted: group.len(),
            mean,
            deviation,
            expected,
            tolerance,
            verdict,
            open: open.clone(),
        }
    };
    if wanted.is_empty() {
        return vec![row(None, None, None)];
    }
    let wanted = wanted.into_iter();
    wanted
        .map(|(metric, expected, tolerance)| row(Some(metric), expected, tolerance))
        .collect()
}

/// Mean and deviation of a sample.
fn statistics(values: &[f64]) -> (Option<f64>, Option<f64>) {
    let count = values.len() as f64;
    if values.is_empty() {
        return (None, None);
    }
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
    (Some(mean), deviation)
}
