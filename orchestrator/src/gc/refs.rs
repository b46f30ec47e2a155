//! Refs of runs whose directory is gone.

use std::collections::BTreeMap;

use git2::{Oid, Repository};
use rocket_common::error::Result;
use rocket_common::run_dir::is_run_id;

use super::{Census, Item, Kind, Place, Plan, Young};
use crate::pin::{self, git_error};

const BEGINS: &str = "refs/rocket/";

/// Refs of runs in a repository, by run.
fn of(repo: &Repository) -> Result<BTreeMap<String, Oid>> {
    let failed = |error: git2::Error| git_error("read the refs of runs", &error);
    let mut found = BTreeMap::new();
    for reference in repo
        .references_glob(&format!("{BEGINS}*"))
        .map_err(failed)?
    {
        let reference = reference.map_err(failed)?;
        if let (Ok(name), Some(target)) = (reference.name(), reference.target())
            && let Some(id) = name.strip_prefix(BEGINS).filter(|id| is_run_id(id))
        {
            found.insert(id.to_owned(), target);
        }
    }
    Ok(found)
}

pub(super) fn find(
    place: &Place<'_>,
    census: &Census,
    young: &Young,
    plan: &mut Plan,
) -> Result<()> {
    let store = place.root.join(pin::STORE);
    let Ok(bare) = Repository::open_bare(&store) else {
        return Ok(());
    };
    let own = match place.source {
        Some(source) => of(source.repository())?,
        None => BTreeMap::new(),
    };
    for (id, target) in of(&bare)? {
        let name = pin::ref_name(&id);
        // A submit writes the ref first and the run after it.
        let loose = store.join(&name);
        if census.names.contains(&id) || loose.exists() && young.is(&loose) {
            continue;
        }
        // That of the repository here is known to be this folder's: the store has the same.
        if own.get(&id) == Some(&target) {
            plan.items.push(Item {
                kind: Kind::OwnRef,
                name: name.clone(),
                bytes: 0,
                why: "its run is gone; in the repository here".into(),
            });
        }
        plan.items.push(Item {
            kind: Kind::Ref,
            name,
            bytes: 0,
            why: "its run is gone; in the store of pins".into(),
        });
    }
    Ok(())
}

/// Removes a ref, looks whether its run has appeared, and gives the ref back then.
pub(super) fn remove(place: &Place<'_>, item: &Item) -> Result<bool> {
    let failed = |error: git2::Error| git_error(&format!("remove {}", item.name), &error);
    let bare;
    let repo = match (item.kind, place.source) {
        (Kind::OwnRef, Some(source)) => source.repository(),
        _ => {
            bare = Repository::open_bare(place.root.join(pin::STORE)).map_err(failed)?;
            &bare
        }
    };
    let mut reference = match repo.find_reference(&item.name) {
        Ok(reference) => reference,
        Err(error) if error.code() == git2::ErrorCode::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    let target = reference.target();
    reference.delete().map_err(failed)?;
    let id = item.name.strip_prefix(BEGINS).unwrap_or(&item.name);
    if std::fs::symlink_metadata(place.root.join(id)).is_err() {
        return Ok(true);
    }
    if let Some(target) = target {
        // Not over one that the submit has written anew.
        let _ = repo.reference(&item.name, target, false, "rocket gc");
    }
    Ok(false)
}
