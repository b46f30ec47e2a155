//! A run over several machines without a scheduler: what they tell each other through the run's
//! directory, which they share.
//!
//! ```text
//! <run>/machines.json                  how many, and where rank 0 is           [Machines]
//! <run>/machines/<k>.json              machine k is there: a counter that moves [Presence]
//! <run>/attempts/<n>/launch.json       what to start, said by machine 0        [Announcement]
//! <run>/attempts/<n>/machines/<k>      machine k has started its ranks
//! ```
//! Machine 0 runs the supervisor, which alone decides. Each of the others runs a share: a process that
//! starts that machine's ranks in every attempt that is announced, and tells how they end.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::host;
use rocket_common::run_dir::{Attempt, RunDir};
use serde::{Deserialize, Serialize};

use super::Launch;

/// Spacing of the beats of a share.
pub(crate) const BEAT: Duration = Duration::from_secs(1);
/// A share whose counter stands still for so long is gone.
pub(super) const GONE: Duration = Duration::from_secs(20);

/// `machines.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machines {
    /// Number of machines.
    pub(crate) nodes: u32,
    /// Address of the first, as the others reach it.
    pub(crate) master_addr: String,
    /// Port of the ranks' store there; a free one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) master_port: Option<u16>,
}

impl Machines {
    /// Of a run; `None` if all its ranks run on one machine.
    pub(crate) fn of(run: &RunDir) -> Result<Option<Self>> {
        atomic::read_json_opt(&path(run))
    }

    /// Says that the run is one of several machines.
    pub(crate) fn write(&self, run: &RunDir) -> Result<()> {
        atomic::write_json(&path(run), self)
    }
}

fn path(run: &RunDir) -> PathBuf {
    run.path().join("machines.json")
}

/// `launch.json`. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Announcement {
    /// Number of ranks on all machines, W.
    pub(super) world_size: u32,
    /// Ranks of each machine: machine k has ranks k R to k R + R - 1.
    pub(super) ranks_per_node: u32,
    /// Address of machine 0.
    pub(super) master_addr: String,
    /// Port of the ranks' store there; absent if rank 0 publishes its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) master_port: Option<u16>,
    /// Program and arguments.
    pub(super) argv: Vec<String>,
    /// Variables besides those of a rank's place.
    pub(super) env: Vec<(String, String)>,
    /// Variables that ranks must not inherit.
    pub(super) without: Vec<String>,
    /// Working directory, where it exists.
    pub(super) cwd: PathBuf,
}

impl Announcement {
    /// Of a launch.
    ///
    /// # Errors
    /// The ranks cannot be shared evenly, or a path is no text.
    pub(super) fn new(
        launch: &Launch<'_>,
        machines: &Machines,
        master_port: Option<u16>,
    ) -> Result<Self> {
        let nodes = machines.nodes.max(1);
        if !launch.world_size.is_multiple_of(nodes) {
            return Err(Error::new(
                ExitKind::Experiment,
                format!(
                    "{} ranks cannot be shared by {nodes} machines",
                    launch.world_size
                ),
            )
            .hint("submit with --nodes, which sets cluster.nodes as well"));
        }
        Ok(Self {
            world_size: launch.world_size,
            ranks_per_node: launch.world_size / nodes,
            master_addr: machines.master_addr.clone(),
            master_port,
            argv: launch.argv.iter().map(text).collect::<Result<_>>()?,
            env: launch
                .env
                .iter()
                .map(|(name, value)| Ok((text(name)?, text(value)?)))
                .collect::<Result<_>>()?,
            without: launch.without.iter().map(ToString::to_string).collect(),
            cwd: launch.cwd.clone(),
        })
    }

    /// The ranks of a machine, with their local ranks.
    pub(super) fn ranks(&self, node_rank: u32) -> impl Iterator<Item = (u32, u32)> + use<> {
        let first = node_rank * self.ranks_per_node;
        (0..self.ranks_per_node).map(move |local| (first + local, local))
    }

    /// Tells the shares to start their ranks.
    pub(super) fn publish(&self, run: &RunDir, attempt: &Attempt) -> Result<()> {
        run.fence_check(attempt.number())?;
        atomic::write_json(&attempt.dir().join("launch.json"), self)
    }

    /// What an attempt's ranks are; `None` until that is told.
    pub(crate) fn read(attempt: &Attempt) -> Result<Option<Self>> {
        atomic::read_json_opt(&attempt.dir().join("launch.json"))
    }
}

fn text(value: &OsString) -> Result<String> {
    value.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(
            ExitKind::Usage,
            format!(
                "'{}' is not UTF-8, and so cannot be told to other machines",
                value.to_string_lossy()
            ),
        )
    })
}

