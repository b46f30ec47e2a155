//! Which sources a binary was built from, read from the binary itself without running it.

use memchr::memmem::find;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use git2::Repository;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use super::elf;
use crate::pin::{self, Pinned};

const BEGIN: &[u8] = b"ROCKET_BUILD_ID{";
const END: &[u8] = b"}END";

/// This program's own identity, as the build script wrote it. The text lies in the binary as it is.
static OWN: &str = include_str!(concat!(env!("OUT_DIR"), "/build_identity.json"));

/// Git object ids, by path, of the sources that a binary was built from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Object id by path relative to the workspace's root. Empty: unknown.
    pub sources: BTreeMap<String, String>,
}

impl Identity {
    /// Of this program.
    #[must_use]
    pub fn own() -> Self {
        Self::parse(OWN.as_bytes()).unwrap_or_default()
    }

    /// Of a binary, by the marker in it. Unknown where there is none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_binary(path: &Path) -> Result<Self> {
        // Debug information makes the whole file many times larger than its constants.
        let bytes = match elf::constants(path)? {
            Some(bytes) => bytes,
            None => fs::read(path).map_err(|error| Error::io("read", path, error))?,
        };
        Ok(Self::parse(&bytes).unwrap_or_default())
    }

    /// Finds the marker; the first one that is JSON wins, since the marker's own name may stand in
    /// the binary as well.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut from = 0;
        while let Some(at) = find(&bytes[from..], BEGIN) {
            let start = from + at + BEGIN.len() - 1;
            let end = start + find(&bytes[start..], END)? + 1;
            if let Ok(sources) = serde_json::from_slice(&bytes[start..end]) {
                return Some(Self { sources });
            }
            from = start;
        }
        None
    }

    /// Whether it could be found out.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Paths whose id in the pinned tree is another one. `None` if the tree does not hold this
    /// program's sources: it then is another project's tree.
    ///
    /// # Errors
    /// The tree cannot be read.
    pub fn differences(&self, repo: &Repository, pinned: &Pinned) -> Result<Option<Vec<String>>> {
        let paths: Vec<&str> = self.sources.keys().map(String::as_str).collect();
        let in_tree = pin::ids(repo, pinned.tree, &paths)?;
        let holds_sources = paths
            .iter()
            .zip(&in_tree)
            .filter(|(path, _)| path.ends_with("/src"))
            .all(|(_, id)| id.is_some());
        if !self.is_known() || !holds_sources {
            return Ok(None);
        }
        Ok(Some(
            self.sources
                .iter()
                .zip(in_tree)
                .filter(|((_, built), in_tree)| in_tree.as_ref() != Some(*built))
                .map(|((path, _), _)| path.clone())
                .collect(),
        ))
    }

    /// Refuses a binary that was built from other sources than the pinned tree holds. Gives a note
    /// when that cannot be told.
    ///
    /// # Errors
    /// Kind [`ExitKind::Pin`], with how to build from the commit.
    pub fn check(
        &self,
        binary: &str,
        repo: &Repository,
        pinned: &Pinned,
    ) -> Result<Option<String>> {
        if !self.is_known() {
            return Ok(Some(format!(
                "{binary} does not say which sources it was built from; only its bytes are pinned"
            )));
        }
        match self.differences(repo, pinned)? {
            Some(paths) if !paths.is_empty() => Err(Error::new(
                ExitKind::Pin,
                format!(
                    "{binary} was not built from the commit that would be pinned; these differ: {}",
                    paths.join(", ")
                ),
            )
            .hint("build it from these sources: cargo build --release")
            .hint("or let rocket build the commit in a clean checkout: rocket submit --build")),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_is_found_behind_its_own_name() {
        let text = b"..ROCKET_BUILD_ID{ ROCKET_BUILD_ID{\"worker/src\":\"abc\"}END..";
        let identity = Identity::parse(text).unwrap();
        assert_eq!(identity.sources["worker/src"], "abc");
        assert!(!Identity::parse(b"nothing").unwrap_or_default().is_known());
    }

    #[test]
    fn this_build_knows_its_sources() {
        let own = Identity::own();
        assert!(
            !own.is_known() || own.sources.contains_key("orchestrator/src"),
            "{own:?}"
        );
    }
}
