//! Learning-rate schedules: a list of `{kwargs, values}` recorded from the original's scheduler.

use serde::Deserialize;

use super::report::Report;
use crate::optim::schedule::Schedule;

/// Relative tolerance: the cosines of two libraries differ by a last bit.
const TOLERANCE: f64 = 1e-12;

#[derive(Deserialize)]
struct Case {
    kwargs: Kwargs,
    values: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kwargs {
    base_value: f64,
    final_value: f64,
    epochs: u64,
    niter_per_ep: u64,
    #[serde(default)]
    warmup_epochs: u64,
    #[serde(default)]
    start_warmup_value: f64,
}

/// Whether a golden file's text is of this kind.
#[must_use]
pub fn recognises(value: &serde_json::Value) -> bool {
    value
        .get(0)
        .is_some_and(|case| case.get("kwargs").is_some() && case.get("values").is_some())
}

/// Compares every value of every schedule.
///
/// # Errors
/// The value is not of this format.
pub fn check(value: &serde_json::Value) -> Result<Report, String> {
    let cases = Vec::<Case>::deserialize(value).map_err(|e| e.to_string())?;
    let mut report = Report::default();
    for (i, case) in cases.iter().enumerate() {
        let k = &case.kwargs;
        let schedule = Schedule {
            start: k.start_warmup_value,
            peak: k.base_value,
            end: k.final_value,
            warmup_steps: k.warmup_epochs * k.niter_per_ep,
            total_steps: k.epochs * k.niter_per_ep,
        };
        report.equal(
            &format!("{i}.steps"),
            schedule.total_steps,
            case.values.len() as u64,
        );
        for (step, &want) in (0..).zip(&case.values) {
            report.close(
                &format!("{i}.lr[{step}]"),
                schedule.lr(step),
                want,
                TOLERANCE * want.abs(),
            );
        }
    }
    Ok(report)
}
