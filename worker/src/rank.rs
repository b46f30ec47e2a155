//! Who this process is among the ranks: read from the variables that launchers set.
//!
//! Two kinds of launcher are known. Rocket's own supervisor has claimed an attempt and says which
//! (`ROCKET_ATTEMPT`). Others (torchrun, mpirun with a wrapper, a shell loop) know nothing of
//! attempts: there, rank 0 claims one and tells the others through the store at
//! `MASTER_ADDR:MASTER_PORT`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::protocol::env as names;

/// Ranks of this machine, as torchrun counts them.
const LOCAL_WORLD_SIZE: &str = "LOCAL_WORLD_SIZE";
/// torchrun: its agent serves the store, and no rank may.
const USE_AGENT_STORE: &str = "TORCHELASTIC_USE_AGENT_STORE";
/// torchrun: how often it has started the ranks anew; the agent's store outlives them.
const RESTART_COUNT: &str = "TORCHELASTIC_RESTART_COUNT";

/// Where a launcher has put this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Global rank.
    pub rank: u32,
    /// Number of ranks, W.
    pub world_size: u32,
    /// Rank within its node.
    pub local_rank: u32,
    /// The run directory.
    pub run_dir: PathBuf,
    /// Folder of the pinned tree's files; the run directory's `pin` if not set.
    pub pin_dir: PathBuf,
    /// Host that other ranks reach rank 0 by.
    pub master_addr: String,
    /// How the ranks find each other.
    pub meeting: Meeting,
    /// What was guessed, for the log.
    pub notes: Vec<String>,
}

/// How the ranks find each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meeting {
    /// A supervisor has claimed the attempt.
    Supervised {
        /// Its number.
        attempt: u32,
        /// Fixed port of the store; `None` lets rank 0 choose and publish one.
        port: Option<u16>,
    },
    /// Rank 0 claims the attempt and tells the others.
    Unsupervised {
        /// Port of the store.
        port: u16,
        /// Who serves the store.
        server: Server,
        /// Differs from one start of the ranks to the next, where the store outlives them.
        generation: String,
    },
}

/// Who serves the store at `MASTER_ADDR:MASTER_PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Rank 0, as long as it lives.
    RankZero,
    /// The launcher: every rank is a client.
    Launcher,
}

/// A rank of an attempt.
#[derive(Debug, Clone)]
pub struct RankContext {
    /// Global rank.
    pub rank: u32,
    /// Number of ranks, W.
    pub world_size: u32,
    /// Rank within its node.
    pub local_rank: u32,
    /// Number of the attempt.
    pub attempt: u32,
    /// Folder of the pinned tree's files.
    pub pin_dir: PathBuf,
    /// Whether a supervisor writes the events of starting and ending.
    pub supervised: bool,
}

impl RankContext {
    /// A place within an attempt.
    #[must_use]
    pub fn new(place: &Place, attempt: u32) -> Self {
        Self {
            rank: place.rank,
            world_size: place.world_size,
            local_rank: place.local_rank,
            attempt,
            pin_dir: place.pin_dir.clone(),
            supervised: matches!(place.meeting, Meeting::Supervised { .. }),
        }
    }

    /// Whether this rank speaks and writes for all.
    #[must_use]
    pub fn is_lead(&self) -> bool {
        self.rank == 0
    }
}

impl Place {
    /// Reads the environment. `run` is the run directory as the command line names it.
    ///
    /// # Errors
    /// Kind [`ExitKind::Usage`], naming the variables that are missing, are no numbers, or contradict
    /// each other, and what to do.
    pub fn from_env(run: Option<&Path>) -> Result<Self> {
        Self::read(&|name| std::env::var_os(name), run)
    }

    /// As [`Place::from_env`], from any source of variables.
    ///
    /// # Errors
    /// As [`Place::from_env`].
    pub fn read(variable: &Lookup<'_>, run: Option<&Path>) -> Result<Self> {
        let vars = Vars { variable };
        let run_dir = vars.run_dir(run)?;
        vars.check_present()?;
        let (rank, world_size): (u32, u32) =
            (vars.number(names::RANK)?, vars.number(names::WORLD_SIZE)?);
        if rank >= world_size {
            return Err(contradiction(format!(
                "{}={rank} is not below {}={world_size}",
                names::RANK,
                names::WORLD_SIZE
            ))
            .hint("ranks count from 0 to the number of ranks less one, over all machines"));
        }
        let mut notes = Vec::new();
        let local_rank = vars.local_rank(rank, world_size, &mut notes)?;
        let meeting = vars.meeting(world_size)?;
        let pin_dir = vars
            .path(names::PIN_DIR)
            .unwrap_or_else(|| run_dir.join("pin"));
        Ok(Self {
            rank,
            world_size,
            local_rank,
            run_dir,
            pin_dir,
            master_addr: vars
                .text(names::MASTER_ADDR)?
                .unwrap_or_else(|| "127.0.0.1".to_owned()),
            meeting,
            notes,
        })
    }
}

