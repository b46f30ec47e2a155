//! Whole models: names, losses, outputs, gradients, one optimiser step and buffers, in float32 and
//! float64.
//!
//! Tolerances: float64 losses and gradient norms [`F64`] relative; float32 the larger of [`F32`] and
//! [`TIMES`] the recorded difference of float32 and float64, which says how well conditioned a value is.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor};

use super::golden::{Golden, Grad, Param, read_tensors};
use super::outputs::outputs;
use super::recipe::Recipe;
use super::report::Report;
use super::run::{Digest, Names, Outcome, build, run};
use super::{Group, Source};

/// Tensors of a file by name.
pub(super) type Tensors = BTreeMap<String, Tensor>;
/// Losses, accuracies and scales by name.
type Terms = BTreeMap<String, f64>;

/// Relative tolerance in float64.
pub(super) const F64: f64 = 1e-6;
/// Tolerance of a gradient that is one value: rounding of terms of about 1.
const ONE_VALUE: f64 = 1e-6;
/// Relative tolerance in float32.
pub(super) const F32: f64 = 1e-4;
/// How many times the recorded difference of float32 and float64 is tolerated.
pub(super) const TIMES: f64 = 3.0;
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
    tau: f64,
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
        let recipe = Recipe::parse(&golden.model, &golden.argv, Kind::Float)?;
        Ok(Self {
            names,
            tau: recipe.spec.momentum_tau,
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
            ..
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
        if !golden.momentum_params_after_step1.is_empty() {
            group(
                "momentum float32",
                momentum(&golden, self.tau, single, double),
            );
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

/// What a recorded parameter is compared with.
struct Pair<'a> {
    name: &'a String,
    want: &'a Param,
    grad: &'a Grad,
    got: &'a Digest,
}

/// Every recorded parameter that has a true gradient, with ours. One that had none must have none here:
/// `rest` sees to it.
fn each_param<'a>(
    golden: &'a Golden,
    ours: &'a BTreeMap<String, Digest>,
    report: &mut Report,
    rest: impl Fn(&mut Report, &'a String, &'a Param, Option<&'a Digest>),
) -> Vec<Pair<'a>> {
    let mut all = Vec::new();
    for (name, want) in &golden.params {
        let got = ours.get(name);
        match (&want.grad, got) {
            (None, got) => rest(report, name, want, got),
            (Some(grad), _) if grad.reldiff_f64 > NOISE => report.skip(
                name,
                "its true gradient is 0, so that the recorded one is noise",
            ),
            (Some(grad), Some(got)) => all.push(Pair {
                name,
                want,
                grad,
                got,
            }),
            (Some(_), None) => report.equal(name, "nothing", "a gradient"),
        }
    }
    all
}

/// A parameter without a recorded gradient has none here.
fn without_gradient<'a>(
    report: &mut Report,
    name: &'a String,
    _: &'a Param,
    got: Option<&'a Digest>,
) {
    let said = if got.is_some() { "a gradient" } else { "none" };
    report.equal(&format!("{name}.grad"), said, "none");
}

fn gradients_f64(golden: &Golden, double: &Outcome) -> Report {
    let mut report = Report::default();
    for pair in each_param(golden, &double.grads, &mut report, without_gradient) {
        let want = pair.grad.l2_f64;
        let name = format!("{}.grad_l2_f64", pair.name);
        report.close(&name, pair.got.l2, want, F64 * want);
    }
    report
}

fn gradients_f32(golden: &Golden, single: &Outcome) -> Report {
    let mut report = Report::default();
    for pair in each_param(golden, &single.grads, &mut report, without_gradient) {
        let Pair {
            name, grad, got, ..
        } = pair;
        let tolerance = F32.max(TIMES * grad.reldiff_f64);
        let l2 = grad.l2;
        // A scale's gradient is a sum whose terms nearly cancel: its noise is that of the terms.
        let lone = if values_of(golden, name) == 1 {
            ONE_VALUE
        } else {
            0.0
        };
        let of_norm = (tolerance * l2).max(lone);
        report.close(&format!("{name}.grad_l2"), got.l2, l2, of_norm);
        let scale = scale_of(golden, name, grad);
        for (i, (&got, &want)) in got.first.iter().zip(&grad.first8).enumerate() {
            // The noise of one value may be a few times that of the whole gradient.
            let tolerance = (TIMES * tolerance * scale.max(want.abs())).max(lone);
            report.close(&format!("{name}.grad_first8[{i}]"), got, want, tolerance);
        }
    }
    report
}

/// Number of values of a parameter.
fn values_of(golden: &Golden, name: &str) -> i64 {
    let mut entries = golden.state_dict.iter();
    entries
        .find(|entry| entry.0 == name)
        .map_or(1, |(_, shape, _)| shape.iter().product())
}

