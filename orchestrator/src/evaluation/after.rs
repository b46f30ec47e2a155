//! `eval.after`: what is evaluated when a run has finished. It is submitted before the run is marked
//! finished, so that a supervisor that dies in between does it again, and under an id that is claimed
//! first, so that it is never done twice.

use rocket_common::atomic;
use rocket_common::error::Result;
use rocket_common::experiment::{After, Experiment};
use rocket_common::run_dir::{Manifest, RunDir};
use serde::{Deserialize, Serialize};

use super::plan::{Plan, Request};
use crate::backend::Backends;

/// `eval/.after.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Claimed {
    /// Id of the evaluation.
    run_id: String,
}

/// Submits what `eval.after` asks for, unless that was done. Gives the evaluation's id.
///
/// # Errors
/// There is no checkpoint, a set is unknown, or the backend refuses.
pub(crate) fn submit_after(
    run: &RunDir,
    manifest: &Manifest,
    backends: &Backends,
) -> Result<Option<String>> {
    let experiment = Experiment::read(&run.experiment_path())?;
    let datasets = match &experiment.eval.after {
        _ if experiment.command.is_some() || manifest.evaluation.is_some() => return Ok(None),
        After::None => return Ok(None),
        After::All => Vec::new(),
        After::Sets(sets) => sets.clone(),
    };
    let request = Request {
        checkpoint: "best",
        datasets: &datasets,
        again: false,
        details: false,
        sets: &[],
    };
    let plan = Plan::new(run, manifest, &request, backends)?;
    let path = run.eval_dir().join(".after.json");
    let claimed = atomic::read_json_opt::<Claimed>(&path)?;
    if claimed.is_none() && plan.is_empty() {
        for (set, other) in &plan.underway {
            tracing::info!("eval.after: {set} is being scored by {other}");
        }
        return Ok(None);
    }
    let id = match claimed {
        Some(claimed) => claimed.run_id,
        None => {
            let run_id = plan.free_id();
            if atomic::create_json(
                &path,
                &Claimed {
                    run_id: run_id.clone(),
                },
            )? {
                run_id
            } else {
                atomic::read_json::<Claimed>(&path)?.run_id
            }
        }
    };
    let made = plan.create_claimed(&id)?;
    plan.hand_over(&made, backends)?;
    Ok(Some(id))
}
