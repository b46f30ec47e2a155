//! Results of one set and checkpoint: a JSON file in the run directory and a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rocket_common::error::Error;
use serde::{Deserialize, Serialize};

use super::EvalSet;
use super::classes::Matched;
use super::metrics::Metric;
use super::zeroshot::{Head, HeadScore, Scores};

/// `eval/<dataset>-step-<n>.json`. Figures are percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ZeroShot {
    /// Name of the set in the catalog.
    pub dataset: String,
    /// Optimiser steps of the checkpoint.
    pub step: u64,
    /// The checkpoint, by name or path.
    pub checkpoint: String,
    /// Number of classes.
    pub classes: usize,
    /// Number of images, each counted once.
    pub samples: i64,
    /// Top-1 of a guess.
    pub chance: f64,
    /// What the set is published with.
    pub metric: Metric,
    /// How class folders and labels were matched.
    pub matched: Matched,
    /// Classes without an image, over which mean per class is not taken.
    pub absent_classes: usize,
    /// Figures by head: z, h, mixtures.
    pub heads: Vec<HeadFigures>,
}

/// Figures of one head, in percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadFigures {
    /// `z`, `h`, `zh_0.1`, ...
    pub head: String,
    /// The image's class is the best.
    pub top1: f64,
    /// The image's class is among the five best.
    pub top5: f64,
    /// Mean of the classes' top-1.
    pub mean_per_class: f64,
    /// Area under the ROC curve, of sets reported by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roc_auc: Option<f64>,
    /// Images behind `top1`.
    pub top1_count: i64,
    /// Images behind `top5`.
    pub top5_count: i64,
}

/// Name of a set's result in the run directory's `eval/`.
#[must_use]
pub fn file_name(dataset: &str, step: u64) -> String {
    format!("{dataset}-step-{step}.json")
}

impl ZeroShot {
    /// Figures of `scores`.
    #[must_use]
    pub fn new(set: &EvalSet, step: u64, checkpoint: &str, scores: &Scores) -> Self {
        let heads = &scores.heads;
        let first = heads.first().map(|score| &score.tally);
        let classes = set.class_names.len();
        Self {
            dataset: set.name.clone(),
            step,
            checkpoint: checkpoint.to_owned(),
            classes,
            samples: first.map_or(0, |tally| tally.samples()),
            chance: 100.0 / classes as f64,
            metric: set.metric,
            matched: set.matched,
            absent_classes: first.map_or(0, |t| t.images.iter().filter(|n| **n == 0).count()),
            heads: heads.iter().map(HeadFigures::new).collect(),
        }
    }

    /// Name of the file in the run directory's `eval/`.
    #[must_use]
    pub fn file_name(&self) -> String {
        file_name(&self.dataset, self.step)
    }

    /// What an event says of it, by name, fractions of 1: events are read by people, so the two heads
    /// do, and the mixtures are in `eval/`.
    #[must_use]
    pub fn event_metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::new();
        for head in [Head::Z, Head::H]
            .iter()
            .filter_map(|&head| self.head(head))
        {
            let mut figures = vec![("top1", head.top1), ("top5", head.top5)];
            match self.metric {
                Metric::Top1 => {}
                Metric::MeanPerClass => figures.push(("mean_per_class", head.mean_per_class)),
                Metric::RocAuc => figures.extend(head.roc_auc.map(|auc| ("roc_auc", auc))),
            }
            for (figure, value) in figures {
                let name = format!("{}/{}_{figure}", self.dataset, head.head);
                metrics.insert(name, value / 100.0);
            }
        }
        metrics
    }

    /// The figures of a head.
    #[must_use]
    pub fn head(&self, head: Head) -> Option<&HeadFigures> {
        let name = head.name();
        self.heads.iter().find(|figures| figures.head == name)
    }

    /// A table for the terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{}: {} images, {} classes, chance {:.3} %, step {}\n",
            self.dataset, self.samples, self.classes, self.chance, self.step
        );
        let extra = match self.metric {
            Metric::Top1 => None,
            Metric::MeanPerClass => Some("per class"),
            Metric::RocAuc => Some("ROC-AUC"),
        };
        let _ = write!(text, "  {:<8}{:>10}{:>10}", "head", "top-1 %", "top-5 %");
        if let Some(name) = extra {
            let _ = write!(text, "{:>12}", format!("{name} %"));
        }
        text.push('\n');
        for figures in &self.heads {
            let _ = write!(
                text,
                "  {:<8}{:>10.2}{:>10.2}",
                figures.head, figures.top1, figures.top5
            );
            let value = match self.metric {
                Metric::Top1 => None,
                Metric::MeanPerClass => Some(figures.mean_per_class),
                Metric::RocAuc => figures.roc_auc,
            };
            match (extra, value) {
                (Some(_), Some(value)) => {
                    let _ = write!(text, "{value:>12.2}");
                }
                (Some(_), None) => text.push_str("           -"),
                (None, _) => {}
            }
            text.push('\n');
        }
        if self.absent_classes > 0 && self.metric == Metric::MeanPerClass {
            let _ = writeln!(
                text,
                "  per class is the mean over the {} classes that have images",
                self.classes - self.absent_classes
            );
        }
        text
    }
}

