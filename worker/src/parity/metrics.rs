//! Evaluation metrics: a list of `{metric, outputs, targets, value}` recorded from the original.

use serde::Deserialize;
use serde_json::Value;
use tch::Tensor;

use super::report::Report;
use crate::eval::metrics::{Tally, places, roc_auc_percent};
use crate::values::to_vec;

/// Relative tolerance of figures that the original computes in float64.
const TOLERANCE: f64 = 1e-9;
/// Relative tolerance of figures that the original computes in float32.
const TOLERANCE_F32: f64 = 1e-6;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    metric: String,
    /// `[B, C]`.
    outputs: Vec<Vec<f32>>,
    #[serde(default)]
    targets: Vec<i64>,
    /// A number, or `"nan"`.
    value: Option<Value>,
    acc_top1_topk: Option<[f64; 2]>,
    pred: Option<Vec<i64>>,
    topk: Option<Vec<Vec<i64>>>,
}

/// Whether a golden file's text is of this kind.
#[must_use]
pub fn recognises(value: &Value) -> bool {
    value
        .get(0)
        .is_some_and(|case| case.get("metric").is_some())
}

/// Compares every figure of every case.
///
/// # Errors
/// The value is not of this format, or names a metric that is not known.
pub fn check(value: &Value) -> Result<Report, String> {
    let cases = Vec::<Case>::deserialize(value).map_err(|e| e.to_string())?;
    let mut report = Report::default();
    for (i, case) in cases.iter().enumerate() {
        let name = format!("{i}.{}", case.metric);
        let classes = case.outputs.first().map_or(0, Vec::len);
        if classes == 0 || case.outputs.iter().any(|row| row.len() != classes) {
            return Err(format!("case {name}: 'outputs' is not a table"));
        }
        match case.metric.as_str() {
            "mean_per_class" => {
                let tally = tally(case, classes).map_err(|e| format!("case {name}: {e}"))?;
                figure(
                    &mut report,
                    &name,
                    case,
                    Some(tally.mean_per_class_percent()),
                )?;
                if let Some([top1, topk]) = case.acc_top1_topk {
                    let mut close = |figure, got, want: f64| {
                        report.close(
                            &format!("{name}.{figure}"),
                            got,
                            want,
                            TOLERANCE_F32 * want.abs(),
                        );
                    };
                    close("top1", tally.top1_percent(), top1);
                    close("topk", tally.top5_percent(), topk);
                }
            }
            "roc_auc" => {
                check_targets(case, 2).map_err(|e| format!("case {name}: {e}"))?;
                let margins = case.outputs.iter().map(|row| f64::from(row[1] - row[0]));
                let scored: Vec<_> = margins.zip(case.targets.iter().map(|&t| t == 1)).collect();
                figure(&mut report, &name, case, roc_auc_percent(&scored))?;
            }
            "argmax_ties" => ties(&mut report, &name, case, classes),
            other => return Err(format!("case {i}: the metric '{other}' is not known")),
        }
    }
    Ok(report)
}

/// The case's `value`, which the original leaves NaN for a class predicted but absent.
fn figure(report: &mut Report, name: &str, case: &Case, got: Option<f64>) -> Result<(), String> {
    match &case.value {
        Some(Value::Number(want)) => {
            let want = want.as_f64().unwrap_or(f64::NAN);
            report.close(name, got.unwrap_or(f64::NAN), want, TOLERANCE * want.abs());
            Ok(())
        }
        Some(Value::String(nan)) if nan == "nan" => {
            report.skip(
                name,
                "NaN in the original, which counts a class without images",
            );
            report.equal(
                &format!("{name} is a number"),
                got.is_some_and(f64::is_finite),
                true,
            );
            Ok(())
        }
        _ => Err(format!(
            "case {name}: 'value' is neither a number nor \"nan\""
        )),
    }
}

fn check_targets(case: &Case, classes: usize) -> Result<(), String> {
    if case.targets.len() != case.outputs.len() {
        return Err("'targets' and 'outputs' differ in length".to_owned());
    }
    match case
        .targets
        .iter()
        .find(|&&t| t < 0 || t as usize >= classes)
    {
        Some(target) => Err(format!("target {target} is no class of {classes}")),
        None => Ok(()),
    }
}

fn tally(case: &Case, classes: usize) -> Result<Tally, String> {
    check_targets(case, classes)?;
    let mut tally = Tally::new(classes);
    let places = to_vec::<i64>(&places(
        &table(case, classes),
        &Tensor::from_slice(&case.targets),
    ));
    for (&target, place) in case.targets.iter().zip(places) {
        tally.count(target as usize, place);
    }
    Ok(tally)
}

/// Predictions in the presence of equal outputs, from the place of every class in every row.
fn ties(report: &mut Report, name: &str, case: &Case, classes: usize) {
    let outputs = table(case, classes);
    let mut order = vec![vec![-1; classes]; case.outputs.len()];
    for class in 0..classes as i64 {
        let targets = Tensor::from_slice(&vec![class; case.outputs.len()]);
        for (row, place) in order
            .iter_mut()
            .zip(to_vec::<i64>(&places(&outputs, &targets)))
        {
            row[place as usize] = class;
        }
    }
    for (i, row) in order.iter().enumerate() {
        if let Some(want) = case.pred.as_ref().and_then(|p| p.get(i)) {
            report.equal(&format!("{name}.pred[{i}]"), row[0], *want);
        }
        for (k, want) in case
            .topk
            .iter()
            .flat_map(|t| t.get(i))
            .flatten()
            .enumerate()
        {
            report.equal(
                &format!("{name}.topk[{i}][{k}]"),
                row.get(k).copied().unwrap_or(-1),
                *want,
            );
        }
    }
}

fn table(case: &Case, classes: usize) -> Tensor {
    Tensor::from_slice(&case.outputs.concat()).view([-1, classes as i64])
}
