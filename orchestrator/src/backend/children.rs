//! Ranks as child processes of this one.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, getppid};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::protocol::{ProcessEnd, env};
use rocket_common::run_dir::{Attempt, RunDir};

use super::leftovers;
use super::place::Place;
use crate::bundle;
use crate::supervisor::stacks;

/// What is the same for every rank of an attempt on this machine.
#[derive(Debug)]
pub(super) struct Ranks<'a> {
    /// The run.
    pub(super) run: &'a RunDir,
    /// The attempt.
    pub(super) attempt: &'a Attempt,
    /// Number of ranks on all machines, W.
    pub(super) world_size: u32,
    /// Number of ranks on each machine.
    pub(super) per_node: u32,
    /// Program and arguments.
    pub(super) argv: &'a [OsString],
    /// Variables besides those of a rank's place.
    pub(super) env: &'a [(OsString, OsString)],
    /// Variables that ranks must not inherit.
    pub(super) without: Vec<String>,
    /// Working directory.
    pub(super) cwd: PathBuf,
    /// Host of rank 0.
    pub(super) master_addr: String,
    /// Fixed port of the store.
    pub(super) master_port: Option<u16>,
}

impl Ranks<'_> {
    /// How to start a rank: its log, its place, its own process group, and its end when this process
    /// ends. The signal of that is tied to the thread that forks, which must live as long.
    ///
    /// # Errors
    /// The log cannot be written, or there is no program.
    pub(super) fn command(&self, rank: u32, local_rank: u32) -> Result<Command> {
        let path = self.attempt.log_path(rank);
        let log = log_file(&path)?;
        let err = log
            .try_clone()
            .map_err(|error| Error::io("write", &path, error))?;
        let (program, arguments) = self
            .argv
            .split_first()
            .ok_or_else(|| Error::new(ExitKind::Experiment, "'command' is an empty list"))?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.cwd);
        let place = Place {
            rank,
            local_rank,
            world_size: self.world_size,
            per_node: self.per_node,
        };
        for name in &self.without {
            command.env_remove(name);
        }
        command
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .envs(place.variables(self.run, self.attempt.number()))
            .env(env::MASTER_ADDR, &self.master_addr)
            .env(env::RUN_DIR, self.run.path())
            .env(env::ATTEMPT, self.attempt.number().to_string());
        match self.master_port {
            Some(port) => command.env(env::MASTER_PORT, port.to_string()),
            None => command.env_remove(env::MASTER_PORT),
        };
        command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(err)
            .process_group(0);
        let parent = nix::unistd::getpid();
        let mut held = SigSet::empty();
        if bundle::is_trainer(self.run, program) {
            // While it loads libraries it would die of a request to stop; it lets it come itself.
            held.add(Signal::SIGTERM);
        }
        // SAFETY: sigmask, prctl and getppid are async-signal-safe, and nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                held.thread_block()?;
                // A killed supervisor must leave no rank training on.
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                if getppid() == parent {
                    Ok(())
                } else {
                    Err(std::io::Error::from(nix::Error::ESRCH))
                }
            });
        }
        Ok(command)
    }

    /// A rank that could not be started, in words.
    pub(super) fn not_started(&self, rank: u32, error: std::io::Error) -> Error {
        let program = self.argv.first().map(Path::new).unwrap_or(Path::new(""));
        Error::io(&format!("start rank {rank}:"), program, error).with_kind(ExitKind::Experiment)
    }
}

fn log_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| Error::io("write", path, error))
}

/// How a process ended.
pub(super) fn end_of(status: ExitStatus) -> ProcessEnd {
    match (status.code(), status.signal()) {
        (Some(code), _) => ProcessEnd::Code(code),
        (None, signal) => ProcessEnd::Signal(signal.unwrap_or_default()),
    }
}

/// A rank's process group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) rank: u32,
    pub(super) pid: Pid,
}

/// The process groups of this machine's ranks.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) groups: Vec<Group>,
    pub(super) run: RunDir,
    pub(super) attempt: Attempt,
}

impl Groups {
    /// Of ranks that are about to start.
    pub(super) fn new(run: &RunDir, attempt: &Attempt) -> Self {
        Self {
            groups: Vec::new(),
            run: run.clone(),
            attempt: attempt.clone(),
        }
    }

    /// Adds a rank that was started.
    pub(super) fn add(&mut self, rank: u32, pid: Option<u32>) {
        if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
            let pid = Pid::from_raw(pid);
            self.groups.push(Group { rank, pid });
        }
    }

    /// Notes that a rank's process has ended: its id may soon be another's.
    pub(super) fn ended(&mut self, rank: u32) {
        self.groups.retain(|group| group.rank != rank);
    }

    /// Sends a signal to those that run.
    pub(super) fn signal(&self, signal: Signal) {
        for group in &self.groups {
            let _ = killpg(group.pid, signal);
        }
    }

    /// Writes what they are doing to the attempt's `stacks/`, all at the same time, since a debugger
    /// may take its while.
    pub(super) fn save_stacks(&self) {
        let dir = self.attempt.stacks_dir();
        std::thread::scope(|scope| {
            for group in &self.groups {
                let path = dir.join(format!("{}.txt", group.rank));
                scope.spawn(move || {
                    if let Err(error) = stacks::save(group.pid.as_raw().unsigned_abs(), &path) {
                        tracing::warn!("{error}");
                    }
                });
            }
        });
    }

    /// Ends them and everything that they have started.
    pub(super) fn kill(&self) {
        self.signal(Signal::SIGKILL);
        // What outlived its rank, or left its group, still carries the environment.
        leftovers::end(self.run.path(), self.attempt.number() + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigterm_is_held_for_the_trainer_alone() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(bundle::WORKER);
        std::fs::create_dir_all(dir.path().join("bin")).unwrap();
        std::os::unix::fs::symlink("/bin/grep", &program).unwrap();
        let manifest = serde_json::json!({
            "schema": 1,
            "run_id": "r-00000000",
            "name": "r",
            "commit": "",
            "parent_commit": "",
            "experiment_sha256": "",
            "recipe_hash": "",
            "bundle": {"dir": dir.path(), "files": {}},
            "created": "2026-01-01T00:00:00Z",
            "backend": "local",
            "experiment_path": "",
            "repo": "",
        });
        std::fs::write(dir.path().join("run.json"), manifest.to_string()).unwrap();
        let run = RunDir::open(dir.path()).unwrap();
        let attempt = run.attempt(0);
        std::fs::create_dir_all(attempt.ranks_dir()).unwrap();
        std::fs::create_dir_all(attempt.log_path(0).parent().unwrap()).unwrap();
        let held = |program: &Path| {
            let argv = [
                program.as_os_str(),
                "SigBlk".as_ref(),
                "/proc/self/status".as_ref(),
            ];
            let argv: Vec<OsString> = argv.map(OsString::from).into();
            let ranks = Ranks {
                run: &run,
                attempt: &attempt,
                world_size: 1,
                per_node: 1,
                argv: &argv,
                env: &[],
                without: Vec::new(),
                cwd: dir.path().to_path_buf(),
                master_addr: "127.0.0.1".into(),
                master_port: None,
            };
            let log = attempt.log_path(0);
            let _ = std::fs::remove_file(&log);
            let status = ranks.command(0, 0).unwrap().status().unwrap();
            assert!(status.success());
            let text = std::fs::read_to_string(&log).unwrap();
            let mask = text.trim().rsplit('\t').next().unwrap();
            u64::from_str_radix(mask, 16).unwrap() & (1 << 14) != 0
        };
        assert!(held(&program));
        assert!(!held(Path::new("/bin/grep")));
    }
}
