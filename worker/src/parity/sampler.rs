//! The original's order of samples over ranks: for information, as the order of this project is its own.
//! That the recorded one is understood shows in computing it again.

use serde::Deserialize;
use serde_json::Value;
use tch::{Device, Kind, TchError, Tensor};

use super::report::Report;

#[derive(Debug, Deserialize)]
struct Case {
    n: usize,
    world: usize,
    epoch: i64,
    drop_last: bool,
    seed: i64,
    ranks: Vec<Vec<i64>>,
}

/// Whether a golden file is of this kind.
#[must_use]
pub fn recognises(value: &Value) -> bool {
    let first = value.as_array().and_then(|cases| cases.first());
    first.is_some_and(|case| case.get("world").is_some() && case.get("drop_last").is_some())
}

/// Torch's permutation of `n` numbers out of a fresh generator.
fn permutation(n: usize, seed: i64) -> Result<Vec<i64>, TchError> {
    tch::manual_seed(seed);
    let order = Tensor::f_randperm(n as i64, (Kind::Int64, Device::Cpu))?;
    let mut values = vec![0; n];
    order.f_copy_data(&mut values, n)?;
    Ok(values)
}

/// Compares the samples of every rank. A permutation of all samples by a generator seeded with seed +
/// epoch, filled up from its own head (or cut) to a multiple of the ranks, is dealt to them in turn.
///
/// # Errors
/// If the file is of another format or torch fails.
pub fn check(value: &Value) -> Result<Report, String> {
    let cases = Vec::<Case>::deserialize(value).map_err(|error| error.to_string())?;
    let mut report = Report::default();
    for (number, case) in cases.iter().enumerate() {
        let world = case.world.max(1);
        let each = if case.drop_last {
            case.n / world
        } else {
            case.n.div_ceil(world)
        };
        let order = permutation(case.n, case.seed + case.epoch).map_err(|e| e.to_string())?;
        let dealt: Vec<i64> = order.iter().copied().cycle().take(each * world).collect();
        report.equal(&format!("case {number}: ranks"), world, case.ranks.len());
        for (rank, want) in case.ranks.iter().enumerate() {
            let got: Vec<i64> = dealt.iter().copied().skip(rank).step_by(world).collect();
            let name = format!("case {number}: samples of rank {rank}");
            report.equal(&name, format!("{got:?}"), format!("{want:?}"));
        }
    }
    Ok(report)
}
