//! What encoding gives: the outputs of the first batch.

use super::golden::{Golden, Output};
use super::models::{F32, F64, TIMES, Tensors};
use super::report::Report;
use super::run::{Outcome, to_f64};

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
pub(super) fn outputs(
    golden: &Golden,
    tensors: &Tensors,
    single: &Outcome,
    double: &Outcome,
) -> Result<(Report, Report), String> {
    let (mut stored, mut exact) = (Report::default(), Report::default());
    for (name, want) in &golden.outputs {
        if is_unused(name) {
            stored.skip(name, "no target comes from it, so that it is not computed");
            continue;
        }
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

/// Whether an output of the momentum encoder is one that no loss takes. The original computes them all.
fn is_unused(name: &str) -> bool {
    let name = name.split('.').next().unwrap_or(name);
    name.ends_with("_momentum") && !["feats_", "v_"].iter().any(|used| name.starts_with(used))
}
