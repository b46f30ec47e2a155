//! The name of the Slurm cluster, from its configuration file: asking the controller would cost every
//! command a round trip, and fail while it is down.

use std::path::{Path, PathBuf};

use crate::slurm::client::CONFIGURATIONS;

/// `ClusterName`, if a configuration can be read here.
pub(super) fn find() -> Option<String> {
    let named = std::env::var_os("SLURM_CONF").map(PathBuf::from);
    let named = named.filter(|path| !path.as_os_str().is_empty());
    let places = CONFIGURATIONS.iter().map(PathBuf::from);
    // A file that is named is the only one that counts.
    let places: Vec<PathBuf> = match named {
        Some(path) => vec![path],
        None => places.collect(),
    };
    places.iter().find_map(|path| in_file(path))
}

fn in_file(path: &Path) -> Option<String> {
    in_text(&std::fs::read_to_string(path).ok()?)
}

/// Keys are read in any case, and `#` begins a comment.
fn in_text(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let (key, value) = line.split_once('=')?;
        let value = value.trim();
        let named = key.trim().eq_ignore_ascii_case("ClusterName") && !value.is_empty();
        named.then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_is_read_from_the_file() {
        let text = "# ClusterName=old\nSlurmctldHost=a(10.0.0.1)\n clustername = Fair # ours\nNodeName=n1\n";
        assert_eq!(super::in_text(text).as_deref(), Some("Fair"));
        assert_eq!(super::in_text("ClusterName=\nNodeName=n1\n"), None);
    }
}
