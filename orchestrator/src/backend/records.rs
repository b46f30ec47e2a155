//! Ranks on other nodes, known by the records that their launchers leave in the attempt's directory.

use std::path::Path;

use rocket_common::protocol::{self, ProcessEnd};
use rocket_common::run_dir::Attempt;

use super::RankExit;
use crate::supervisor::Exit;

/// The ends of ranks that were recorded since, in the order of ranks; they leave `open`. Reads the
/// directory once, however many ranks there are: it may lie on a busy network file system.
pub(crate) fn collect(attempt: &Attempt, open: &mut Vec<u32>) -> Vec<RankExit> {
    if open.is_empty() {
        return Vec::new();
    }
    let mut ended: Vec<RankExit> = recorded(&attempt.ranks_dir())
        .filter(|rank| open.contains(rank))
        .filter_map(|rank| {
            let record = protocol::read_exit(attempt, rank).ok()??;
            let exit = exit_of(record.end);
            Some(RankExit { rank, exit })
        })
        .collect();
    ended.sort_by_key(|exit| exit.rank);
    open.retain(|rank| !ended.iter().any(|exit| exit.rank == *rank));
    ended
}

/// The end of a process as supervisors speak of it.
pub(crate) fn exit_of(end: ProcessEnd) -> Exit {
    match end {
        ProcessEnd::Code(code) => Exit::Code(code),
        ProcessEnd::Signal(signal) => Exit::Signal(signal),
    }
}

/// Ranks whose exit record is there. Opened anew each time: NFS revalidates a directory's entries on
/// open.
fn recorded(ranks: &Path) -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir(ranks).ok();
    entries.into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name();
        name.to_str()?.strip_suffix(".exit.json")?.parse().ok()
    })
}
