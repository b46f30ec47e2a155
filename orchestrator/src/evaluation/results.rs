//! The results in a run's `eval/`: the paper's table, with sets as columns and heads as rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};

use rocket_common::run_dir::RunDir;
use serde::{Deserialize, Serialize};

use crate::output::{Report, Table};

/// One set's result, as the trainer writes it; what else stands in the file is not needed here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Scored {
    /// The set.
    pub(crate) dataset: String,
    /// Optimiser steps of the checkpoint.
    pub(crate) step: u64,
    /// Images, each counted once.
    #[serde(default)]
    pub(crate) samples: u64,
    /// What the set is published with.
    #[serde(default)]
    pub(crate) metric: String,
    /// Figures by head, percent.
    pub(crate) heads: Vec<Figures>,
}

/// Figures of one head in percent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// `z`, `h`, `zh_0.1`, ...
    pub(crate) head: String,
    /// The image's class is the best.
    pub(crate) top1: f64,
    /// Mean of the classes' top-1.
    #[serde(default)]
    pub(crate) mean_per_class: Option<f64>,
    /// Area under the ROC curve.
    #[serde(default)]
    pub(crate) roc_auc: Option<f64>,
}

impl Scored {
    /// The figure that the set is published with, of one head.
    fn figure(&self, head: &str) -> Option<f64> {
        let figures = self.heads.iter().find(|figures| figures.head == head)?;
        match self.metric.as_str() {
            "mean_per_class" => figures.mean_per_class,
            "roc_auc" => figures.roc_auc,
            _ => Some(figures.top1),
        }
    }

    /// The published figure's name where it is not top-1.
    fn note(&self) -> Option<&'static str> {
        match self.metric.as_str() {
            "mean_per_class" => Some("mean per class"),
            "roc_auc" => Some("ROC-AUC"),
            _ => None,
        }
    }
}

/// All results of one checkpoint.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OfStep {
    /// Optimiser steps of the checkpoint.
    pub(crate) step: u64,
    /// Heads, the rows.
    pub(crate) heads: Vec<String>,
    /// Sets, the columns.
    pub(crate) sets: Vec<Scored>,
    /// By head, in the order of `heads`: the mean of the published figures over the sets.
    pub(crate) average: Vec<Option<f64>>,
}

impl OfStep {
    fn new(step: u64, sets: Vec<Scored>) -> Self {
        let mut heads: Vec<String> = Vec::new();
        for figures in sets.iter().flat_map(|set| &set.heads) {
            if !heads.contains(&figures.head) {
                heads.push(figures.head.clone());
            }
        }
        let average = heads
            .iter()
            .map(|head| {
                // Over all sets or not at all: averages over different sets cannot be compared.
                let all: Option<Vec<f64>> = sets.iter().map(|set| set.figure(head)).collect();
                let all = all.filter(|all| !all.is_empty())?;
                Some(all.iter().sum::<f64>() / all.len() as f64)
            })
            .collect();
        Self {
            step,
            heads,
            sets,
            average,
        }
    }

    /// Cells of the table: a heading, and a row per head.
    pub(crate) fn cells(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let mut heading = vec!["head".to_owned()];
        heading.extend(self.sets.iter().map(|set| set.dataset.clone()));
        heading.push("average".to_owned());
        let rows = self
            .heads
            .iter()
            .zip(&self.average)
            .map(|(head, average)| {
                let mut row = vec![head.clone()];
                row.extend(self.sets.iter().map(|set| percent(set.figure(head))));
                row.push(percent(*average));
                row
            })
            .collect();
        (heading, rows)
    }

    /// Which sets are published with another figure than top-1, in words.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut by_note: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for set in &self.sets {
            if let Some(note) = set.note() {
                by_note.entry(note).or_default().push(&set.dataset);
            }
        }
        by_note
            .into_iter()
            .map(|(note, sets)| format!("{note}: {}", sets.join(", ")))
            .collect()
    }
}

/// Every result of a run, the latest checkpoint first.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Results(pub(crate) Vec<OfStep>);

impl Results {
    /// Reads them; files that are no results are passed over.
    pub(crate) fn read(run: &RunDir) -> Self {
        let mut by_step: BTreeMap<u64, Vec<Scored>> = BTreeMap::new();
        for entry in fs::read_dir(run.eval_dir()).into_iter().flatten().flatten() {
            let path = entry.path();
            let scored = fs::read(&path)
                .ok()
                .filter(|_| path.extension().is_some_and(|e| e == "json"))
                .and_then(|bytes| serde_json::from_slice::<Scored>(&bytes).ok());
            if let Some(scored) = scored {
                by_step.entry(scored.step).or_default().push(scored);
            }
        }
        let of_steps = by_step.into_iter().rev().map(|(step, mut sets)| {
            sets.sort_by(|a, b| a.dataset.cmp(&b.dataset));
            OfStep::new(step, sets)
        });
        Self(of_steps.collect())
    }