/// Gives a variable's value by its name.
type Lookup<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

struct Vars<'a> {
    variable: &'a Lookup<'a>,
}

impl Vars<'_> {
    fn run_dir(&self, given: Option<&Path>) -> Result<PathBuf> {
        let from_env = self.path(names::RUN_DIR);
        match (given, from_env) {
            (None, None) => Err(Error::new(
                ExitKind::Usage,
                format!("it is not said which run to train: no --run DIR and no {}", names::RUN_DIR),
            )
            .hint("'rocket submit exp.yaml' trains by itself; 'rocket submit exp.yaml --no-start' prepares a run directory for another launcher")),
            (Some(given), Some(other)) if !same(given, &other) => Err(contradiction(format!(
                "--run {} and {}={} name two runs",
                given.display(),
                names::RUN_DIR,
                other.display()
            ))
            .hint(format!("unset {}, or leave --run out", names::RUN_DIR))),
            (Some(given), _) => Ok(given.to_path_buf()),
            (None, Some(run)) => Ok(run),
        }
    }

    /// All that is missing is said at once.
    fn check_present(&self) -> Result<()> {
        let supervised = (self.variable)(names::ATTEMPT).is_some();
        let alone = self.text(names::WORLD_SIZE)?.as_deref() == Some("1");
        let mut wanted = vec![names::RANK, names::WORLD_SIZE];
        if !supervised && !alone {
            wanted.extend([names::MASTER_ADDR, names::MASTER_PORT]);
        }
        let missing: Vec<&str> = wanted
            .into_iter()
            .filter(|name| (self.variable)(name).is_none())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (names, verb) = match &missing[..] {
            [one] => ((*one).to_owned(), "is"),
            [head @ .., last] => (format!("{} and {last}", head.join(", ")), "are"),
            [] => return Ok(()),
        };
        Err(Error::new(
            ExitKind::Usage,
            format!("{names} {verb} not set: rocket-worker train is one rank of several, and a launcher tells it which"),
        )
        .hint("'rocket submit' starts all ranks of an experiment")
        .hint("or: torchrun --nnodes N --nproc-per-node M --no-python -- rocket-worker train --run DIR")
        .hint("or set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR (the machine of rank 0) and MASTER_PORT (a free port there) for every process"))
    }

    fn local_rank(&self, rank: u32, world_size: u32, notes: &mut Vec<String>) -> Result<u32> {
        let per_machine: Option<u32> = self.optional(LOCAL_WORLD_SIZE)?;
        let Some(local_rank) = self.optional::<u32>(names::LOCAL_RANK)? else {
            let local_rank = per_machine.map_or(0, |count| rank % count.max(1));
            notes.push(match per_machine {
                Some(count) => format!(
                    "{} is not set: taken as {local_rank}, since {LOCAL_WORLD_SIZE}={count}",
                    names::LOCAL_RANK
                ),
                None => format!(
                    "{} is not set: taken as 0, as if each machine had one rank",
                    names::LOCAL_RANK
                ),
            });
            return Ok(local_rank);
        };
        for (name, count) in [
            (LOCAL_WORLD_SIZE, per_machine),
            (names::WORLD_SIZE, Some(world_size)),
        ] {
            if let Some(count) = count
                && local_rank >= count
            {
                return Err(contradiction(format!(
                    "{}={local_rank} is not below {name}={count}",
                    names::LOCAL_RANK
                ))
                .hint("local ranks count from 0 within each machine"));
            }
        }
        Ok(local_rank)
    }

    fn meeting(&self, world_size: u32) -> Result<Meeting> {
        let port: Option<u16> = self.optional(names::MASTER_PORT)?;
        if let Some(attempt) = self.optional(names::ATTEMPT)? {
            let port = port.filter(|port| *port != 0);
            return Ok(Meeting::Supervised { attempt, port });
        }
        let server = match self.text(USE_AGENT_STORE)? {
            Some(yes) if yes.eq_ignore_ascii_case("true") || yes == "1" => Server::Launcher,
            _ => Server::RankZero,
        };
        let port = port.unwrap_or(0);
        if port == 0 && world_size > 1 {
            return Err(contradiction(format!(
                "{}=0 names no port: without a supervisor nobody could tell the ranks which one rank 0 took",
                names::MASTER_PORT
            ))
            .hint(format!("set {} to a port that is free on the machine of rank 0", names::MASTER_PORT)));
        }
        Ok(Meeting::Unsupervised {
            port,
            server,
            generation: self.text(RESTART_COUNT)?.unwrap_or_else(|| "0".to_owned()),
        })
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        (self.variable)(name)
            .map(|value| {
                value.into_string().map_err(|value| {
                    Error::new(
                        ExitKind::Usage,
                        format!("{name}={} is no text", value.to_string_lossy()),
                    )
                })
            })
            .transpose()
    }

    fn optional<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.text(name)? else {
            return Ok(None);
        };
        value.trim().parse().map(Some).map_err(|_| {
            Error::new(
                ExitKind::Usage,
                format!("{name}={value} is not a number in range"),
            )
            .hint("the launcher sets it; look at its script, or unset it")
        })
    }

    fn number(&self, name: &str) -> Result<u32> {
        self.optional(name)?
            .ok_or_else(|| Error::new(ExitKind::Usage, format!("{name} is not set")))
    }
}

