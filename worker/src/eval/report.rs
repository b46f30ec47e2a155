//! Results of one set and checkpoint: a JSON file in the run directory and a table.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::EvalSet;
use super::classes::Matched;
use super::metrics::Metric;
use super::zeroshot::{Head, HeadScore};

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

impl ZeroShot {
    /// Figures of `scores`.
    #[must_use]
    pub fn new(set: &EvalSet, step: u64, checkpoint: &str, scores: &[HeadScore]) -> Self {
        let first = scores.first().map(|score| &score.tally);
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
            heads: scores.iter().map(HeadFigures::new).collect(),
        }
    }

    /// Name of the file in the run directory's `eval/`.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}-step-{}.json", self.dataset, self.step)
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
