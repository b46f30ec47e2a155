//! Which curves stand on which panel of the page, thinned to what a page can hold.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Facts;
use super::summary::is_score;
use crate::view::{Clock, Point, thin};

/// Points over all curves of a page. With 20 bytes each the page stays well under 2 MB.
const POINTS: usize = 60_000;
/// Points of a curve: more than a screen has pixels across shows nothing more.
const MOST: usize = 2_000;
/// Points of a curve, however many curves there are.
const LEAST: usize = 40;
/// Knots of a run's clock, over all runs.
const KNOTS: usize = 6_000;

/// The data of a page's curves.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    /// The runs, to which the curves refer by number.
    pub(crate) runs: Vec<RunData>,
    /// The panels in their order.
    pub(crate) panels: Vec<Panel>,
}

/// What curves need to know of a run.
#[derive(Debug, Serialize)]
pub(crate) struct RunData {
    /// Its id.
    pub(crate) id: String,
    /// From steps to other axes.
    pub(crate) clock: Clock,
}

/// One picture.
#[derive(Debug, Serialize)]
pub(crate) struct Panel {
    /// Unique among the panels.
    pub(crate) id: String,
    /// What it shows.
    pub(crate) title: String,
    /// Of its values; may be empty.
    pub(crate) unit: &'static str,
    /// Its curves.
    pub(crate) series: Vec<Curve>,
}

/// One curve.
#[derive(Debug, Serialize)]
pub(crate) struct Curve {
    /// Number of its run.
    pub(crate) run: usize,
    /// What the legend says.
    pub(crate) label: String,
    /// Steps.
    pub(crate) x: Vec<u64>,
    /// Values; `null` where one is not finite.
    pub(crate) y: Vec<Option<f64>>,
    /// Number of values before thinning.
    pub(crate) recorded: usize,
}

/// A curve before it is thinned.
struct Draft<'a> {
    run: usize,
    label: String,
    points: &'a [Point],
    /// What the values are multiplied with.
    factor: f64,
}

struct PanelDraft<'a> {
    id: String,
    title: String,
    unit: &'static str,
    curves: Vec<Draft<'a>>,
}

/// The data of a page about these runs.
pub(crate) fn data(runs: &[Facts]) -> Data {
    let drafts = match runs {
        [run] => of_one(run),
        _ => of_several(runs),
    };
    let curves: usize = drafts.iter().map(|panel| panel.curves.len()).sum();
    let each = (POINTS / curves.max(1)).clamp(LEAST, MOST);
    let knots = (KNOTS / runs.len().max(1)).clamp(20, 400);
    Data {
        runs: runs
            .iter()
            .map(|run| RunData {
                id: run.view.run.clone(),
                clock: rounded(run.clock.thinned(knots)),
            })
            .collect(),
        panels: drafts
            .into_iter()
            .map(|panel| Panel {
                id: panel.id,
                title: panel.title,
                unit: panel.unit,
                series: panel
                    .curves
                    .iter()
                    .map(|curve| thinned(curve, each))
                    .collect(),
            })
            .collect(),
    }
}

fn thinned(draft: &Draft<'_>, most: usize) -> Curve {
    let points = thin(draft.points, most / 2);
    Curve {
        run: draft.run,
        label: draft.label.clone(),
        x: points.iter().map(|(step, _)| *step).collect(),
        y: points
            .iter()
            .map(|(_, value)| value.is_finite().then(|| round(value * draft.factor)))
            .collect(),
        recorded: draft.points.len(),
    }
}

fn rounded(mut clock: Clock) -> Clock {
    for value in clock.epoch.iter_mut().chain(&mut clock.seconds) {
        *value = round(*value);
    }
    clock
}

/// Seven significant digits: more than a picture shows, less than half of the text.
fn round(value: f64) -> f64 {
    format!("{value:.6e}").parse().unwrap_or(value)
}

/// A metric of training that has a panel of its own: its title, unit, and what to multiply with.
fn known(name: &str) -> (String, &'static str, f64) {
    let (title, unit, factor) = match name {
        "lr" => ("learning rate", "", 1.0),
        "grad_norm" => ("gradient norm", "", 1.0),
        "samples_per_second" => ("throughput", "samples/s", 1.0),
        "wait_share" => ("waiting for data", "share of time", 1.0),
        "wait_seconds" => ("waited for data since the start", "s", 1.0),
        "bytes_read" => ("images read by rank 0 since the start", "GB", 1e-9),
        "resident_bytes" => ("memory of rank 0", "GB", 1e-9),
        "bad_samples" => ("unreadable samples", "", 1.0),
        "loss_scale" => ("loss scale", "", 1.0),
        "skipped_steps" => ("skipped steps", "", 1.0),
        _ => (name, "", 1.0),
    };
    (title.to_owned(), unit, factor)
}