    /// Those of one checkpoint alone.
    pub(crate) fn of(self, step: u64) -> Self {
        Self(self.0.into_iter().filter(|of| of.step == step).collect())
    }
}

impl Results {
    /// The checkpoint that was scored on the most sets, of several the latest: the paper's table.
    pub(crate) fn main(&self) -> Option<&OfStep> {
        self.0.iter().max_by_key(|of| (of.sets.len(), of.step))
    }

    /// Head z of the other checkpoints, a heading and a row per step, the latest first.
    pub(crate) fn others(&self) -> Option<(Vec<String>, Vec<Vec<String>>)> {
        let main = self.main()?.step;
        let others: Vec<&OfStep> = self.0.iter().filter(|of| of.step != main).collect();
        let sets = others.iter().flat_map(|of| &of.sets);
        let names: BTreeSet<&str> = sets.map(|set| set.dataset.as_str()).collect();
        let heading = std::iter::once("step").chain(names.iter().copied());
        let row = |of: &&OfStep| {
            let figures = names.iter().map(|name| {
                let set = of.sets.iter().find(|set| set.dataset == *name);
                percent(set.and_then(|set| set.figure("z")))
            });
            std::iter::once(of.step.to_string())
                .chain(figures)
                .collect()
        };
        (!others.is_empty()).then(|| {
            (
                heading.map(str::to_owned).collect(),
                others.iter().map(row).collect(),
            )
        })
    }
}

/// `12.34`, or `-`.
fn percent(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.2}"))
}

/// Sets in one block of columns: more would not fit a terminal.
const COLUMNS: usize = 8;

/// Writes a table in blocks of columns, each with the first column before it.
fn write_table(out: &mut dyn Write, heading: &[String], rows: &[Vec<String>]) -> io::Result<()> {
    let columns: Vec<usize> = (1..heading.len()).collect();
    for block in columns.chunks(COLUMNS) {
        let cut = |row: &[String]| -> Vec<String> {
            let kept = block.iter().map(|&column| row[column].clone());
            std::iter::once(row[0].clone()).chain(kept).collect()
        };
        let names = cut(heading);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let right: Vec<usize> = (1..names.len()).collect();
        let mut table = Table::new(&names).right(&right);
        for row in rows {
            table.row(cut(row));
        }
        table.write(out)?;
    }
    Ok(())
}

impl Report for Results {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let Some(of) = self.main() else {
            return writeln!(out, "nothing was scored yet");
        };
        let plural = if of.sets.len() == 1 { "" } else { "s" };
        let sets = of.sets.len();
        writeln!(out, "step {}: {sets} set{plural}, percent", of.step)?;
        let (heading, rows) = of.cells();
        write_table(out, &heading, &rows)?;
        for note in of.notes() {
            writeln!(out, "{note}")?;
        }
        if let Some((heading, rows)) = self.others() {
            writeln!(out, "\nother steps, head z")?;
            write_table(out, &heading, &rows)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(dataset: &str, metric: &str, figures: &[(&str, f64)]) -> Scored {
        Scored {
            dataset: dataset.to_owned(),
            step: 7,
            samples: 10,
            metric: metric.to_owned(),
            heads: figures
                .iter()
                .map(|(head, value)| Figures {
                    head: (*head).to_owned(),
                    top1: *value,
                    mean_per_class: Some(value + 1.0),
                    roc_auc: Some(value + 2.0),
                })
                .collect(),
        }
    }

    #[test]
    fn a_set_counts_by_the_figure_that_it_is_published_with() {
        let of = OfStep::new(
            7,
            vec![
                set("cars", "top1", &[("z", 10.0), ("h", 20.0)]),
                set("hateful_memes", "roc_auc", &[("z", 50.0)]),
                set("pets", "mean_per_class", &[("z", 30.0), ("h", 40.0)]),
            ],
        );
        let mut out = Vec::new();
        Results(vec![of]).human(&mut out).expect("written");
        insta::assert_snapshot!(String::from_utf8_lossy(&out), @r"
        step 7: 3 sets, percent
        head   cars  hateful_memes   pets  average
        z     10.00          52.00  31.00    31.00
        h     20.00              -  41.00        -
        ROC-AUC: hateful_memes
        mean per class: pets
        ");
    }
}
