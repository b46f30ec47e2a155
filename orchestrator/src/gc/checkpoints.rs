//! Checkpoints of finished runs, but the last and the best.

use std::path::Path;

use rocket_common::checkpoint::{self, BEST_METRIC, Keep};
use rocket_common::error::Result;
use rocket_common::run_dir::RunDir;

use super::{Census, Item, Kind, Options, Plan, Young, room};

pub(super) fn find(census: &Census, options: &Options, young: &Young, plan: &mut Plan) {
    let keep = Keep {
        last: options.keep_last,
        best: options.keep_best,
        metric: BEST_METRIC.to_owned(),
    };
    for known in census.runs.iter().filter(|known| known.finished) {
        let run = &known.run;
        // Of an imported run the one that came along is all there is. What has just ended may be being
        // evaluated.
        if known.manifest.imported.is_some() || young.is(&run.checkpoints_dir()) {
            continue;
        }
        let pruned = match checkpoint::excess(run, &keep) {
            Ok(pruned) => pruned,
            Err(error) => {
                plan.notes.push(format!("run {}: {error}", run.id()));
                continue;
            }
        };
        for step in pruned.removed {
            let name = checkpoint::dir_name(step);
            let dir = run.checkpoints_dir().join(&name);
            let inside = dir.canonicalize().unwrap_or_else(|_| dir.clone());
            if census.starts.iter().any(|path| path.starts_with(&inside)) {
                plan.notes.push(format!(
                    "checkpoint {name} of run {} stays: another run starts from it or evaluates it",
                    run.id()
                ));
                continue;
            }
            plan.items.push(Item {
                kind: Kind::Checkpoint,
                name: format!("{}/checkpoints/{name}", run.id()),
                bytes: room(&dir),
                why: "neither the last nor the best of a finished run".into(),
            });
        }
    }
}

/// The run is finished, and stays so.
pub(super) fn remove(root: &Path, name: &str) -> Result<bool> {
    let mut parts = name.splitn(3, '/');
    let (Some(id), Some(_), Some(dir)) = (parts.next(), parts.next(), parts.next()) else {
        return Ok(false);
    };
    let run = RunDir::open(root.join(id))?;
    match checkpoint::step_of(dir) {
        Some(step) => checkpoint::remove(&run.checkpoints_dir(), step).map(|()| true),
        None => Ok(false),
    }
}