/// Order of the panels: the loss, what people look at, the rest.
fn rank(name: &str) -> usize {
    match name {
        "loss" => 0,
        name if name.ends_with("acc") => 1,
        "grad_norm" => 3,
        "lr" => 4,
        "samples_per_second" => 5,
        "wait_share" | "wait_seconds" | "bytes_read" | "resident_bytes" | "bad_samples"
        | "skipped_steps" => 6,
        _ => 2,
    }
}

/// Terms of the loss share a panel, and so do accuracies and the scores of a data set.
fn of_one(run: &Facts) -> Vec<PanelDraft<'_>> {
    let mut panels: Vec<PanelDraft<'_>> = Vec::new();
    let mut names: Vec<&String> = run.series.train.keys().collect();
    names.sort_by_key(|name| (rank(name), *name));
    for name in names {
        let points = &run.series.train[name];
        if name == "epoch" || (name == "bad_samples" && points.iter().all(|(_, v)| *v == 0.0)) {
            continue;
        }
        let term = name.contains("loss") && !matches!(name.as_str(), "loss" | "loss_scale");
        let (id, (title, unit, factor)) = if term {
            ("terms", ("terms of the loss".to_owned(), "", 1.0))
        } else if name.ends_with("acc") {
            ("accuracy", ("accuracy in the batch".to_owned(), "%", 1.0))
        } else {
            (name.as_str(), known(name))
        };
        let label = name.clone();
        push(
            &mut panels,
            id,
            title,
            unit,
            Draft {
                run: 0,
                label,
                points,
                factor,
            },
        );
        // Scores come right after the loss.
        if name == "loss" {
            for (name, points) in run.series.eval.iter().filter(|(name, _)| is_score(name)) {
                let (dataset, figure) = name.split_once('/').unwrap_or(("", name));
                let title = format!("zero-shot accuracy {dataset}")
                    .trim_end()
                    .to_owned();
                let label = figure.replace('_', " ");
                push(
                    &mut panels,
                    &format!("eval {dataset}"),
                    title,
                    "%",
                    Draft {
                        run: 0,
                        label,
                        points,
                        factor: 1.0,
                    },
                );
            }
        }
    }
    if !run.series.train.contains_key("loss") {
        for (name, points) in run.series.eval.iter().filter(|(name, _)| *name != "epoch") {
            push(
                &mut panels,
                &format!("eval {name}"),
                name.clone(),
                "",
                Draft {
                    run: 0,
                    label: name.clone(),
                    points,
                    factor: 1.0,
                },
            );
        }
    }
    panels
}

fn push<'a>(
    panels: &mut Vec<PanelDraft<'a>>,
    id: &str,
    title: String,
    unit: &'static str,
    curve: Draft<'a>,
) {
    match panels.iter_mut().find(|panel| panel.id == id) {
        Some(panel) => panel.curves.push(curve),
        None => panels.push(PanelDraft {
            id: id.to_owned(),
            title,
            unit,
            curves: vec![curve],
        }),
    }
}

/// One panel a metric, one curve a run; what only interests within one run is left to its own page.
fn of_several(runs: &[Facts]) -> Vec<PanelDraft<'_>> {
    let mut panels: BTreeMap<(usize, String), PanelDraft<'_>> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        let label = run.view.run.clone();
        let mut add = |order: usize, id: String, (title, unit, factor), points| {
            let panel = panels.entry((order, id.clone())).or_insert(PanelDraft {
                id,
                title,
                unit,
                curves: Vec::new(),
            });
            panel.curves.push(Draft {
                run: index,
                label: label.clone(),
                points,
                factor,
            });
        };
        for (name, points) in &run.series.train {
            if matches!(
                name.as_str(),
                "loss" | "grad_norm" | "lr" | "samples_per_second"
            ) || name.ends_with("acc")
            {
                add(rank(name) * 2, name.clone(), known(name), points);
            }
        }
        for (name, points) in run.series.eval.iter().filter(|(name, _)| is_score(name)) {
            let title = format!("zero-shot {}", name.replace('_', " "));
            add(1, format!("eval {name}"), (title, "%", 1.0), points);
        }
    }
    panels.into_values().collect()
}