/// Size of a gradient's first values: their noise is that of their neighbours.
fn scale_of(golden: &Golden, name: &str, grad: &Grad) -> f64 {
    let rms = grad.l2 / (values_of(golden, name) as f64).sqrt();
    let here: f64 = grad.first8.iter().map(|x| x * x).sum::<f64>();
    here.sqrt().max(rms * (grad.first8.len() as f64).sqrt())
}

/// How far the norm of a parameter may be off after one step.
///
/// AdamW's first step is the sign of the gradient times the rate. Of `n` values about `n * noise` have a
/// gradient within the noise, and each of these may go the other way: which ones is the luck of a
/// recording, so that a single recorded difference does not say it.
fn step_tolerance(golden: &Golden, pair: &Pair<'_>) -> f64 {
    let want = pair.want;
    let n = values_of(golden, pair.name) as f64;
    let expected = n * (TIMES * pair.grad.reldiff_f64).min(1.0);
    let turned = (expected + 3.0 * expected.sqrt()).min(n);
    // Weights are filled evenly, up to sqrt 3 times their root mean square.
    let largest = (3.0 / n).sqrt();
    let by_turning = 2.0 * golden.optimizer.lr * largest * turned.sqrt();
    let recorded = TIMES * want.step1_maxabsdiff_f64;
    (F32 * want.step1_l2).max(recorded).max(by_turning)
}

/// How far first values of a parameter may be off after one step, value by value. AdamW's first step is
/// the sign of the gradient times the rate, so a value is known well where its gradient is clear of the
/// noise, and within the recorded difference elsewhere.
fn step_tolerances(golden: &Golden, pair: &Pair<'_>, double: &Outcome) -> Vec<f64> {
    let loose = TIMES * pair.want.step1_maxabsdiff_f64;
    let noise = TIMES * pair.grad.reldiff_f64 * scale_of(golden, pair.name, pair.grad);
    let gradient = double
        .grads
        .get(pair.name)
        .map_or(&[][..], |digest| &digest.first[..]);
    let values = pair.want.step1_first8.iter().enumerate();
    values
        .map(|(i, want)| {
            let clear = gradient.get(i).is_some_and(|g| g.abs() > noise);
            let tight = F32 * want.abs().max(golden.optimizer.lr);
            if clear { tight } else { tight.max(loose) }
        })
        .collect()
}

/// Parameters after one step.
fn steps(golden: &Golden, single: &Outcome, double: &Outcome) -> Report {
    let mut report = Report::default();
    // What has no gradient stays as it was filled.
    let still = |report: &mut Report, name: &String, want: &Param, got: Option<&Digest>| {
        let l2 = got.map_or(f64::NAN, |got| got.l2);
        report.close(
            &format!("{name}.step1_l2"),
            l2,
            want.step1_l2,
            F64 * want.step1_l2,
        );
        let first = got.map_or(&[][..], |got| &got.first);
        for (i, (&got, &want)) in first.iter().zip(&want.step1_first8).enumerate() {
            report.close(
                &format!("{name}.step1_first8[{i}]"),
                got,
                want,
                F64 * want.abs(),
            );
        }
    };
    for pair in each_param(golden, &single.step1, &mut report, still) {
        let Pair {
            name, want, got, ..
        } = pair;
        let (l2, tolerance) = (want.step1_l2, step_tolerance(golden, &pair));
        report.close(&format!("{name}.step1_l2"), got.l2, l2, tolerance);
        let tolerances = step_tolerances(golden, &pair, double);
        let values = got.first.iter().zip(&want.step1_first8).zip(tolerances);
        for (i, ((&got, &want), tolerance)) in values.enumerate() {
            report.close(&format!("{name}.step1_first8[{i}]"), got, want, tolerance);
        }
    }
    report
}

/// Parameters of the momentum encoder after one step: they took `1 - tau` of it, and of its noise.
fn momentum(golden: &Golden, tau: f64, single: &Outcome, double: &Outcome) -> Report {
    let mut report = Report::default();
    let none = |_: &mut Report, _: &String, _: &Param, _: Option<&Digest>| {};
    for pair in each_param(golden, &single.momentum, &mut report, none) {
        let (name, got) = (pair.name, pair.got);
        let Some(want) = golden.momentum_params_after_step1.get(name) else {
            report.equal(name, "nothing", "a recorded parameter");
            continue;
        };
        let of_step = step_tolerance(golden, &pair);
        let tolerance = F64 * want.l2 + (1.0 - tau) * of_step;
        report.close(&format!("{name}.l2"), got.l2, want.l2, tolerance);
        let tolerances = step_tolerances(golden, &pair, double);
        let values = got.first.iter().zip(&want.first8).zip(tolerances);
        for (i, ((&got, &want), of_step)) in values.enumerate() {
            let tolerance = F64 * want.abs() + (1.0 - tau) * of_step;
            report.close(&format!("{name}.first8[{i}]"), got, want, tolerance);
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
