//! Which checkpoints stay.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::store::{Checkpoint, list, open, verify};
use super::{dir_name, failed};
use crate::atomic;
use crate::error::Result;
use crate::run_dir::RunDir;

/// The score by which a checkpoint is the best one: top-1 of the z head, a fraction of 1.
pub const BEST_METRIC: &str = "z_top1";

/// What stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// That many of the latest.
    pub last: usize,
    /// That many of the best.
    pub best: usize,
    /// The score that decides the best (higher is better).
    pub metric: String,
}

/// What [`prune`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Steps that stay.
    pub kept: Vec<u64>,
    /// Steps that are gone.
    pub removed: Vec<u64>,
}

/// Steps that stay, of checkpoints in any order: the latest `last` (at least one) and the best `best`
/// by score; of equal scores the later one.
#[must_use]
pub fn choose(scores: &[(u64, Option<f64>)], keep: &Keep) -> BTreeSet<u64> {
    let mut by_step: Vec<u64> = scores.iter().map(|(step, _)| *step).collect();
    by_step.sort_unstable_by(|a, b| b.cmp(a));
    let mut by_score: Vec<(f64, u64)> = scores
        .iter()
        .filter_map(|(step, score)| Some(((*score)?, *step)))
        .collect();
    by_score.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    let last = by_step.into_iter().take(keep.last.max(1));
    let best = by_score.into_iter().take(keep.best);
    last.chain(best.map(|(_, step)| step)).collect()
}

/// Removes what need not stay, and what lower attempts left half-written.
///
/// # Errors
/// A newer attempt than `attempt` exists, or the file system refuses.
pub fn prune(run: &RunDir, attempt: u32, keep: &Keep) -> Result<Pruned> {
    run.fence_check(attempt)?;
    let place = run.checkpoints_dir();
    remove_leftovers(&place, attempt)?;
    let pruned = excess(run, keep)?;
    for step in &pruned.removed {
        // A newer attempt may be reading it.
        run.fence_check(attempt)?;
        remove(&place, *step)?;
    }
    Ok(pruned)
}

/// Which checkpoints would stay and which go, and removes none. The latest of those that stay was read
/// back and compared with its checksums; if it is damaged the next one takes its place, so that the only
/// good checkpoint is never among those that go.
///
/// # Errors
/// The file system refuses.
pub fn excess(run: &RunDir, keep: &Keep) -> Result<Pruned> {
    let place = run.checkpoints_dir();
    let all: Vec<u64> = list(&place)?.into_iter().map(|(step, _)| step).collect();
    let mut usable: Vec<Checkpoint> = all
        .iter()
        .filter_map(|step| open(&place.join(dir_name(*step))).ok())
        .collect();
    // The latest first; checksums are compared only as far as needed.
    let mut kept = loop {
        let scores: Vec<(u64, Option<f64>)> = usable
            .iter()
            .map(|one| {
                (
                    one.step(),
                    one.manifest().info.metrics.get(&keep.metric).copied(),
                )
            })
            .collect();
        let kept = choose(&scores, keep);
        if kept.len() == all.len() {
            break kept;
        }
        match usable.first() {
            // Nothing good is known: nothing goes.
            None => break all.iter().copied().collect(),
            Some(latest) if verify(latest.dir()).is_ok() => break kept,
            Some(_) => drop(usable.remove(0)),
        }
    };
    let mut removed = Vec::new();
    for step in &all {
        // Damaged ones that are later than the good ones stay for whoever wants to look.
        let later = kept.iter().all(|good| good < step);
        if kept.contains(step) || later {
            continue;
        }
        removed.push(*step);
    }
    kept.extend(all.iter().filter(|step| !removed.contains(*step)));
    Ok(Pruned {
        kept: kept.into_iter().collect(),
        removed,
    })
}

/// Removes what attempts lower than `attempt` left half-written. This attempt's own drafts may be
/// in the making.
fn remove_leftovers(place: &Path, attempt: u32) -> Result<()> {
    let entries = fs::read_dir(place).map_err(|error| failed("read", place, error))?;
    for entry in entries {
        let name = entry
            .map_err(|error| failed("read", place, error))?
            .file_name();
        let name = name.to_string_lossy();
        // `.tmp-step-00000010-a000-<random>`; the last part may begin with an `a`, too.
        let of = name
            .strip_prefix(".tmp-")
            .and_then(|rest| rest.rsplit_once('-')?.0.rsplit_once("-a"))
            .and_then(|(_, attempt)| attempt.parse::<u32>().ok());
        if of.is_some_and(|of| of < attempt) || name.starts_with(".removed-") {
            let path = place.join(&*name);
            fs::remove_dir_all(&path)
                .or_else(|error| {
                    if atomic::is_absent(&error) {
                        Ok(())
                    } else {
                        Err(error)
                    }
                })
                .map_err(|error| failed("remove", &path, error))?;
        }
    }
    Ok(())
}

/// Removes the checkpoint of a step from a folder of checkpoints.
///
/// # Errors
/// The file system refuses.
pub fn remove(place: &Path, step: u64) -> Result<()> {
    // Renamed first, so that nobody ever lists a checkpoint that is half removed.
    let name = dir_name(step);
    let path = place.join(&name);
    let aside = place.join(format!(".removed-{name}-{}", atomic::unique()));
    fs::rename(&path, &aside)
        .and_then(|()| fs::remove_dir_all(&aside))
        .map_err(|error| failed("remove", &path, error))
}
