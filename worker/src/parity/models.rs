//! Whole models: names, losses, outputs, gradients, one optimiser step and buffers, in float32 and
//! float64.
//!
//! Tolerances: float64 losses and gradient norms [`F64`] relative; float32 the larger of [`F32`] and
//! [`TIMES`] the recorded difference of float32 and float64, which says how well conditioned a value is.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor};

use super::golden::{Golden, Output, Param, read_tensors};
use super::recipe::Recipe;
use super::report::Report;
use super::run::{Digest, Names, Outcome, build, run, to_f64};
use super::{Group, Source};

/// Tensors of a file by name.
type Tensors = BTreeMap<String, Tensor>;
/// Losses, accuracies and scales by name.
type Terms = BTreeMap<String, f64>;

/// Relative tolerance in float64.
const F64: f64 = 1e-6;
/// Relative tolerance in float32.
const F32: f64 = 1e-4;
/// How many times the recorded difference of float32 and float64 is tolerated.
const TIMES: f64 = 3.0;
/// How much further apart than the recorded runs this build's may be and still be believed.
const LUCK: f64 = 10.0;
/// Above this share of itself, the recorded difference says that the true gradient is 0 (a bias in
/// front of a batch norm): what was recorded is rounding noise.
const NOISE: f64 = 1.0;

/// Whether a golden file is of this kind.
#[must_use]
pub fn recognises(value: &Value) -> bool {
    value.get("loss_step1").is_some() && value.get("params").is_some()
}

/// The recorded experiment as this build runs it, in both kinds.
#[derive(Debug)]
pub struct Runs {
    names: Names,
    single: Outcome,
    double: Outcome,
}

/// A golden file with its tensors.
fn parse(source: &Source) -> Result<(Golden, Tensors), String> {
    let golden = Golden::deserialize(&source.value).map_err(|error| error.to_string())?;
    if golden.weights != "hash" {
        return Err(format!(
            "the fill '{}' is not in this version",
            golden.weights
        ));
    }
    let tensors = read_tensors(&source.path.with_extension("safetensors"))?;
    Ok((golden, tensors))
}

impl Runs {
    /// Runs the recorded experiment.
    ///
    /// # Errors
    /// If the file is of another format, its tensors are missing, or it asks for what this version
    /// lacks.
    pub fn of(source: &Source) -> Result<Self, String> {
        let (golden, tensors) = parse(source)?;
        let tokens = tensors
            .get("tokens")
            .ok_or("the tensor file has no 'tokens'")?;
        // One kind after the other, so that only one model is in memory.
        let one = |kind: Kind| -> Result<(Names, Outcome), String> {
            let recipe = Recipe::parse(&golden.model, &golden.argv, kind)?;
            let model = build(&recipe).map_err(|error| error.to_string())?;
            let outcome = run(&golden, &recipe, &model, tokens)?;
            Ok((Names::of(&model), outcome))
        };
        let (names, single) = one(Kind::Float)?;
        let (_, double) = one(Kind::Double)?;
        Ok(Self {
            names,
            single,
            double,
        })
    }

    /// Compares everything with what a golden file says.
    ///
    /// # Errors
    /// If the file is of another format or its tensors are missing.
    pub fn compare(&self, source: &Source) -> Result<Vec<Group>, String> {
        let (golden, tensors) = parse(source)?;
        let Self {
            names,
            single,
            double,
        } = self;
        let mut groups = Vec::new();
        let mut group = |name: &str, report: Report| {
            groups.push(Group {
                name: name.into(),
                report,
            });
        };
        group("names", compare_names(&golden, names));
        group("losses float64", losses_f64(&golden, double));
        group("losses float32", losses_f32(&golden, single, double));
        let (stored, exact) = outputs(&golden, &tensors, single, double)?;
        group("outputs float64", exact);
        group("outputs float32", stored);
        group("gradients float64", gradients_f64(&golden, double));
        group("gradients float32", gradients_f32(&golden, single));
        group("step float32", steps(&golden, single, double));
        if !golden.buffers_after_step1.is_empty() {
            group("buffers float32", buffers(&golden, single));
        }
        Ok(groups)
    }
}

