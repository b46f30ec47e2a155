//! Scores on the page: the paper's table, every figure, and where the errors are.

use std::collections::BTreeMap;

use rocket_common::run_dir::RunDir;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Facts;
use super::sections::{dash, percent};
use crate::evaluation::{OfStep, Results};

/// Classes that are listed of a set, those with the most errors first.
const CLASSES: usize = 20;

/// The paper's table of one checkpoint: sets as columns, heads as rows.
#[derive(Debug, Serialize)]
pub(super) struct ScoreTable {
    title: String,
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl ScoreTable {
    /// The table of the checkpoint that was scored on the most sets, and one of the others.
    pub(super) fn all(results: &Results) -> Vec<Self> {
        let others = results.others().map(|(heading, rows)| Self {
            title: "Other steps, head z, percent".to_owned(),
            heading,
            rows,
        });
        results
            .main()
            .map(Self::of)
            .into_iter()
            .chain(others)
            .collect()
    }

    fn of(of: &OfStep) -> Self {
        let (heading, rows) = of.cells();
        let mut title = format!("Step {}, percent; top-1", of.step);
        for note in of.notes() {
            title.push_str(&format!("; {note}"));
        }
        Self {
            title,
            heading,
            rows,
        }
    }
}

/// A head's figures on a set.
#[derive(Debug, Serialize)]
pub(super) struct ScoreRow {
    dataset: String,
    step: u64,
    head: String,
    top1: String,
    top5: String,
    mean: String,
    chance: String,
    samples: String,
    classes: String,
}

/// The heads of every evaluation, as `eval/` has them.
pub(super) fn rows(facts: &Facts) -> Vec<ScoreRow> {
    let figure = |value: &Value, name: &str| {
        value
            .get(name)
            .and_then(Value::as_f64)
            .map_or_else(dash, percent)
    };
    let count = |value: &Value, name: &str| {
        value
            .get(name)
            .and_then(Value::as_u64)
            .map_or_else(dash, |n| n.to_string())
    };
    let text = |value: &Value, name: &str| {
        value
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut rows = Vec::new();
    for result in &facts.scores {
        let heads = result.get("heads").and_then(Value::as_array);
        for head in heads.into_iter().flatten() {
            let name = text(head, "head");
            rows.push(ScoreRow {
                dataset: text(result, "dataset"),
                step: result
                    .get("step")
                    .and_then(Value::as_u64)
                    .unwrap_or_default(),
                top1: figure(head, "top1"),
                top5: figure(head, "top5"),
                mean: figure(head, "mean_per_class"),
                chance: figure(result, "chance"),
                samples: count(result, "samples"),
                classes: count(result, "classes"),
                head: name,
            });
        }
    }
    rows
}

/// `eval/classes/<set>-step-<n>.json`, as the trainer writes it on request.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Details {
    dataset: String,
    step: u64,
    classes: Vec<String>,
    images: Vec<u64>,
    heads: Vec<HeadDetails>,
}

#[derive(Debug, Clone, Deserialize)]
struct HeadDetails {
    head: String,
    top1: Vec<Option<f64>>,
    confusion: Vec<(usize, usize, u64)>,
}

impl Details {
    /// All of a run, the latest checkpoint first. Files that are none are passed over.
    pub(super) fn read(run: &RunDir) -> Vec<Self> {
        let entries = std::fs::read_dir(run.eval_dir().join("classes"));
        let mut all: Vec<Self> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok())
            .collect();
        all.sort_by(|a, b| (b.step, &a.dataset).cmp(&(a.step, &b.dataset)));
        all
    }
}

/// Where the errors on a set are.
#[derive(Debug, Serialize)]
pub(super) struct ErrorTable {
    title: String,
    /// Names of heads.
    heads: Vec<String>,
    rows: Vec<ErrorRow>,
    /// Classes that are not listed.
    left_out: usize,
}

#[derive(Debug, Serialize)]
struct ErrorRow {
    class: String,
    images: u64,
    /// Top-1 by head.
    top1: Vec<String>,
    /// What the first head takes it for most often, if it errs.
    taken_for: String,
}

impl ErrorTable {
    pub(super) fn of(details: &Details) -> Self {
        let name = |class: usize| details.classes.get(class).cloned().unwrap_or_default();
        let confused = |head: &HeadDetails| {
            let mut of: BTreeMap<usize, (u64, usize, u64)> = BTreeMap::new();
            for &(class, taken_for, images) in &head.confusion {
                if class != taken_for {
                    let (all, most, count) = of.entry(class).or_insert((0, taken_for, images));
                    *all += images;
                    if images > *count {
                        (*most, *count) = (taken_for, images);
                    }
                }
            }
            of
        };
        let errors = details.heads.first().map(confused).unwrap_or_default();
        let mut worst: Vec<(usize, u64, usize, u64)> = errors
            .into_iter()
            .map(|(class, (all, most, count))| (class, all, most, count))
            .collect();
        worst.sort_by_key(|(class, all, ..)| (std::cmp::Reverse(*all), *class));
        let rows: Vec<ErrorRow> = worst
            .iter()
            .take(CLASSES)
            .map(|&(class, _, most, count)| ErrorRow {
                class: name(class),
                images: details.images.get(class).copied().unwrap_or_default(),
                top1: details
                    .heads
                    .iter()
                    .map(|head| head.top1.get(class).copied().flatten())
                    .map(|top1| top1.map_or_else(dash, percent))
                    .collect(),
                taken_for: format!("{} ({count})", name(most)),
            })
            .collect();
        Self {
            title: format!("{}, step {}", details.dataset, details.step),
            heads: details.heads.iter().map(|head| head.head.clone()).collect(),
            left_out: worst.len().saturating_sub(rows.len()),
            rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_with_the_most_errors_come_first() {
        let details = Details {
            dataset: "pets".into(),
            step: 7,
            classes: ["cat", "dog", "hen"].map(str::to_owned).to_vec(),
            images: vec![10, 20, 5],
            heads: vec![
                HeadDetails {
                    head: "z".into(),
                    top1: vec![Some(80.0), Some(75.0), Some(100.0)],
                    confusion: vec![
                        (0, 0, 8),
                        (0, 2, 2),
                        (1, 0, 2),
                        (1, 1, 15),
                        (1, 2, 3),
                        (2, 2, 5),
                    ],
                },
                HeadDetails {
                    head: "h".into(),
                    top1: vec![Some(90.0), None, Some(100.0)],
                    confusion: vec![(0, 1, 1)],
                },
            ],
        };
        let table = ErrorTable::of(&details);
        let rows: Vec<String> = (table.rows.iter())
            .map(|row| {
                format!(
                    "{} {} {} {}",
                    row.class,
                    row.images,
                    row.top1.join(" "),
                    row.taken_for
                )
            })
            .collect();
        assert_eq!(
            rows,
            ["dog 20 75.00 % - hen (3)", "cat 10 80.00 % 90.00 % hen (2)"]
        );
        assert_eq!(
            (table.left_out, table.title),
            (0, "pets, step 7".to_owned())
        );
    }
}
