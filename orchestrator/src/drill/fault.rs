//! What is done to a run, and how it is done on each backend.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rocket_common::checkpoint;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::host;
use rocket_common::run_dir::Claim;
use serde::{Deserialize, Serialize};

use super::numbers::last_step;
use super::subject::{Caller, Subject};
use crate::bundle;
use crate::slurm::Client;

/// How often a save is tried to be hit.
const TRIES: u32 = 4;

/// What is done to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// SIGTERM at the ranks, as at the beginning of a preemption.
    StopSignal,
    /// SIGKILL at a rank that is writing a checkpoint.
    KillInSave,
    /// SIGUSR1 at the supervisor, as before a time limit.
    TimeLimit,
    /// The job is taken from its node and put back into the queue; without Slurm: the supervisor is
    /// killed, and the run resumed.
    Requeue,
}

impl Fault {
    /// All, in the order in which they are tried.
    pub const ALL: [Self; 4] = [
        Self::StopSignal,
        Self::KillInSave,
        Self::TimeLimit,
        Self::Requeue,
    ];

    /// For people.
    #[must_use]
    pub fn words(self, place: &Place) -> &'static str {
        match (self, place) {
            (Self::StopSignal, _) => "stop signal (SIGTERM at the ranks)",
            (Self::KillInSave, _) => "SIGKILL in the middle of a save",
            (Self::TimeLimit, _) => "time limit (SIGUSR1 at the supervisor)",
            (Self::Requeue, Place::Local) => "supervisor killed, run resumed",
            (Self::Requeue, Place::Slurm(_)) => "scontrol requeue",
        }
    }
}

/// Where the run is.
#[derive(Debug, Clone)]
pub enum Place {
    /// On this machine.
    Local,
    /// In a job.
    Slurm(Client),
}

/// A fault that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// Steps done at that moment.
    pub step: u64,
    /// When.
    pub at: Instant,
    /// What was hit, in words.
    pub hit: String,
}

impl Strike {
    fn now(step: u64) -> Self {
        Self {
            step,
            at: Instant::now(),
            hit: format!("step {step}"),
        }
    }
}

/// Does it once the run has made `step` steps.
///
/// # Errors
/// The run ends before, or cannot be reached.
pub(super) fn strike(
    fault: Fault,
    subject: &Subject,
    place: &Place,
    caller: &Caller,
    step: u64,
    world_size: u32,
    limit: Duration,
) -> Result<Strike> {
    let step = subject.reach(step, limit)?;
    match fault {
        Fault::StopSignal => {
            match place {
                Place::Local => {
                    for rank in subject.ranks(world_size)? {
                        send(rank, Signal::SIGTERM)?;
                    }
                }
                // To the steps alone, like the first volley of a preemption.
                Place::Slurm(client) => {
                    slurm(client, "scancel", &["--signal=TERM".into(), job(subject)?])?
                }
            }
            Ok(Strike::now(step))
        }
        Fault::TimeLimit => {
            match place {
                Place::Local => send(supervisor(subject)?.0, Signal::SIGUSR1)?,
                Place::Slurm(client) => slurm(
                    client,
                    "scancel",
                    &["--batch".into(), "--signal=USR1".into(), job(subject)?],
                )?,
            }
            Ok(Strike::now(step))
        }
        Fault::KillInSave => kill_in_save(subject, place, world_size, limit),
        Fault::Requeue => {
            let strike = match place {
                Place::Local => {
                    let (pid, claim) = supervisor(subject)?;
                    let ranks = subject.ranks(world_size)?;
                    send(pid, Signal::SIGKILL)?;
                    let strike = Strike::now(step);
                    until_gone(&claim, &ranks)?;
                    caller.call(&["resume".into(), subject.run.id()])?;
                    strike
                }
                Place::Slurm(client) => {
                    slurm(client, "scontrol", &["requeue".into(), job(subject)?])?;
                    Strike::now(step)
                }
            };
            Ok(strike)
        }
    }
}

/// What a process on the writer's node did.
#[derive(Debug, Serialize, Deserialize)]
pub struct NodeStrike {
    /// Steps done at that moment.
    step: u64,
    /// The step whose save was hit.
    saving: u64,
    /// Seconds since then.
    seconds_ago: f64,
}

