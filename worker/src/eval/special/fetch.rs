//! Fetching the sets of a catalog that are missing and that their authors give to everybody.

use rocket_common::error::Result;

use super::super::catalog::SetKind;
use super::super::check::is_missing;
use super::super::{Catalog, Split};
use crate::data::fetch::{ArchiveOptions, Published, SetReport, fetch_set};

/// Fetches those of the sets `names` that are missing and of type `special`, each into its `path` of the
/// catalog; `known` says what they are made of. `options.folder` is not used. A set whose files are there is
/// left alone, and so is one whose path has a variable that is not set.
///
/// # Errors
/// Of [`fetch_set`]: the first set that cannot be had.
pub fn fetch_missing(
    catalog: &Catalog,
    names: &[&str],
    known: &[Published],
    options: &ArchiveOptions,
) -> Result<Vec<SetReport>> {
    let mut fetched = Vec::new();
    for set in known.iter().filter(|set| names.contains(&set.name)) {
        let Ok(entry) = catalog.entry(set.name) else {
            continue;
        };
        let (SetKind::Special, Ok(folder)) = (entry.kind, catalog.root(entry)) else {
            continue;
        };
        let there = super::read(catalog.file(), set.name, &folder, Split::Test);
        if there.is_err_and(|problem| is_missing(&problem, catalog, set.name)) {
            let options = ArchiveOptions {
                folder,
                ..options.clone()
            };
            fetched.push(fetch_set(set, &options)?);
        }
    }
    Ok(fetched)
}
