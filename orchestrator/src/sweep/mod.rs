//! Sweeps: many points of one experiment, each a run of its own.
//!
//! A run says in its manifest which point of which sweep it is, and that is the truth about a sweep.
//! `<runs>/sweeps/<id>.json` beside it says what was asked for, so that what is missing can be
//! submitted and more can be added.

mod points;
mod record;
pub(crate) mod turn;

use std::path::Path;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::{self, Manifest, RunDir, SweepPoint, suggest};

pub(crate) use points::{New, UNASKED, confirm};
pub(crate) use record::{Record, taken};

/// Folder of sweeps in the folder of runs.
pub(crate) const FOLDER: &str = "sweeps";

/// A run of a sweep.
pub(crate) struct Member {
    pub(crate) run: RunDir,
    pub(crate) manifest: Manifest,
    pub(crate) point: SweepPoint,
}

/// The runs of a sweep, by the number of their point. Damaged ones are passed over.
pub(crate) fn members(root: &Path, id: &str) -> Result<Vec<Member>> {
    let mut members: Vec<Member> = run_dir::list(root)?
        .into_iter()
        .filter_map(|run| {
            let manifest = run.manifest().ok()?;
            let point = manifest.sweep.clone().filter(|sweep| sweep.id == id)?;
            Some(Member {
                run,
                manifest,
                point,
            })
        })
        .collect();
    members.sort_by_key(|member| member.point.point);
    Ok(members)
}

/// Ids of all sweeps, in alphabetical order.
pub(crate) fn ids(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root.join(FOLDER));
    let mut ids: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let id = name.strip_suffix(".json")?;
            (!id.starts_with('.')).then(|| id.to_owned())
        })
        .collect();
    ids.sort();
    ids
}

/// The sweep that a person means: its id, or the unique beginning of one.
///
/// # Errors
/// None or several match; the message names the nearest or the candidates.
pub(crate) fn find(root: &Path, query: &str) -> Result<Record> {
    let ids = ids(root);
    if ids.iter().any(|id| id == query) {
        return Record::read(root, query);
    }
    let matching: Vec<&String> = ids.iter().filter(|id| id.starts_with(query)).collect();
    match matching[..] {
        [id] if !query.is_empty() => Record::read(root, id),
        [] | [_] => {
            let message = format!("there is no sweep '{query}' in '{}'", root.display());
            let error = Error::new(ExitKind::Usage, message);
            Err(match suggest(query, ids.iter().map(String::as_str)) {
                Some(nearest) => error.hint(format!("did you mean '{nearest}'?")),
                None if ids.is_empty() => error.hint(
                    "submit an experiment with 'sweep: {optim.lr: [1e-3, 3e-3]}' to make one",
                ),
                None => error.hint("'rocket sweep status' lists the sweeps"),
            })
        }
        _ => {
            let names: Vec<String> = matching.iter().map(|id| format!("'{id}'")).collect();
            let message = format!(
                "'{query}' could be {} sweeps: {}",
                names.len(),
                names.join(", ")
            );
            Err(Error::new(ExitKind::Usage, message).hint("write enough of the name"))
        }
    }
}
