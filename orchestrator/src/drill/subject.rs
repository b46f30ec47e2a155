//! A run that a drill has submitted, by the program itself as people do, and watches from outside.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rocket_common::error::{Error, Result};
use rocket_common::events::{self, Event, EventKind, Status};
use rocket_common::exit::ExitKind;
use rocket_common::protocol;
use rocket_common::run_dir::RunDir;

use super::numbers::last_step;

/// Spacing of looks at a run.
const LOOK: Duration = Duration::from_millis(5);

/// How the program is called.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The program.
    pub rocket: PathBuf,
    /// The folder of the drill's runs.
    pub root: PathBuf,
}

impl Caller {
    /// Runs a command; gives what it printed.
    ///
    /// # Errors
    /// It failed, in its own words.
    pub fn call(&self, args: &[String]) -> Result<String> {
        let output = Command::new(&self.rocket)
            .arg("--runs")
            .arg(&self.root)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Error::io("start", &self.rocket, error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let mut lines = said.lines();
        let first = lines.by_ref().find_map(|line| line.strip_prefix("error: "));
        let mut error = Error::new(
            ExitKind::Usage,
            first.unwrap_or("the program failed without a word"),
        );
        for line in lines {
            if let Some(hint) = line.strip_prefix("hint: ") {
                error = error.hint(hint);
            }
        }
        Err(error)
    }

    /// Submits an experiment.
    ///
    /// # Errors
    /// It is refused.
    pub fn submit(&self, experiment: &Path, sets: &[String], snapshot: bool) -> Result<Subject> {
        let mut args = vec![
            "submit".to_owned(),
            experiment.display().to_string(),
            "--again".into(),
        ];
        for set in sets {
            args.extend(["--set".to_owned(), set.clone()]);
        }
        if snapshot {
            args.push("--snapshot".into());
        }
        let said = self.call(&args)?;
        let id = said
            .lines()
            .find_map(|line| line.strip_prefix("run "))
            .map(str::trim)
            .ok_or_else(|| {
                Error::new(ExitKind::Internal, "submit did not say which run it made")
            })?;
        Ok(Subject {
            run: RunDir::open(self.root.join(id))?,
            started: Instant::now(),
        })
    }
}

/// A run under observation.
#[derive(Debug)]
pub struct Subject {
    /// Its directory.
    pub run: RunDir,
    /// When it was submitted.
    pub started: Instant,
}

/// Set by Ctrl-C: a drill ends its runs before it leaves.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_: nix::libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Has Ctrl-C and a plain kill noted from now on.
pub(super) fn catch_interrupts() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for which in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler does nothing but store to an atomic, which is async-signal-safe.
        let _ = unsafe { signal(which, SigHandler::Handler(interrupt)) };
    }
}

impl Subject {
    /// A run that somebody else has submitted.
    ///
    /// # Errors
    /// There is no such run.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            run: RunDir::open(path)?,
            started: Instant::now(),
        })
    }

    /// Everything that has happened.
    ///
    /// # Errors
    /// The events cannot be read.
    pub fn events(&self) -> Result<Vec<Event>> {
        events::read(&self.run)
    }

    /// The steps that each start of the ranks went on from, in order; `None` for a start from nothing.
    ///
    /// # Errors
    /// The events cannot be read.
    pub fn restores(&self) -> Result<Vec<Option<u64>>> {
        Ok(self
            .events()?
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::Restored { name } => Some(name.as_ref().and(event.step)),
                _ => None,
            })
            .collect())
    }

    /// Waits until something holds; looks often, since steps may be short.
    ///
    /// # Errors
    /// The run ended before, the time is over, or a person interrupts.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let start = Instant::now();
        let mut looked = Instant::now();
        loop {
            if let Some(found) = wanted(self)? {
                return Ok(found);
            }
            if INTERRUPTED.load(Ordering::Relaxed) {
                return Err(Error::new(ExitKind::Usage, "the drill was interrupted"));
            }
            // Events are many files; they are not read at every look.
            if looked.elapsed() > Duration::from_millis(200) {
                looked = Instant::now();
                let state = events::derive(&self.events()?);
                if matches!(
                    state.status,
                    Status::Finished | Status::Failed | Status::Cancelled
                ) {
                    // It may have come to pass since the look.
                    if let Some(found) = wanted(self)? {
                        return Ok(found);
                    }
                    return Err(self.ended(what, state.status, state.cause));
                }
            }
            if start.elapsed() > limit {
                return Err(Error::new(
                    ExitKind::Distributed,
                    format!(
                        "run {} showed no {what} within {} s",
                        self.run.id(),
                        limit.as_secs()
                    ),
                ));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn ended(&self, what: &str, status: Status, cause: Option<String>) -> Error {
        let id = self.run.id();
        match status {
            Status::Failed => Error::new(
                ExitKind::Internal,
                format!(
                    "run {id} failed: {}",
                    cause.unwrap_or_else(|| "no cause is known".into())
                ),
            ),
            Status::Finished => Error::new(
                ExitKind::Usage,
                format!("run {id} finished before its {what}: its steps are too short to be hit"),
            )
            .hint("give it more steps with --steps"),
            _ => Error::new(
                ExitKind::Internal,
                format!("run {id} was cancelled before its {what}"),
            ),
        }
    }

    /// Waits until a step is done.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn reach(&self, step: u64, limit: Duration) -> Result<u64> {
        self.wait(&format!("step {step}"), limit, |this| {
            let last = last_step(&this.run);
            Ok((last >= step).then_some(last))
        })
    }

    /// Waits for the good end.
    ///
    /// # Errors
    /// Another end, as [`Self::wait`].
    pub fn finish(&self, limit: Duration) -> Result<()> {
        self.wait("end", limit, |this| {
            let state = events::derive(&this.events()?);
            Ok((this.run.is_done() || state.status == Status::Finished).then_some(()))
        })
    }

    /// Processes of the ranks of the highest attempt, as their heartbeats tell.
    ///
    /// # Errors
    /// The run directory cannot be read, or a rank has shown no sign of life.
    pub fn ranks(&self, world_size: u32) -> Result<Vec<i32>> {
        let none = || {
            Error::new(
                ExitKind::Distributed,
                format!(
                    "not all ranks of run {} have shown a sign of life",
                    self.run.id()
                ),
            )
        };
        let attempt = self.run.highest_attempt()?.ok_or_else(none)?;
        let attempt = self.run.attempt(attempt);
        (0..world_size)
            .map(|rank| {
                let beat = protocol::read_heartbeat(&attempt, rank)?.ok_or_else(none)?;
                i32::try_from(beat.pid).map_err(|_| none())
            })
            .collect()
    }

    /// The folder of a checkpoint that is being written, and its step.
    #[must_use]
    pub fn draft(&self) -> Option<(u64, PathBuf)> {
        let entries = std::fs::read_dir(self.run.checkpoints_dir()).ok()?;
        entries.flatten().find_map(|entry| {
            let name = entry.file_name();
            let rest = name.to_str()?.strip_prefix(".tmp-step-")?;
            let step = rest.split('-').next()?.parse().ok()?;
            Some((step, entry.path()))
        })
    }
}
