//! Slurm's own programs: run with a clean environment and a time limit, and their refusals told
//! apart. `rocket` links no Slurm library: the programs are what every site has and keeps in step
//! with its controller.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;

/// How a request to Slurm failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The program is not installed here.
    NotInstalled,
    /// The controller was not reached, or did not answer in time: what was asked for may or may not
    /// have happened.
    Unreachable,
    /// Slurm answered, and refused.
    Refused,
}

/// A request to Slurm that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How.
    pub kind: FailureKind,
    /// The program that was run.
    pub program: &'static str,
    /// What it said, without its own name in front.
    pub words: String,
}

impl Failure {
    /// Whether what was asked for may have happened all the same.
    #[must_use]
    pub fn is_unclear(&self) -> bool {
        self.kind == FailureKind::Unreachable
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let Failure {
            kind,
            program,
            words,
        } = failure;
        match kind {
            FailureKind::NotInstalled => Self::new(
                ExitKind::Usage,
                format!(
                    "'{program}' was not found: Slurm's programs are not on this machine's PATH"
                ),
            )
            .hint("run this on a login node of the cluster, or set 'cluster: {backend: local}'"),
            FailureKind::Unreachable => Self::new(
                ExitKind::Distributed,
                format!("Slurm's controller does not answer ({program}: {words})"),
            )
            .hint("try again later; 'scontrol ping' tells whether it is up"),
            FailureKind::Refused => Self::new(
                ExitKind::Usage,
                format!("Slurm refused ({program}): {words}"),
            ),
        }
    }
}

/// Runs Slurm's programs.
#[derive(Debug, Clone)]
pub struct Client {
    limit: Duration,
    through_the_end: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self::new(Duration::from_secs(60))
    }
}

/// Variables of Slurm that are not options of its programs, and so stay.
const KEPT: [&str; 2] = ["SLURM_CONF", "SLURM_CONF_SERVER"];

/// Where Slurm's configuration is, unless `SLURM_CONF` names another place: where packages look, and
/// where a daemon keeps the one that it was sent.
pub(crate) const CONFIGURATIONS: [&str; 5] = [
    "/etc/slurm/slurm.conf",
    "/etc/slurm-llnl/slurm.conf",
    "/run/slurm/conf/slurm.conf",
    "/opt/slurm/etc/slurm.conf",
    "/usr/local/etc/slurm.conf",
];

/// Beginnings of variables that are options of Slurm's programs: they would outrank `#SBATCH` lines
/// (sbatch(1), "INPUT ENVIRONMENT VARIABLES"), and within a job the job's own are set.
const OPTIONS: [&str; 7] = [
    "SBATCH_",
    "SLURM_",
    "SALLOC_",
    "SQUEUE_",
    "SINFO_",
    "SCONTROL_",
    "SACCT_",
];

impl Client {
    /// With a time limit for each request.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            through_the_end: false,
        }
    }

    /// A client whose programs live on when their job is asked to end: a supervisor that hands its own
    /// job back is asked so at once, with all that it has started, and still has to say how.
    #[must_use]
    pub fn through_the_end(mut self) -> Self {
        self.through_the_end = true;
        self
    }

    /// Where a program of Slurm is, on `PATH`.
    #[must_use]
    pub fn find(program: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|dir| dir.join(program))
            .find(|file| is_executable(file))
    }

    /// Whether Slurm's programs belong to a cluster. They can be installed without: a package brings
    /// them, and no configuration. Asked of them only where none is in a usual place.
    #[must_use]
    pub fn has_cluster() -> bool {
        if KEPT.iter().any(|name| std::env::var_os(name).is_some())
            || CONFIGURATIONS.iter().any(|place| Path::new(place).exists())
        {
            return true;
        }
        // A controller that is away answers nothing, and is there.
        let asked = Self::new(Duration::from_secs(10)).run("scontrol", ["show", "hostnames", "n1"]);
        !asked.is_err_and(|failure| failure.words.contains("configuration source"))
    }

    /// A command of Slurm with an environment free of options.
    #[must_use]
    pub fn command(program: &str) -> Command {
        let mut command = Command::new(program);
        for name in option_variables() {
            command.env_remove(name);
        }
        // Messages are matched, and times are parsed.
        command
            .env("LC_ALL", "C")
            .env("SLURM_TIME_FORMAT", "standard");
        command
    }

    /// Runs a program and gives what it printed to stdout.
    ///
    /// # Errors
    /// It is not there, did not answer in time, or refused.
    pub fn run<A: AsRef<OsStr>>(
        &self,
        program: &'static str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String, Failure> {
        let mut command = Self::command(program);
        command.args(arguments);
        if self.through_the_end {
            // SAFETY: sigaction is async-signal-safe, and nothing is allocated. What is ignored stays so
            // in the program that is started.
            unsafe {
                command.pre_exec(|| {
                    signal(Signal::SIGTERM, SigHandler::SigIgn).map(drop)?;
                    Ok(())
                });
            }
        }
        self.output(program, command)
    }

    fn output(&self, program: &'static str, mut command: Command) -> Result<String, Failure> {
        let fail = |kind, words: String| Failure {
            kind,
            program,
            words,
        };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => fail(FailureKind::NotInstalled, error.to_string()),
                _ => fail(FailureKind::Refused, error.to_string()),
            })?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let pid = i32::try_from(child.id()).map(Pid::from_raw);
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let err = std::thread::spawn(move || read(err));
            let out = read(out);
            let err = err.join().unwrap_or_default();
            let _ = sender.send((child.wait(), out, err));
        });
        let Ok((status, out, err)) = ended.recv_timeout(self.limit) else {
            // The thread still holds the child, so the number is still its own.
            if let Ok(pid) = pid {
                let _ = kill(pid, Signal::SIGKILL);
            }
            let words = format!("no answer within {} s", self.limit.as_secs());
            return Err(fail(FailureKind::Unreachable, words));
        };
        match status {
            Ok(status) if status.success() => Ok(out),
            // Killed between the question and the answer: it may have happened.
            Ok(status) if status.signal().is_some() => {
                Err(fail(FailureKind::Unreachable, status.to_string()))
            }
            Ok(_) => {
                let words = words_of(&err, &out);
                Err(fail(kind_of(&words), words))
            }
            Err(error) => Err(fail(FailureKind::Refused, error.to_string())),
        }
    }
}