/// Runs the recorded experiment and compares everything.
///
/// # Errors
/// As [`Runs::of`] and [`Runs::compare`].
pub fn check(source: &Source) -> Result<Vec<Group>, String> {
    Runs::of(source)?.compare(source)
}

/// Compares two lists of names in order.
pub(super) fn same_list(report: &mut Report, what: &str, got: &[String], want: &[String]) {
    report.equal(&format!("{what}: count"), got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        report.equal(&format!("{what}[{i}]"), got, want);
    }
}

/// Compares names, shapes, kinds, aliases and the number of parameters.
pub(super) fn same_state(
    report: &mut Report,
    names: &Names,
    total_params: usize,
    state_dict: &[(String, Vec<i64>, String)],
    aliases: &BTreeMap<String, String>,
) {
    report.equal("total_params", names.total_params, total_params);
    let lines = |list: &[(String, Vec<i64>, String)]| -> Vec<String> {
        list.iter()
            .map(|(name, shape, kind)| format!("{name} {shape:?} {kind}"))
            .collect()
    };
    same_list(
        report,
        "state_dict",
        &lines(&names.state_dict),
        &lines(state_dict),
    );
    let pairs = |map: &BTreeMap<String, String>| -> Vec<String> {
        map.iter()
            .map(|(later, first)| format!("{later} -> {first}"))
            .collect()
    };
    same_list(report, "aliases", &pairs(&names.aliases), &pairs(aliases));
}

fn compare_names(golden: &Golden, names: &Names) -> Report {
    let mut report = Report::default();
    same_state(
        &mut report,
        names,
        golden.total_params,
        &golden.state_dict,
        &golden.aliases,
    );
    same_list(
        &mut report,
        "decay_params",
        &names.decay,
        &golden.decay_params,
    );
    same_list(
        &mut report,
        "no_decay_params",
        &names.no_decay,
        &golden.no_decay_params,
    );
    report
}

fn is_accuracy(name: &str) -> bool {
    name.starts_with("clip_acc")
}

/// Value of a term, NaN if there is none, which fails.
fn term(terms: &Terms, name: &str) -> f64 {
    terms.get(name).copied().unwrap_or(f64::NAN)
}

fn losses_f64(golden: &Golden, double: &Outcome) -> Report {
    let mut report = Report::default();
    for (step, got, want) in [
        (1, &double.loss_step1, &golden.loss_step1_f64),
        (2, &double.loss_step2, &golden.loss_step2_f64),
    ] {
        for (name, &want) in want {
            let name_here = format!("loss_step{step}_f64.{name}");
            report.close(&name_here, term(got, name), want, F64 * want.abs());
        }
    }
    report
}

/// Largest relative distance of two lists of losses, without accuracies and without one of them.
fn apart(a: &Terms, b: &Terms, without: &str) -> f64 {
    a.iter()
        .filter(|(name, _)| *name != without && !is_accuracy(name))
        .map(|(name, &value)| (value - term(b, name)).abs() / value.abs())
        .fold(0.0, f64::max)
}

/// float32 losses. A value's own recorded difference does not widen its tolerance, else a wrong value
/// would excuse itself: what counts is how far float32 and float64 are apart in the other recorded losses
/// of the step, and in this build (which may have the worse luck, but not ten times). In the second step
/// that is a matter of luck: AdamW has turned the noise of small gradients into whole steps.
fn losses_f32(golden: &Golden, single: &Outcome, double: &Outcome) -> Report {
    let mut report = Report::default();
    let steps = [
        (
            1,
            &single.loss_step1,
            &double.loss_step1,
            &golden.loss_step1,
            &golden.loss_step1_f64,
        ),
        (
            2,
            &single.loss_step2,
            &double.loss_step2,
            &golden.loss_step2,
            &golden.loss_step2_f64,
        ),
    ];
    for (step, got, got_f64, want, want_f64) in steps {
        let ours = apart(got, got_f64, "");
        for (name, &want_here) in want {
            let others = apart(want, want_f64, name);
            let noise = others.max(ours.min(LUCK * others));
            let mut tolerance = F32.max(TIMES * noise) * want_here.abs();
            if is_accuracy(name) && TIMES * noise > F32 {
                // One sample more or less.
                tolerance = tolerance.max(100.0 / golden.batch as f64);
            }
            let name_here = format!("loss_step{step}.{name}");
            report.close(&name_here, term(got, name), want_here, tolerance);
        }
    }
    report
}

