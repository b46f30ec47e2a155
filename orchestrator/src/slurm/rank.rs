//! The launcher of one rank on its node: what `srun` starts. It gives the rank its place, its log and
//! its secrets, and tells the supervisor on the first node how the process ended, which srun does not.

use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, signal};
use nix::unistd::{Pid, getppid};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::host;
use rocket_common::protocol::{self, ExitRecord, ProcessEnd};
use rocket_common::run_dir::{Attempt, RunDir};

use super::secrets;
use crate::backend::leftovers;
use crate::backend::place::Place;
use crate::bundle;
use crate::supervisor::stacks;

/// Spacing of looks at the rank's process.
const TICK: Duration = Duration::from_millis(100);
/// Spacing of looks at the shared file system.
const LOOK: Duration = Duration::from_secs(1);
/// A rank that failed keeps its place that long: `srun` kills the others at once when it leaves, and
/// their last words tell a cause from its consequences.
const LAST_WORDS: Duration = Duration::from_secs(25);

/// Starts one rank, waits for it, and gives the exit code.
///
/// # Errors
/// The rank's place is not known, or it cannot be started.
pub(crate) fn run(run: &RunDir, attempt: u32, argv: &[std::ffi::OsString]) -> Result<u8> {
    // Slurm signals every process of a step. What becomes of the rank is the rank's decision, and
    // the launcher must be there to tell of it.
    for ignored in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { signal(ignored, SigHandler::SigIgn) }
            .map_err(|error| Error::io("ignore signals in", "/proc/self".as_ref(), error.into()))?;
    }
    let place = Place::from_env()?;
    let attempt = run.attempt(attempt);
    run.fence_check(attempt.number())?;
    if place.local_rank == 0 {
        let ended = leftovers::end(run.path(), attempt.number());
        if ended > 0 {
            eprintln!("ended {ended} processes that earlier attempts left on this node");
        }
    }
    let child = spawn(run, &attempt, &place, argv)?;
    let end = Launcher {
        run,
        attempt: &attempt,
        rank: place.rank,
        child,
    }
    .wait()?;
    let record = ExitRecord {
        end: match (end.code(), end.signal()) {
            (Some(code), _) => ProcessEnd::Code(code),
            (None, signal) => ProcessEnd::Signal(signal.unwrap_or_default()),
        },
        node: std::env::var("SLURMD_NODENAME").unwrap_or_else(|_| host::name()),
    };
    protocol::write_exit(&attempt, place.rank, &record)?;
    let code = match record.end {
        ProcessEnd::Code(code) => u8::try_from(code).unwrap_or(1),
        ProcessEnd::Signal(signal) => u8::try_from(128 + signal).unwrap_or(1),
    };
    if code != 0 {
        linger(&attempt);
    }
    Ok(code)
}

/// Waits for the word to leave, as long as that makes sense.
fn linger(attempt: &Attempt) {
    let start = Instant::now();
    while start.elapsed() < LAST_WORDS
        && !protocol::read_orders(attempt).is_ok_and(|orders| orders.kill)
    {
        std::thread::sleep(LOOK / 2);
    }
}

impl Place {
    /// As srun gives it.
    fn from_env() -> Result<Self> {
        let number = |name: &str| {
            std::env::var(name)
                .ok()
                .and_then(|value| value.parse().ok())
                .ok_or_else(|| {
                    Error::new(
                        ExitKind::Usage,
                        format!("{name} is not set: 'rocket rank' is started by srun, one process per rank"),
                    )
                })
        };
        let world_size = number("SLURM_NTASKS")?;
        // The step's nodes, where the job has more.
        let nodes = number("SLURM_STEP_NUM_NODES").or_else(|_| number("SLURM_NNODES"))?;
        Ok(Self {
            rank: number("SLURM_PROCID")?,
            local_rank: number("SLURM_LOCALID")?,
            world_size,
            per_node: world_size.div_ceil(nodes.max(1)),
        })
    }
}

fn spawn(
    run: &RunDir,
    attempt: &Attempt,
    place: &Place,
    argv: &[std::ffi::OsString],
) -> Result<Child> {
    let (program, arguments) = argv
        .split_first()
        .ok_or_else(|| Error::new(ExitKind::Experiment, "'command' is an empty list"))?;
    let path = attempt.log_path(place.rank);
    let failed = |error| Error::io("write", &path, error);
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(failed)?;
    let err = log.try_clone().map_err(failed)?;
    let launcher = nix::unistd::getpid();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(secrets_of(run)?)
        .envs(place.variables(run, attempt.number()))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(err);
    let mut held = SigSet::empty();
    if bundle::is_trainer(run, program) {
        // While it loads libraries it would die of a request to stop; it lets it come itself.
        held.add(Signal::SIGTERM);
    }
    // SAFETY: sigmask, prctl, getppid and signal are async-signal-safe, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            // Before its handler is the default again.
            held.thread_block()?;
            // An ignored signal stays ignored over exec(2).
            for normal in [
                Signal::SIGTERM,
                Signal::SIGINT,
                Signal::SIGHUP,
                Signal::SIGUSR1,
                Signal::SIGUSR2,
            ] {
                signal(normal, SigHandler::SigDfl)?;
            }
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            if getppid() == launcher {
                Ok(())
            } else {
                Err(std::io::Error::from(nix::Error::ESRCH))
            }
        });
    }
    command.spawn().map_err(|error| {
        Error::io(
            &format!("start rank {}:", place.rank),
            Path::new(program),
            error,
        )
        .with_kind(ExitKind::Experiment)
    })
}

/// Secrets that were taken at submit; they are nowhere in the job.
fn secrets_of(run: &RunDir) -> Result<Vec<(String, String)>> {
    let runs = run.path().parent().unwrap_or(run.path());
    let secrets = secrets::read(runs, &run.id())?;
    Ok(secrets
        .into_iter()
        .map(|secret| (secret.name, secret.value))
        .collect())
}

struct Launcher<'a> {
    run: &'a RunDir,
    attempt: &'a Attempt,
    rank: u32,
    child: Child,
}

impl Launcher<'_> {
    /// Waits for the rank, and carries orders out meanwhile.
    fn wait(mut self) -> Result<ExitStatus> {
        let mut looked = Instant::now();
        let (mut asked, mut saved) = (false, false);
        loop {
            let ended = self
                .child
                .try_wait()
                .map_err(|error| Error::io("wait for", Path::new("the rank"), error))?;
            if let Some(status) = ended {
                return Ok(status);
            }
            std::thread::sleep(TICK);
            if looked.elapsed() < LOOK {
                continue;
            }
            looked = Instant::now();
            // A rank of an attempt that was given up must not go on, even if it hangs.
            let fenced = self
                .run
                .fence_check(self.attempt.number())
                .is_err_and(|error| error.kind() == ExitKind::Fenced);
            let orders = protocol::read_orders(self.attempt).unwrap_or_default();
            if orders.stacks && !std::mem::replace(&mut saved, true) {
                let path = self.attempt.stacks_dir().join(format!("{}.txt", self.rank));
                if let Err(error) = stacks::save(self.child.id(), &path) {
                    eprintln!("{error}");
                }
            }
            if orders.term && !std::mem::replace(&mut asked, true) {
                self.signal(Signal::SIGTERM);
            }
            if orders.kill || fenced {
                self.signal(Signal::SIGKILL);
            }
        }
    }

    fn signal(&self, signal: Signal) {
        // Not waited for yet: the number is still its own.
        let _ = i32::try_from(self.child.id()).map(|pid| kill(Pid::from_raw(pid), signal));
    }
}
