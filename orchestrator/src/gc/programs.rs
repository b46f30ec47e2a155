//! Bundles of programs that no run has.

use std::path::Path;

use rocket_common::error::Result;

use super::census::names;
use super::{Census, Item, Kind, Options, Plan, Young, put_away, room};
use crate::bundle::{Doom, FOLDER};

/// Whether a name is that of a bundle: the beginning of a hash.
fn is_bundle(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn find(
    root: &Path,
    census: &Census,
    options: &Options,
    young: &Young,
    plan: &mut Plan,
) -> Result<()> {
    if census.unread {
        return Ok(());
    }
    let needed = census.bundles(options.finished_programs);
    for name in names(&root.join(FOLDER))? {
        let path = root.join(FOLDER).join(&name);
        if needed.contains(&name) || !is_bundle(&name) || young.is(&path) {
            continue;
        }
        plan.items.push(Item {
            kind: Kind::Programs,
            name: format!("{FOLDER}/{name}"),
            bytes: room(&path),
            why: if options.finished_programs {
                "no run that could go on has these programs".into()
            } else {
                "no run has these programs".into()
            },
        });
    }
    Ok(())
}

/// Marks a bundle, looks for runs that need it, and removes it if there are none.
pub(super) fn remove(root: &Path, name: &str, options: &Options) -> Result<bool> {
    let path = root.join(name);
    let Some(_mark) = Doom::mark(&path)? else {
        return Ok(false);
    };
    let census = Census::take(root)?;
    let short = path.file_name().unwrap_or_default().to_string_lossy();
    let needed = census.bundles(options.finished_programs).contains(&*short);
    if needed || census.unread {
        return Ok(false);
    }
    put_away(&path)?;
    Ok(true)
}
