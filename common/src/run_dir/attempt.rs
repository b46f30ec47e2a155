//! Attempts: numbered by a claim that only one can win, fenced by the existence of a higher number.
//! No clock decides anything here.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RunDir;
use crate::atomic;
use crate::error::{Error, Result};
use crate::exit::ExitKind;
use crate::host;

/// One attempt at a run: what one supervisor does from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    number: u32,
    dir: PathBuf,
}

/// `attempts/<n>.claim`: who owns the attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Host of the claimant.
    pub host: String,
    /// Process of the claimant.
    pub pid: u32,
    /// When its process started, in clock ticks since the boot of its host: with `pid`, it tells
    /// whether the process that runs there now is the same one.
    pub start_ticks: u64,
    /// Job of the scheduler, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Tells two claims apart.
    pub token: String,
}

impl Claim {
    /// A claim of this process.
    #[must_use]
    pub fn of_this_process(job: Option<String>) -> Self {
        let pid = std::process::id();
        Self {
            host: host::name(),
            pid,
            start_ticks: host::start_ticks(pid).unwrap_or_default(),
            job,
            token: atomic::unique(),
        }
    }

    /// Whether the claimant still runs. `None` if that cannot be seen from here, since it is on
    /// another host.
    #[must_use]
    pub fn is_alive(&self) -> Option<bool> {
        (self.host == host::name())
            .then(|| host::start_ticks(self.pid).is_some_and(|ticks| ticks == self.start_ticks))
    }
}

impl Attempt {
    /// Its number, from 0.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// `attempts/<n>/`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `control.json`.
    #[must_use]
    pub fn control_path(&self) -> PathBuf {
        self.dir.join("control.json")
    }

    /// `orders.json`.
    #[must_use]
    pub fn orders_path(&self) -> PathBuf {
        self.dir.join("orders.json")
    }

    /// `stacks/`: what ranks that stood still were doing.
    #[must_use]
    pub fn stacks_dir(&self) -> PathBuf {
        self.dir.join("stacks")
    }

    /// `rendezvous.json`.
    #[must_use]
    pub fn rendezvous_path(&self) -> PathBuf {
        self.dir.join("rendezvous.json")
    }

    /// `supervisor.log`.
    #[must_use]
    pub fn supervisor_log_path(&self) -> PathBuf {
        self.dir.join("supervisor.log")
    }

    /// `ranks/`.
    #[must_use]
    pub fn ranks_dir(&self) -> PathBuf {
        self.dir.join("ranks")
    }

    /// `ranks/<rank>.log`: stdout and stderr of a rank.
    #[must_use]
    pub fn log_path(&self, rank: u32) -> PathBuf {
        self.ranks_dir().join(format!("{rank}.log"))
    }

    /// `ranks/<rank>.beat.json`.
    #[must_use]
    pub fn heartbeat_path(&self, rank: u32) -> PathBuf {
        self.ranks_dir().join(format!("{rank}.beat.json"))
    }

    /// `ranks/<rank>.end.json`.
    #[must_use]
    pub fn end_path(&self, rank: u32) -> PathBuf {
        self.ranks_dir().join(format!("{rank}.end.json"))
    }

    /// `ranks/<rank>.exit.json`.
    #[must_use]
    pub fn exit_path(&self, rank: u32) -> PathBuf {
        self.ranks_dir().join(format!("{rank}.exit.json"))
    }
}

impl RunDir {
    /// The attempt of a number, whether or not it exists.
    #[must_use]
    pub fn attempt(&self, number: u32) -> Attempt {
        Attempt {
            number,
            dir: self.attempts_dir().join(format!("{number:03}")),
        }
    }

    /// Number of the highest claimed attempt.
    ///
    /// # Errors
    /// The directory cannot be read: nothing may then be concluded.
    pub fn highest_attempt(&self) -> Result<Option<u32>> {
        // Opened anew each time: NFS revalidates a directory's entries on open.
        let dir = self.attempts_dir();
        let failed = |error| Error::io("read", &dir, error);
        let mut highest = None;
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_string_lossy();
            let number = name.strip_suffix(".claim").unwrap_or(&name);
            // Temporary names start with a dot and do not parse.
            highest = highest.max(number.parse::<u32>().ok());
        }
        Ok(highest)
    }

    /// Attempts that exist, in order.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn attempts(&self) -> Result<Vec<Attempt>> {
        let count = self.highest_attempt()?.map_or(0, |highest| highest + 1);
        Ok((0..count)
            .map(|number| self.attempt(number))
            .filter(|attempt| attempt.dir.is_dir())
            .collect())
    }

    /// Who owns an attempt.
    ///
    /// # Errors
    /// The claim is there but cannot be read.
    pub fn claim_of(&self, number: u32) -> Result<Option<Claim>> {
        atomic::read_json_opt(&self.claim_path(number))
    }

    /// Takes the next attempt's number, and makes its directory. From then on every lower attempt
    /// is fenced off.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn claim_attempt(&self, claim: &Claim) -> Result<Attempt> {
        loop {
            let number = self.highest_attempt()?.map_or(0, |highest| highest + 1);
            if let Some(attempt) = self.try_claim(number, claim)? {
                return Ok(attempt);
            }
        }
    }

    /// Takes one number, or gives `None` if somebody else has it.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn try_claim(&self, number: u32, claim: &Claim) -> Result<Option<Attempt>> {
        let attempt = self.attempt(number);
        if !atomic::create_json(&self.claim_path(number), claim)? {
            return Ok(None);
        }
        let ranks = attempt.ranks_dir();
        fs::create_dir_all(&ranks).map_err(|error| Error::io("create", &ranks, error))?;
        atomic::sync_dir(&self.attempts_dir())?;
        Ok(Some(attempt))
    }

    /// Fails if a higher attempt exists: whoever belongs to this one must leave and publish nothing.
    ///
    /// # Errors
    /// Kind [`ExitKind::Fenced`] if there is a higher one; another kind if that cannot be found out,
    /// which is no permission to publish either.
    pub fn fence_check(&self, attempt: u32) -> Result<()> {
        match self.highest_attempt()? {
            Some(highest) if highest > attempt => Err(Error::new(
                ExitKind::Fenced,
                format!(
                    "attempt {attempt} of run '{}' was superseded by attempt {highest}; nothing more is published",
                    self.id()
                ),
            )),
            _ => Ok(()),
        }
    }

    fn claim_path(&self, number: u32) -> PathBuf {
        self.attempts_dir().join(format!("{number:03}.claim"))
    }
}