/// `eval/classes/<dataset>-step-<n>.json`: where a set's errors are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// Name of the set in the catalog.
    pub dataset: String,
    /// Optimiser steps of the checkpoint.
    pub step: u64,
    /// First name of each class.
    pub classes: Vec<String>,
    /// Images of each class.
    pub images: Vec<i64>,
    /// By head: z and h.
    pub heads: Vec<HeadDetails>,
}

/// Where one head's errors are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadDetails {
    /// `z` or `h`.
    pub head: String,
    /// Top-1 of each class in percent; `null` for one without images.
    pub top1: Vec<Option<f64>>,
    /// The cells of the confusion that are not zero: class, class that it was taken for, images. In the
    /// order of the classes.
    pub confusion: Vec<(usize, usize, u64)>,
}

impl Details {
    /// Details of `scores`; `None` if they were not kept.
    #[must_use]
    pub fn new(set: &EvalSet, step: u64, scores: &Scores) -> Option<Self> {
        let tally = &scores.heads.first()?.tally;
        let of = |(head, predicted): &(Head, Vec<usize>)| {
            let score = scores.heads.iter().find(|score| score.head == *head)?;
            let mut cells: BTreeMap<(usize, usize), u64> = BTreeMap::new();
            for (index, &class) in predicted.iter().enumerate() {
                *cells.entry((set.samples.target(index), class)).or_default() += 1;
            }
            let share = |(&images, &right): (&i64, &i64)| {
                (images > 0).then(|| 100.0 * right as f64 / images as f64)
            };
            Some(HeadDetails {
                head: head.name(),
                top1: score
                    .tally
                    .images
                    .iter()
                    .zip(&score.tally.top1)
                    .map(share)
                    .collect(),
                confusion: cells.into_iter().map(|((a, b), n)| (a, b, n)).collect(),
            })
        };
        let heads: Vec<HeadDetails> = scores.predicted.iter().filter_map(of).collect();
        (!heads.is_empty()).then(|| Self {
            dataset: set.name.clone(),
            step,
            classes: set.class_names.clone(),
            images: tally.images.clone(),
            heads,
        })
    }

    /// Writes it below a run's `eval/`.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write(&self, eval_dir: &Path) -> Result<PathBuf, Error> {
        let dir = eval_dir.join("classes");
        std::fs::create_dir_all(&dir).map_err(|error| Error::io("create", &dir, error))?;
        let path = dir.join(format!("{}-step-{}.json", self.dataset, self.step));
        rocket_common::atomic::write_json(&path, self)?;
        Ok(path)
    }
}

impl HeadFigures {
    fn new(score: &HeadScore) -> Self {
        Self {
            head: score.head.name(),
            top1: score.tally.top1_percent(),
            top5: score.tally.top5_percent(),
            mean_per_class: score.tally.mean_per_class_percent(),
            roc_auc: score.roc_auc,
            top1_count: score.tally.top1_count(),
            top5_count: score.tally.top5,
        }
    }
}
