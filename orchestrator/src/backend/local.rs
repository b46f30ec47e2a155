//! Child processes on this machine.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getppid, setsid};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::BackendKind;
use rocket_common::host;
use rocket_common::protocol::env;
use rocket_common::run_dir::{Manifest, RunDir};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::{Backend, Control, Handover, Launch, Liveness, Outlook, RankExit, Running, leftovers};
use crate::bundle;
use crate::supervisor::{Exit, stacks};

/// What the detached supervisor prints outside its log, by name within the run directory.
const OUTPUT: &str = "supervisor.out";

/// Ranks as child processes of the supervisor, which is detached from the terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local;

impl Backend for Local {
    fn kind(&self) -> BackendKind {
        BackendKind::Local
    }

    fn submit(&self, handover: &Handover<'_>) -> Result<Option<String>> {
        let Handover { run, manifest, .. } = *handover;
        let program = manifest.bundle.dir.join(bundle::ROCKET);
        let path = run.path().join(OUTPUT);
        let failed = |error| Error::io("write", &path, error);
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        let mut command = std::process::Command::new(&program);
        command
            .arg("supervise")
            .arg(run.path())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        // SAFETY: setsid is async-signal-safe, and nothing is allocated.
        unsafe {
            // A session of its own: it survives the terminal, and gets no signal typed there.
            command.pre_exec(|| setsid().map(drop).map_err(std::io::Error::from));
        }
        command
            .spawn()
            .map(|_| None)
            .map_err(|error| Error::io("start the supervisor", &program, error))
    }

    fn nodes(&self) -> Vec<String> {
        vec![host::name()]
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<Running> {
        let ended = leftovers::end(launch.run.path(), launch.attempt.number());
        if ended > 0 {
            tracing::warn!("ended {ended} processes that earlier attempts left behind");
        }
        let port = launch.choose_port.then(free_port).transpose()?;
        let mut children = Vec::new();
        for rank in 0..launch.world_size {
            // Children started so far are killed on drop if this one fails.
            children.push((rank, spawn(launch, rank, port)?));
        }
        let (sender, exits) = mpsc::unbounded_channel();
        let mut groups = Vec::new();
        for (rank, mut child) in children {
            if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                groups.push(Group {
                    rank,
                    pid: Pid::from_raw(pid),
                });
            }
            let sender = sender.clone();
            tokio::spawn(async move {
                let exit = child.wait().await.map_or(Exit::Unknown, exit_of);
                let _ = sender.send(RankExit { rank, exit });
            });
        }
        Ok(Running {
            exits,
            control: Box::new(Groups {
                groups,
                run: launch.run.clone(),
                attempt: launch.attempt.number(),
            }),
        })
    }

    fn outlook(&self, run: &RunDir, _manifest: &Manifest) -> Result<Outlook> {
        let Some(highest) = run.highest_attempt()? else {
            return Ok(Outlook::of(Liveness::Gone));
        };
        let alive = run.claim_of(highest)?.and_then(|claim| claim.is_alive());
        Ok(Outlook::of(match alive {
            Some(true) => Liveness::Alive,
            Some(false) => Liveness::Gone,
            None => Liveness::Unknown,
        }))
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Error::io("find a free port on", Path::new("127.0.0.1"), error))
}

fn spawn(launch: &Launch<'_>, rank: u32, port: Option<u16>) -> Result<Child> {
    let log = log_file(&launch.attempt.log_path(rank))?;
    let err = log
        .try_clone()
        .map_err(|error| Error::io("write", &launch.attempt.log_path(rank), error))?;
    let (program, arguments) = launch
        .argv
        .split_first()
        .ok_or_else(|| Error::new(ExitKind::Experiment, "'command' is an empty list"))?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&launch.cwd);
    for name in &launch.without {
        command.env_remove(name);
    }
    command
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .env(env::RANK, rank.to_string())
        .env(env::LOCAL_RANK, rank.to_string())
        .env(env::WORLD_SIZE, launch.world_size.to_string())
        .env(env::MASTER_ADDR, "127.0.0.1")
        .env(env::RUN_DIR, launch.run.path())
        .env(env::ATTEMPT, launch.attempt.number().to_string());
    match port {
        Some(port) => command.env(env::MASTER_PORT, port.to_string()),
        None => command.env_remove(env::MASTER_PORT),
    };
    command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(err)
        .process_group(0)
        .kill_on_drop(true);
    let supervisor = nix::unistd::getpid();
    // SAFETY: prctl and getppid are async-signal-safe, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            // A killed supervisor must leave no rank training on. The signal is tied to the thread
            // that forks, which is the supervisor's only one.
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            if getppid() == supervisor {
                Ok(())
            } else {
                Err(std::io::Error::from(nix::Error::ESRCH))
            }
        });
    }
    command.spawn().map_err(|error| {
        Error::io(&format!("start rank {rank}:"), Path::new(program), error)
            .with_kind(ExitKind::Experiment)
    })
}

fn log_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| Error::io("write", path, error))
}

struct Group {
    rank: u32,
    pid: Pid,
}

/// The process groups of the ranks.
struct Groups {
    groups: Vec<Group>,
    run: RunDir,
    attempt: u32,
}

impl Control for Groups {
    fn ended(&mut self, rank: u32) {
        self.groups.retain(|group| group.rank != rank);
    }

    fn signal(&mut self, signal: Signal) {
        for group in &self.groups {
            let _ = killpg(group.pid, signal);
        }
    }

    fn save_stacks(&mut self) {
        let dir = self.run.attempt(self.attempt).stacks_dir();
        for group in &self.groups {
            let path = dir.join(format!("{}.txt", group.rank));
            if let Err(error) = stacks::save(group.pid.as_raw().unsigned_abs(), &path) {
                tracing::warn!("{error}");
            }
        }
    }

    fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        // What outlived its rank, or left its group, still carries the environment.
        leftovers::end(self.run.path(), self.attempt + 1);
    }
}