/// Root mean square of the differences over that of the wanted values.
fn relative_norm(got: &[f64], want: &[f64]) -> f64 {
    let square = |x: f64| x * x;
    let difference: f64 = got
        .iter()
        .zip(want)
        .map(|(got, want)| square(got - want))
        .sum();
    let norm: f64 = want.iter().copied().map(square).sum();
    (difference / norm).sqrt()
}

/// Outputs of the first batch: float32 values, and how far float64 is from the recorded float32.
fn outputs(
    golden: &Golden,
    tensors: &Tensors,
    single: &Outcome,
    double: &Outcome,
) -> Result<(Report, Report), String> {
    let (mut stored, mut exact) = (Report::default(), Report::default());
    for (name, want) in &golden.outputs {
        // Base CLIP has one view, and no suffix for it.
        let ours = |outcome: &Outcome| -> Result<Option<Vec<f64>>, String> {
            let found = outcome.outputs.get(name);
            let found = found.or_else(|| outcome.outputs.get(&format!("{name}_global")));
            let Some(tensor) = found.filter(|tensor| tensor.size() == want.shape) else {
                return Ok(None);
            };
            to_f64(tensor).map(Some).map_err(|error| error.to_string())
        };
        let (Some(got), Some(got_f64)) = (ours(single)?, ours(double)?) else {
            stored.equal(name, "no such output", "an output of the recorded shape");
            continue;
        };
        let recorded = match tensors.get(&format!("out/{name}")).filter(|_| want.stored) {
            Some(tensor) => to_f64(tensor).map_err(|error| error.to_string())?,
            None if !want.stored => want.first64.clone(),
            None => {
                stored.equal(name, "no tensor in the file", "a stored tensor");
                continue;
            }
        };
        if want.stored {
            let apart = relative_norm(&recorded, &got_f64);
            exact.close(&format!("{name}: distance"), apart, want.reldiff_f64, F64);
        }
        compare_output(&mut stored, name, want, &got, &recorded);
    }
    if exact.checks.is_empty() {
        exact.skip("all", "no output is stored whole");
    }
    Ok((stored, exact))
}

fn compare_output(report: &mut Report, name: &str, want: &Output, got: &[f64], recorded: &[f64]) {
    let n = got.len() as f64;
    let rms = want.l2 / n.sqrt();
    let tolerance = F32.max(TIMES * want.reldiff_f64);
    let norm = got.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mean = got.iter().sum::<f64>() / n;
    report.close(&format!("{name}.l2"), norm, want.l2, tolerance * want.l2);
    // The mean of many values is known better than the values: their errors cancel.
    report.close(
        &format!("{name}.mean"),
        mean,
        want.mean,
        tolerance * rms / n.sqrt().min(10.0),
    );
    let head = &got[..recorded.len().min(got.len())];
    report.equal(&format!("{name}: values"), head.len(), recorded.len());
    report.close(
        &format!("{name}: distance"),
        relative_norm(head, recorded),
        0.0,
        tolerance,
    );
    // A single value may lie further off than the root mean square, but not ten times.
    let worst = head
        .iter()
        .zip(recorded)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    report.close(
        &format!("{name}: largest difference"),
        worst,
        0.0,
        10.0 * tolerance * rms,
    );
}