/// From wherever the writer is: in a job, a process of this program on its node does it, since saves
/// are shorter than the way of a signal through Slurm.
fn kill_in_save(
    subject: &Subject,
    place: &Place,
    world_size: u32,
    limit: Duration,
) -> Result<Strike> {
    let struck = match place {
        Place::Local => strike_writer(subject, world_size, limit)?,
        Place::Slurm(_) => {
            let mut args: Vec<OsString> = ["--overlap", "--nodes=1", "--ntasks=1", "--mem=0"]
                .map(Into::into)
                .into();
            args.push(format!("--jobid={}", job(subject)?).into());
            args.push(
                subject
                    .run
                    .manifest()?
                    .bundle
                    .dir
                    .join(bundle::ROCKET)
                    .into(),
            );
            args.extend(["drill", "--ranks"].map(OsString::from));
            args.push(world_size.to_string().into());
            args.push("--strike".into());
            args.push(subject.run.path().into());
            let said = Client::new(limit).run("srun", args).map_err(Error::from)?;
            serde_json::from_str(said.trim()).map_err(|error| {
                Error::new(
                    ExitKind::Internal,
                    format!("the process on the node said '{}': {error}", said.trim()),
                )
            })?
        }
    };
    Ok(Strike {
        step: struck.step,
        at: Instant::now()
            .checked_sub(Duration::from_secs_f64(struck.seconds_ago))
            .unwrap_or_else(Instant::now),
        hit: format!("save of step {}", struck.saving),
    })
}

/// Stops the writer, a process of this machine, when the folder of a checkpoint in the making is seen,
/// and kills it if that is still in the making; else lets it go on, and waits for the next. Returns
/// when the ranks have started again.
///
/// # Errors
/// No save was hit, or the run ended before.
pub fn strike_writer(subject: &Subject, world_size: u32, limit: Duration) -> Result<NodeStrike> {
    for _ in 0..TRIES {
        let restores = subject.restores()?.len();
        let (saving, draft) = watch_for_draft(subject, limit)?;
        // Rank 0 writes.
        let writer = subject.ranks(world_size)?[0];
        send(writer, Signal::SIGSTOP)?;
        std::thread::sleep(Duration::from_millis(2));
        if !in_the_making(subject, saving, &draft) {
            send(writer, Signal::SIGCONT)?;
            continue;
        }
        send(writer, Signal::SIGKILL)?;
        let at = Instant::now();
        let step = last_step(&subject.run).max(saving);
        // What the dead writer left must still be half a checkpoint when the ranks start again: their
        // first save clears it away.
        let hit = in_the_making(subject, saving, &draft);
        subject.wait("restart after the kill", limit, |this| {
            Ok((this.restores()?.len() > restores).then_some(()))
        })?;
        if hit {
            return Ok(NodeStrike {
                step,
                saving,
                seconds_ago: at.elapsed().as_secs_f64(),
            });
        }
    }
    Err(Error::new(
        ExitKind::Internal,
        format!("no save was hit in {TRIES} tries: they are too short"),
    )
    .hint("drill a larger model, or with more steps (--steps)"))
}

/// Looks without a pause: a save of a small model takes milliseconds.
fn watch_for_draft(subject: &Subject, limit: Duration) -> Result<(u64, PathBuf)> {
    subject.wait("save", limit, |this| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(200) {
            if let Some(draft) = this.draft() {
                return Ok(Some(draft));
            }
        }
        Ok(None)
    })
}

fn in_the_making(subject: &Subject, step: u64, draft: &std::path::Path) -> bool {
    let published = subject
        .run
        .checkpoints_dir()
        .join(checkpoint::dir_name(step));
    draft.exists() && !published.exists()
}

fn send(pid: i32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid), signal).map_err(|error| {
        Error::new(
            ExitKind::Internal,
            format!("process {pid} cannot be sent {signal}: {error}"),
        )
    })
}

/// The supervisor's process.
fn supervisor(subject: &Subject) -> Result<(i32, Claim)> {
    let none = || {
        Error::new(
            ExitKind::Internal,
            format!("run {} has no supervisor", subject.run.id()),
        )
    };
    let highest = subject.run.highest_attempt()?.ok_or_else(none)?;
    let claim = subject.run.claim_of(highest)?.ok_or_else(none)?;
    if claim.is_alive() != Some(true) {
        return Err(none());
    }
    let pid = i32::try_from(claim.pid).map_err(|_| none())?;
    Ok((pid, claim))
}

/// Waits until a killed supervisor and its ranks are gone: ranks end with it.
fn until_gone(claim: &Claim, ranks: &[i32]) -> Result<()> {
    let start = Instant::now();
    let alive = |pid: &i32| u32::try_from(*pid).is_ok_and(|pid| host::start_ticks(pid).is_some());
    while claim.is_alive() == Some(true) || ranks.iter().any(alive) {
        if start.elapsed() > Duration::from_secs(30) {
            return Err(Error::new(
                ExitKind::Internal,
                "ranks outlive their killed supervisor",
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The run's newest job.
fn job(subject: &Subject) -> Result<String> {
    let none = || {
        Error::new(
            ExitKind::Internal,
            format!("run {} has no job", subject.run.id()),
        )
    };
    let number = subject.run.highest_submission()?.ok_or_else(none)?;
    Ok(subject.run.job_of(number)?.ok_or_else(none)?.job)
}

fn slurm(client: &Client, program: &'static str, args: &[String]) -> Result<()> {
    client.run(program, args).map(drop).map_err(Error::from)
}
