//! What `rocket plot` draws: which metrics of which runs, over what, grouped by seed.

use std::collections::BTreeMap;

use globset::Glob;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use super::Facts;
use super::summary::is_score;
use crate::view::{Axis, Line, Panel, Picture, Point, smooth, thin};

/// Points of a curve: more than a picture has pixels across shows nothing more.
const BUCKETS: usize = 1_500;

/// What is to be drawn.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    pub(crate) metrics: &'a [String],
    pub(crate) axis: Axis,
    pub(crate) smooth: f64,
    pub(crate) log: bool,
    pub(crate) group: bool,
}

/// Makes the picture's panels.
///
/// # Errors
/// A metric that no run has, or an axis that none has recorded.
pub(crate) fn picture(runs: &[Facts], options: &Options<'_>) -> Result<Picture> {
    let chosen = choose(runs, options.metrics)?;
    let groups = groups(runs, options.group);
    // One run on one panel of a kind: its metrics are the curves. Several: they are.
    let mut panels: Vec<Panel> = Vec::new();
    for (panel, names) in chosen {
        let mut lines = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            for (position, name) in names.iter().enumerate() {
                let Some(mut line) = line(group, name, options) else {
                    continue;
                };
                (line.label, line.colour) = match (groups.len(), names.len()) {
                    (1, 1) if group.runs.len() == 1 => (name.replace('_', " "), 0),
                    (1, _) if group.runs.len() == 1 => (name.replace('_', " "), position),
                    (_, 1) => (group.label.clone(), index),
                    _ => (
                        format!("{} {name}", group.label),
                        index * names.len() + position,
                    ),
                };
                lines.push(line);
            }
        }
        panels.push(Panel {
            title: panel,
            lines,
        });
    }
    if panels.iter().all(|panel| panel.lines.is_empty()) {
        let axis = match options.axis {
            Axis::Step => "step",
            Axis::Epoch => "epoch",
            Axis::Time => "time",
            Axis::Samples => "samples",
        };
        return Err(Error::new(
            ExitKind::Usage,
            format!("nothing is recorded that could be drawn over '{axis}'"),
        )
        .hint("the steps are always known: -x step"));
    }
    let title = match runs {
        [one] => one.view.run.clone(),
        _ => String::new(),
    };
    Ok(Picture {
        title,
        axis: options.axis,
        log: options.log,
        panels,
    })
}

/// Panels with their metrics: those that were asked for, each on its own; else the loss, and the scores.
fn choose(runs: &[Facts], patterns: &[String]) -> Result<Vec<(String, Vec<String>)>> {
    let mut names: Vec<&String> = runs
        .iter()
        .flat_map(|run| run.series.train.keys().chain(run.series.eval.keys()))
        .filter(|name| *name != "epoch")
        .collect();
    names.sort();
    names.dedup();
    if patterns.is_empty() {
        let scores: Vec<String> = names
            .iter()
            .filter(|name| is_score(name))
            .map(|name| (*name).clone())
            .collect();
        let loss = names.iter().any(|name| *name == "loss");
        let mut panels = Vec::new();
        if loss {
            panels.push(("loss".to_owned(), vec!["loss".to_owned()]));
        }
        match runs {
            [_] if !scores.is_empty() => panels.push(("zero-shot score (%)".to_owned(), scores)),
            [_] => {}
            _ => panels.extend(
                scores
                    .into_iter()
                    .filter(|name| name.ends_with("z_top1"))
                    .map(|name| (format!("{} (%)", name.replace('_', " ")), vec![name])),
            ),
        }
        if panels.is_empty() {
            panels.extend(
                names
                    .iter()
                    .take(4)
                    .map(|name| ((*name).clone(), vec![(*name).clone()])),
            );
        }
        return Ok(panels);
    }
    let mut panels: Vec<(String, Vec<String>)> = Vec::new();
    for pattern in patterns {
        let glob = Glob::new(pattern).map_err(|error| {
            Error::new(
                ExitKind::Usage,
                format!("'{pattern}' is no pattern: {}", error.kind()),
            )
        })?;
        let glob = glob.compile_matcher();
        let matching: Vec<&&String> = names.iter().filter(|name| glob.is_match(name)).collect();
        if matching.is_empty() {
            let all: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            return Err(
                Error::new(ExitKind::Usage, format!("there is no metric '{pattern}'"))
                    .hint(format!("there are: {}", all.join(", "))),
            );
        }
        for name in matching {
            if !panels.iter().any(|(_, names)| names.contains(name)) {
                panels.push((name.replace('_', " "), vec![(*name).clone()]));
            }
        }
    }
    Ok(panels)
}

/// Runs that are drawn as one curve.
struct Group<'a> {
    label: String,
    runs: Vec<&'a Facts>,
}

