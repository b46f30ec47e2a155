//! The runs that a person means by ids, beginnings, names, patterns and sweeps.

use std::fs;

use globset::Glob;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::{self, RunDir};
use serde_json::Value;

use crate::runs::Runs;

/// Each query in its order, each run once: `*` and `?` match ids and names; the id of a sweep means all of
/// its runs; all else is one run, as everywhere.
///
/// # Errors
/// A query that matches nothing.
pub(crate) fn select(runs: &Runs, queries: &[String]) -> Result<Vec<RunDir>> {
    let mut found: Vec<RunDir> = Vec::new();
    for query in queries {
        for run in matching(runs, query)? {
            if !found.iter().any(|known| known.path() == run.path()) {
                found.push(run);
            }
        }
    }
    Ok(found)
}

fn matching(runs: &Runs, query: &str) -> Result<Vec<RunDir>> {
    if query.contains('/') {
        return Ok(vec![runs.find(query)?]);
    }
    let root = runs.root()?;
    if query.contains(['*', '?', '[', '{']) {
        let glob = Glob::new(query).map_err(|error| {
            Error::new(
                ExitKind::Usage,
                format!("'{query}' is no pattern: {}", error.kind()),
            )
        })?;
        let glob = glob.compile_matcher();
        let mut all = run_dir::list(&root)?;
        all.retain(|run| {
            let id = run.id();
            glob.is_match(&id) || run_dir::name_of_run_id(&id).is_some_and(|n| glob.is_match(n))
        });
        if all.is_empty() {
            return Err(Error::new(
                ExitKind::Usage,
                format!("no run in '{}' matches '{query}'", root.display()),
            )
            .hint("'rocket status' lists the runs"));
        }
        return Ok(all);
    }
    if run_dir::is_run_id(query) && root.join(query).is_dir() {
        return Ok(vec![runs.find(query)?]);
    }
    let mut points: Vec<(u64, RunDir)> = run_dir::list(&root)?
        .into_iter()
        .filter_map(|run| {
            let (id, point) = sweep_of(&run)?;
            (id == query).then_some((point, run))
        })
        .collect();
    if points.is_empty() {
        return Ok(vec![runs.find(query)?]);
    }
    points.sort_by_key(|(point, _)| *point);
    Ok(points.into_iter().map(|(_, run)| run).collect())
}

/// The sweep that a run belongs to, and the number of its point.
pub(crate) fn sweep_of(run: &RunDir) -> Option<(String, u64)> {
    let text = fs::read_to_string(run.manifest_path()).ok()?;
    if !text.contains("\"sweep\"") {
        return None;
    }
    let manifest: Value = serde_json::from_str(&text).ok()?;
    let sweep = manifest.get("sweep")?;
    let id = sweep.get("id")?.as_str()?.to_owned();
    Some((
        id,
        sweep
            .get("point")
            .and_then(Value::as_u64)
            .unwrap_or_default(),
    ))
}