/// Variables of this process that are options of Slurm's programs.
pub(crate) fn option_variables() -> Vec<OsString> {
    std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| {
            let name = name.to_string_lossy();
            OPTIONS.iter().any(|option| name.starts_with(option)) && !KEPT.contains(&&*name)
        })
        .collect()
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn read(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // What was read before an error is still worth showing.
        let _ = from.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The messages of a program in one line, without `sbatch: error: ` before each.
fn words_of(err: &str, out: &str) -> String {
    let text = if err.trim().is_empty() { out } else { err };
    let lines: Vec<&str> = text
        .lines()
        .map(|line| {
            let line = line.trim();
            let line = line
                .split_once(": error: ")
                .or_else(|| line.split_once(": fatal: "))
                .map_or(line, |(_, words)| words);
            line.trim()
        })
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ")
}

/// Whether the controller answered at all, by the messages of `slurm_strerror`.
fn kind_of(words: &str) -> FailureKind {
    const SILENT: [&str; 11] = [
        "unable to contact slurm controller",
        "socket timed out",
        "connection refused",
        "connection timed out",
        "no route to host",
        "connect failure",
        "send failure",
        "receive failure",
        "zero bytes were transmitted",
        "slurm backup controller in standby mode",
        "slurmctld is not responding",
    ];
    let lower = words.to_lowercase();
    if SILENT.iter().any(|silent| lower.contains(silent)) {
        FailureKind::Unreachable
    } else {
        FailureKind::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        let down = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)\n";
        let words = words_of(down, "");
        assert_eq!(
            words,
            "Batch job submission failed: Unable to contact slurm controller (connect failure)"
        );
        assert_eq!(kind_of(&words), FailureKind::Unreachable);
        let words = words_of(
            "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: Invalid partition name specified\n",
            "",
        );
        assert_eq!(kind_of(&words), FailureKind::Refused);
        assert!(words.starts_with("invalid partition specified: x; Batch"));
    }

    #[test]
    fn a_silent_program_is_given_up_and_a_missing_one_is_named() {
        let client = Client::new(Duration::from_millis(100));
        let failure = client.run("sleep", ["60"]).unwrap_err();
        assert!(failure.is_unclear(), "{failure:?}");
        let failure = client.run("no-such-program-of-slurm", ["x"]).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotInstalled);
        assert_eq!(client.run("echo", ["a b"]).unwrap(), "a b\n");
    }

    #[test]
    fn an_answer_comes_although_the_job_is_being_ended() {
        let client = Client::new(Duration::from_secs(20));
        let asked_to_end = ["-c", "kill -TERM $$; echo answered"];
        assert!(client.run("sh", asked_to_end).is_err());
        let answer = client.through_the_end().run("sh", asked_to_end).unwrap();
        assert_eq!(answer, "answered\n");
    }
}