/// Notes that a machine starts its ranks in an attempt; `false` if it has done so before.
pub(super) fn first_start(attempt: &Attempt, node_rank: u32) -> Result<bool> {
    let dir = attempt.dir().join("machines");
    std::fs::create_dir_all(&dir).map_err(|error| Error::io("create", &dir, error))?;
    atomic::create_json(&dir.join(node_rank.to_string()), &host::name())
}

/// `machines/<k>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Presence {
    /// Its host.
    pub(crate) host: String,
    /// Process of its share there.
    pub(crate) pid: u32,
    /// Tells two shares of one machine apart.
    pub(crate) token: String,
    /// Counts; standing still is being gone.
    pub(crate) beat: u64,
}

impl Presence {
    /// A share that begins.
    pub(crate) fn new() -> Self {
        Self {
            host: host::name(),
            pid: std::process::id(),
            token: atomic::unique(),
            beat: 0,
        }
    }

    /// Shows it.
    pub(crate) fn write(&self, run: &RunDir, node_rank: u32) -> Result<()> {
        let path = presence_path(run, node_rank);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
        }
        atomic::write_json_unsynced(&path, self)
    }

    /// Of a machine, if it ever had a share.
    pub(crate) fn read(run: &RunDir, node_rank: u32) -> Option<Self> {
        atomic::read_json_opt(&presence_path(run, node_rank)).ok()?
    }
}

fn presence_path(run: &RunDir, node_rank: u32) -> PathBuf {
    run.path().join(format!("machines/{node_rank}.json"))
}

/// Watches whether shares are there. No clock of another machine is asked: what moves lives.
#[derive(Debug)]
pub(super) struct Roll {
    seen: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    node_rank: u32,
    last: Option<(String, u64)>,
    /// When it was seen to move; not by being found first, which may be what a dead one left.
    moved: Option<Instant>,
}

impl Roll {
    /// Of all machines but the first.
    pub(super) fn new(nodes: u32) -> Self {
        let seen = (1..nodes).map(|node_rank| Seen {
            node_rank,
            last: None,
            moved: None,
        });
        Self {
            seen: seen.collect(),
        }
    }

    /// Looks at all of them.
    pub(super) fn look(&mut self, run: &RunDir, now: Instant) {
        for seen in &mut self.seen {
            let presence = Presence::read(run, seen.node_rank);
            seen.note(presence.map(|one| (one.token, one.beat)), now);
        }
    }

    /// Machines that have stood still for `limit`, or were never seen to move.
    pub(super) fn absent(&self, now: Instant, limit: Duration) -> Vec<u32> {
        self.seen
            .iter()
            .filter(|seen| seen.moved.is_none_or(|moved| now - moved >= limit))
            .map(|seen| seen.node_rank)
            .collect()
    }
}

impl Seen {
    fn note(&mut self, found: Option<(String, u64)>, now: Instant) {
        if found.is_some() && found != self.last {
            if self.last.is_some() {
                self.moved = Some(now);
            }
            self.last = found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_there_while_its_counter_moves() {
        let t0 = Instant::now();
        let at = |seconds| t0 + Duration::from_secs(seconds);
        let mut roll = Roll::new(3);
        assert_eq!(roll.absent(t0, GONE), [1, 2]);
        // What a share left that is gone already does not move.
        let beat = |token: &str, beat| Some((token.to_owned(), beat));
        roll.seen[0].note(beat("a", 7), at(0));
        roll.seen[0].note(beat("a", 7), at(1));
        assert_eq!(roll.absent(at(1), GONE), [1, 2]);
        roll.seen[0].note(beat("b", 0), at(2));
        roll.seen[1].note(beat("c", 0), at(2));
        roll.seen[1].note(beat("c", 1), at(3));
        assert_eq!(roll.absent(at(3), GONE), [0; 0]);
        roll.seen[0].note(None, at(4));
        assert_eq!(roll.absent(at(22), GONE), [1]);
        assert_eq!(roll.absent(at(23), GONE), [1, 2]);
    }

    #[test]
    fn machines_have_neighbouring_ranks() {
        let announcement = Announcement {
            world_size: 6,
            ranks_per_node: 3,
            master_addr: "a".into(),
            master_port: None,
            argv: Vec::new(),
            env: Vec::new(),
            without: Vec::new(),
            cwd: PathBuf::new(),
        };
        let ranks: Vec<(u32, u32)> = announcement.ranks(1).collect();
        assert_eq!(ranks, [(3, 0), (4, 1), (5, 2)]);
    }
}
