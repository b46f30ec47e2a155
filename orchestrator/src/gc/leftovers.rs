//! What was being made when its maker was killed, and what is kept beside runs that are gone.

use std::fs;
use std::path::{Path, PathBuf};

use rocket_common::error::Result;
use rocket_common::run_dir::{is_run_id, list};

use super::census::DRILL;
use super::{Census, Item, Kind, Plan, Young, room};
use crate::bundle;
use crate::slurm::secrets;

/// Beginnings of the names of what is made aside in the folder of runs, or removed from it.
const ASIDE: [&str; 6] = [
    ".new-", ".import-", ".gone-", ".now-", ".doctor-", ".doomed-",
];

pub(super) fn find(root: &Path, census: &Census, young: &Young, plan: &mut Plan) -> Result<()> {
    let mut found: Vec<(PathBuf, String)> = Vec::new();
    let half = "was being written or removed when that was interrupted";
    for folder in [root.to_path_buf(), root.join(bundle::FOLDER)] {
        for (path, name) in children(&folder) {
            if ASIDE.iter().any(|begin| name.starts_with(begin)) {
                found.push((path, half.into()));
            }
        }
    }
    for (path, name) in children(root) {
        if name.starts_with(DRILL) {
            let ids: Vec<PathBuf> = list(&path)?.iter().map(|run| run.path().into()).collect();
            let mut runs = census.runs.iter();
            let at_rest = |dir: &PathBuf| runs.any(|known| known.run.path() == dir && known.idle);
            if ids.iter().all(at_rest) {
                found.push((path, "a drill that is over".into()));
            }
        }
    }
    // Drafts of a run that somebody works on are its own business.
    for known in census.runs.iter().filter(|known| known.idle) {
        for (path, name) in children(&known.run.checkpoints_dir()) {
            if name.starts_with(".tmp-") || name.starts_with(".removed-") {
                found.push((path, half.into()));
            }
        }
    }
    for (path, name) in children(&secrets::folder(root)) {
        let id = name
            .strip_suffix(".env")
            .or_else(|| name.strip_suffix(".notify.json"));
        if let Some(id) = id.filter(|id| is_run_id(id))
            && !census.names.contains(id)
        {
            found.push((path, "kept for a run that is gone".into()));
        }
    }
    for (path, why) in found {
        if young.is(&path) {
            continue;
        }
        let inner = path.strip_prefix(root).unwrap_or(&path);
        plan.items.push(Item {
            kind: Kind::Leftover,
            name: inner.to_string_lossy().into_owned(),
            bytes: room(&path),
            why,
        });
    }
    Ok(())
}

fn children(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (entry.path(), name)
        })
        .collect()
}