/// By what is the same but for the seed, if they are to be grouped; else each run is alone.
fn groups(runs: &[Facts], by_seed: bool) -> Vec<Group<'_>> {
    if !by_seed {
        return runs
            .iter()
            .map(|run| Group {
                label: run.view.run.clone(),
                runs: vec![run],
            })
            .collect();
    }
    let mut found: Vec<(String, Vec<&Facts>)> = Vec::new();
    for run in runs {
        let mut config: Vec<String> = run
            .config
            .iter()
            .filter(|(key, _)| key != "seed" && key != "name")
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if config.is_empty() {
            // What it is cannot be read: it is like no other.
            config.push(run.view.run.clone());
        }
        let key = config.join("\n");
        match found.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group.push(run),
            None => found.push((key, vec![run])),
        }
    }
    let differing = differing(&found);
    let mut groups = Vec::new();
    for (_, runs) in found {
        let name = &runs[0].view.name;
        let values: Vec<String> = differing
            .iter()
            .filter_map(|key| {
                let value = runs[0].config.iter().find(|(known, _)| known == key)?;
                Some(format!("{key}={}", value.1))
            })
            .take(3)
            .collect();
        let what = if values.is_empty() {
            name.clone()
        } else {
            values.join(" ")
        };
        let label = match runs.len() {
            1 => what,
            n => format!("{what} ({n} seeds)"),
        };
        groups.push(Group { label, runs });
    }
    groups
}

/// Keys in which the groups differ.
fn differing(groups: &[(String, Vec<&Facts>)]) -> Vec<String> {
    let configs: Vec<_> = groups
        .iter()
        .map(|(_, runs)| runs[0].config.clone())
        .collect();
    super::config::side_by_side(&configs)
        .into_iter()
        .filter(|key| key.differs() && key.key != "seed" && key.key != "name")
        .map(|key| key.key)
        .collect()
}

/// One group's curve of a metric, or nothing if it was not recorded on this axis.
fn line(group: &Group<'_>, name: &str, options: &Options<'_>) -> Option<Line> {
    let curves: Vec<(&Facts, &Vec<Point>)> = group
        .runs
        .iter()
        .filter_map(|run| Some((*run, run.series.curve(name)?)))
        .collect();
    let (first, _) = *curves.first()?;
    let place = |step: u64| first.clock.place(options.axis, step);
    let (points, spread) = match &curves[..] {
        [(_, curve)] => {
            let points = curve.iter().map(|(step, value)| (*step, *value));
            (points.collect::<Vec<_>>(), Vec::new())
        }
        _ => mean(&curves.iter().map(|(_, curve)| *curve).collect::<Vec<_>>()),
    };
    let shown = |(step, value): &(u64, f64)| {
        let visible = value.is_finite() && !(options.log && *value <= 0.0);
        visible.then_some((place(*step)?, *value))
    };
    let raw: Vec<(f64, f64)> = points.iter().filter_map(shown).collect();
    if raw.is_empty() {
        return None;
    }
    let band: Vec<(f64, f64, f64)> = points
        .iter()
        .zip(&spread)
        .filter_map(|((step, mean), spread)| Some((place(*step)?, mean - spread, mean + spread)))
        .collect();
    let dots = raw.len() <= 60;
    let (line, faint) = if options.smooth > 0.0 && raw.len() > 2 {
        (
            smooth(&raw, options.smooth),
            if spread.is_empty() { raw } else { Vec::new() },
        )
    } else {
        (raw, Vec::new())
    };
    let step = (band.len() / BUCKETS).max(1);
    Some(Line {
        label: String::new(),
        colour: 0,
        points: thin(&line, BUCKETS),
        faint: thin(&faint, BUCKETS),
        band: band.into_iter().step_by(step).collect(),
        dots,
    })
}

/// Mean and standard deviation at the steps that all have.
fn mean(curves: &[&Vec<Point>]) -> (Vec<Point>, Vec<f64>) {
    let mut at: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (step, value) in curves.iter().flat_map(|curve| curve.iter()) {
        at.entry(*step).or_default().push(*value);
    }
    at.retain(|_, values| values.len() == curves.len());
    at.into_iter()
        .map(|(step, values)| {
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            ((step, mean), (squares / (n - 1.0).max(1.0)).sqrt())
        })
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_taken_where_all_seeds_have_values() {
        let (points, spread) = mean(&[
            &vec![(1, 1.0), (2, 2.0), (3, 9.0)],
            &vec![(1, 3.0), (2, 2.0)],
        ]);
        assert_eq!(points, [(1, 2.0), (2, 2.0)]);
        assert!((spread[0] - 2.0_f64.sqrt()).abs() < 1e-12 && spread[1] == 0.0);
    }
}