/// Every recorded parameter that has a true gradient, with ours.
fn each_param<'a>(
    golden: &'a Golden,
    ours: &'a BTreeMap<String, Digest>,
    report: &mut Report,
) -> Vec<(&'a String, &'a Param, &'a Digest)> {
    let mut all = Vec::new();
    for (name, want) in &golden.params {
        if want.grad_reldiff_f64 > NOISE {
            report.skip(
                name,
                "its true gradient is 0, so that the recorded one is noise",
            );
        } else if let Some(got) = ours.get(name) {
            all.push((name, want, got));
        } else {
            report.equal(name, "no gradient", "a gradient");
        }
    }
    all
}

fn gradients_f64(golden: &Golden, double: &Outcome) -> Report {
    let mut report = Report::default();
    for (name, want, got) in each_param(golden, &double.grads, &mut report) {
        let want = want.grad_l2_f64;
        report.close(&format!("{name}.grad_l2_f64"), got.l2, want, F64 * want);
    }
    report
}

fn gradients_f32(golden: &Golden, single: &Outcome) -> Report {
    let mut report = Report::default();
    for (name, want, got) in each_param(golden, &single.grads, &mut report) {
        let tolerance = F32.max(TIMES * want.grad_reldiff_f64);
        let l2 = want.grad_l2;
        report.close(&format!("{name}.grad_l2"), got.l2, l2, tolerance * l2);
        let scale = scale_of(golden, name, want);
        for (i, (&got, &want)) in got.first.iter().zip(&want.grad_first8).enumerate() {
            // The noise of one value may be a few times that of the whole gradient.
            let tolerance = TIMES * tolerance * scale.max(want.abs());
            report.close(&format!("{name}.grad_first8[{i}]"), got, want, tolerance);
        }
    }
    report
}

/// Size of a gradient's first values: their noise is that of their neighbours.
fn scale_of(golden: &Golden, name: &str, want: &Param) -> f64 {
    let n: i64 = golden
        .state_dict
        .iter()
        .find(|entry| entry.0 == name)
        .map_or(1, |(_, shape, _)| shape.iter().product());
    let rms = want.grad_l2 / (n as f64).sqrt();
    let here: f64 = want.grad_first8.iter().map(|x| x * x).sum::<f64>();
    here.sqrt()
        .max(rms * (want.grad_first8.len() as f64).sqrt())
}

/// Parameters after one step. AdamW's first step is the sign of the gradient times the rate, so a value
/// is known well where its gradient is clear of the noise, and within the recorded difference elsewhere.
fn steps(golden: &Golden, single: &Outcome, double: &Outcome) -> Report {
    let mut report = Report::default();
    for (name, want, got) in each_param(golden, &single.step1, &mut report) {
        let loose = TIMES * want.step1_maxabsdiff_f64;
        let l2 = want.step1_l2;
        report.close(
            &format!("{name}.step1_l2"),
            got.l2,
            l2,
            (F32 * l2).max(loose),
        );
        let noise = TIMES * want.grad_reldiff_f64 * scale_of(golden, name, want);
        let gradient = double
            .grads
            .get(name)
            .map_or(&[][..], |digest| &digest.first[..]);
        for (i, (&got, &want)) in got.first.iter().zip(&want.step1_first8).enumerate() {
            let clear = gradient.get(i).is_some_and(|g| g.abs() > noise);
            let tight = F32 * want.abs().max(golden.optimizer.lr);
            let tolerance = if clear { tight } else { tight.max(loose) };
            report.close(&format!("{name}.step1_first8[{i}]"), got, want, tolerance);
        }
    }
    report
}

fn buffers(golden: &Golden, single: &Outcome) -> Report {
    let mut report = Report::default();
    for (name, want) in &golden.buffers_after_step1 {
        let Some(got) = single.buffers.get(name) else {
            report.equal(name, "no such buffer", "a buffer");
            continue;
        };
        report.close(&format!("{name}.l2"), got.l2, want.l2, F32 * want.l2);
        let n = want.first8.len() as f64;
        let scale = (want.first8.iter().map(|x| x * x).sum::<f64>() / n).sqrt();
        for (i, (&got, &want)) in got.first.iter().zip(&want.first8).enumerate() {
            let tolerance = F32 * scale.max(want.abs());
            report.close(&format!("{name}.first8[{i}]"), got, want, tolerance);
        }
    }
    report
}
