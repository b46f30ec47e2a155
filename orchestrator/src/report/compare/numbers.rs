//! Metrics side by side, and where curves part.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Options, Subject};
use crate::report::summary::{Summary, is_score, of_the_machine};
use crate::view::{Point, Series};

/// A metric in each run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct MetricRow {
    /// `train` or `eval`.
    pub(crate) kind: &'static str,
    /// Its name.
    pub(crate) name: String,
    /// One a run; absent where it has no such metric.
    pub(crate) runs: Vec<Option<Summary>>,
}

/// Metrics that people ask for first; the others come with `--all`.
fn is_main(kind: &str, name: &str) -> bool {
    match kind {
        "eval" => is_score(name),
        _ => name == "loss" || name == "grad_norm" || name.ends_with("acc"),
    }
}

/// Metrics that at least two have.
pub(super) fn metric_rows(subjects: &[Subject], options: Options) -> Vec<MetricRow> {
    let mut rows = Vec::new();
    type Curves = BTreeMap<String, Vec<Point>>;
    type Pick = fn(&Subject) -> &Curves;
    let kinds: [(&'static str, Pick); 2] = [
        ("train", |subject| &subject.series.train),
        ("eval", |subject| &subject.series.eval),
    ];
    for (kind, curves) in kinds {
        let mut names: Vec<&String> = subjects.iter().flat_map(|s| curves(s).keys()).collect();
        names.sort_by_key(|name| (*name != "loss", *name));
        names.dedup();
        for name in names {
            if name == "epoch" || !(options.all || is_main(kind, name)) {
                continue;
            }
            let runs: Vec<Option<Summary>> = subjects
                .iter()
                .map(|s| Summary::of(name, curves(s).get(name)?, options.last))
                .collect();
            if runs.iter().flatten().count() >= 2 {
                rows.push(MetricRow {
                    kind,
                    name: name.clone(),
                    runs,
                });
            }
        }
    }
    rows
}

/// Where the numbers of two runs part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CurveDiff {
    /// Of which run.
    pub(crate) from: String,
    /// To which.
    pub(crate) to: String,
    /// Number of values that both have, at the same steps, of what is not about the machine.
    pub(crate) compared: usize,
    /// Last recorded step up to which every value is the same to the bit; 0 if not even the first is.
    pub(crate) identical_up_to: u64,
    /// The first value that differs; absent if none does.
    pub(crate) first: Option<FirstDifference>,
    /// Greatest relative difference of the loss; absent if it was not recorded by both.
    pub(crate) loss_difference: Option<f64>,
}

/// A value that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct FirstDifference {
    /// At which step.
    pub(crate) step: u64,
    /// Of what.
    pub(crate) metric: String,
    /// One value.
    pub(crate) a: f64,
    /// The other.
    pub(crate) b: f64,
}

/// Compares value by value, exactly, what both recorded. `None` if nothing can be compared.
pub(super) fn curve_diff(from: &Subject, to: &Subject) -> Option<CurveDiff> {
    series_diff((&from.head.run, &from.series), (&to.head.run, &to.series))
}

/// Compares value by value, exactly, the curves of two runs. `None` if nothing can be compared.
pub(crate) fn series_diff(from: (&str, &Series), to: (&str, &Series)) -> Option<CurveDiff> {
    let (from, from_series) = from;
    let (to, to_series) = to;
    let mut compared = 0;
    let mut last = 0;
    let mut first: Option<FirstDifference> = None;
    let mut loss_difference = None;
    for (a, b) in [
        (&from_series.train, &to_series.train),
        (&from_series.eval, &to_series.eval),
    ] {
        // The loss first: of several values that differ at one step it is the one to name.
        let mut names: Vec<&String> = a.keys().filter(|name| !of_the_machine(name)).collect();
        names.sort_by_key(|name| (*name != "loss", *name));
        for name in names {
            let Some(other) = b.get(name) else { continue };
            for (step, x, y) in common(&a[name], other) {
                compared += 1;
                last = last.max(step);
                let differs = x.to_bits() != y.to_bits();
                if differs && first.as_ref().is_none_or(|first| step < first.step) {
                    first = Some(FirstDifference {
                        step,
                        metric: name.clone(),
                        a: x,
                        b: y,
                    });
                }
                if name == "loss" {
                    let size = x.abs().max(y.abs()).max(f64::MIN_POSITIVE);
                    let relative = (x - y).abs() / size;
                    loss_difference = Some(relative.max(loss_difference.unwrap_or_default()));
                }
            }
        }
    }
    let identical_up_to = match &first {
        None => last,
        Some(first) => {
            let (a, b) = (&from_series.train, &to_series.train);
            let steps = a
                .iter()
                .filter_map(|(name, curve)| Some((curve, b.get(name)?)));
            steps
                .flat_map(|(x, y)| common(x, y))
                .map(|(step, ..)| step)
                .filter(|step| *step < first.step)
                .max()
                .unwrap_or_default()
        }
    };
    (compared > 0).then(|| CurveDiff {
        from: from.to_owned(),
        to: to.to_owned(),
        compared,
        identical_up_to,
        first,
        loss_difference,
    })
}

/// Last step of two curves up to which no value differs by more than a share of the greater one; `None` if
/// the first does.
pub(crate) fn within_up_to(a: &[Point], b: &[Point], tolerance: f64) -> Option<u64> {
    let near = |x: f64, y: f64| (x - y).abs() <= tolerance * x.abs().max(y.abs());
    let near = common(a, b).take_while(|(_, x, y)| near(*x, *y));
    near.last().map(|(step, ..)| step)
}

/// Values at steps that both curves have.
fn common<'a>(a: &'a [Point], b: &'a [Point]) -> impl Iterator<Item = (u64, f64, f64)> + 'a {
    let mut rest = b;
    a.iter().filter_map(move |(step, x)| {
        let skip = rest.iter().take_while(|(other, _)| other < step).count();
        rest = &rest[skip..];
        let (other, y) = rest.first()?;
        (other == step).then_some((*step, *x, *y))
    })
}