fn contradiction(message: String) -> Error {
    Error::new(ExitKind::Usage, message)
}

fn same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(vars: &[(&str, &str)]) -> Result<Place> {
        let lookup = |name: &str| {
            let value = vars.iter().find(|(of, _)| *of == name)?.1;
            Some(OsString::from(value))
        };
        Place::read(&lookup, Some(Path::new("/runs/x")))
    }

    const TORCHRUN: [(&str, &str); 5] = [
        ("RANK", "3"),
        ("WORLD_SIZE", "4"),
        ("LOCAL_RANK", "1"),
        ("MASTER_ADDR", "n1"),
        ("MASTER_PORT", "29500"),
    ];

    fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let kept = TORCHRUN
            .into_iter()
            .filter(|(name, _)| more.iter().all(|(other, _)| other != name));
        kept.chain(more.iter().copied()).collect()
    }

    fn said(vars: &[(&str, &str)]) -> String {
        let error = place(vars).expect_err("a refusal");
        assert_eq!(error.kind(), ExitKind::Usage);
        assert!(!error.hints().is_empty() || error.message().contains("number"));
        error.to_string()
    }

    #[test]
    fn launchers_are_understood() {
        let found = place(&TORCHRUN).expect("a place");
        assert_eq!((found.rank, found.world_size, found.local_rank), (3, 4, 1));
        assert_eq!(found.pin_dir, Path::new("/runs/x/pin"));
        let unsupervised = |server, generation: &str| Meeting::Unsupervised {
            port: 29500,
            server,
            generation: generation.to_owned(),
        };
        assert_eq!(found.meeting, unsupervised(Server::RankZero, "0"));
        let agent = with(&[
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
            ("TORCHELASTIC_RESTART_COUNT", "2"),
        ]);
        let found = place(&agent).expect("a place");
        assert_eq!(found.meeting, unsupervised(Server::Launcher, "2"));
        let supervised = with(&[("ROCKET_ATTEMPT", "7"), ("MASTER_PORT", "0")]);
        let found = place(&supervised).expect("a place");
        assert_eq!(
            found.meeting,
            Meeting::Supervised {
                attempt: 7,
                port: None
            }
        );
        // One rank needs nobody to meet.
        place(&[("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")]).expect("a place");
    }

    #[test]
    fn a_missing_local_rank_is_derived_and_said() {
        let mut vars = with(&[("LOCAL_WORLD_SIZE", "2")]);
        vars.retain(|(name, _)| *name != "LOCAL_RANK");
        let found = place(&vars).expect("a place");
        assert_eq!((found.local_rank, found.notes.len()), (1, 1));
        vars.retain(|(name, _)| *name != "LOCAL_WORLD_SIZE");
        let found = place(&vars).expect("a place");
        assert_eq!(found.local_rank, 0);
        assert!(found.notes[0].contains("LOCAL_RANK is not set"));
    }

    #[test]
    fn what_is_missing_or_contradicts_is_named() {
        assert!(said(&[]).starts_with("RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are not set"));
        assert!(
            said(&[("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "a")])
                .starts_with("MASTER_PORT is not set")
        );
        let table = [
            (("RANK", "4"), "RANK=4 is not below WORLD_SIZE=4"),
            (("RANK", "-1"), "RANK=-1 is not a number in range"),
            (("WORLD_SIZE", "x"), "WORLD_SIZE=x is not a number in range"),
            (
                ("MASTER_PORT", "70000"),
                "MASTER_PORT=70000 is not a number in range",
            ),
            (
                ("LOCAL_RANK", "4"),
                "LOCAL_RANK=4 is not below WORLD_SIZE=4",
            ),
            (("MASTER_PORT", "0"), "MASTER_PORT=0 names no port"),
        ];
        for (variable, text) in table {
            let found = said(&with(&[variable]));
            assert!(found.starts_with(text), "{found}");
        }
        let found = said(&with(&[("LOCAL_WORLD_SIZE", "1")]));
        assert_eq!(found, "LOCAL_RANK=1 is not below LOCAL_WORLD_SIZE=1");
        let found = said(&with(&[("ROCKET_RUN_DIR", "/runs/y")]));
        assert_eq!(
            found,
            "--run /runs/x and ROCKET_RUN_DIR=/runs/y name two runs"
        );
    }
}
