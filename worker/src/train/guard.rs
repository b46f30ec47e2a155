//! A thread beside the training: it sees what the training cannot while a collective blocks it.
//!
//! - A newer attempt exists: the process leaves at once, wherever it is, so that an attempt whose node
//!   was given up publishes nothing more and does not keep ports and memory.
//! - A stop is wanted: noted for the next step boundary, or, before the ranks have met, followed at
//!   once, since nobody can agree on anything then.
//!
//! It looks at the shared file system about once per second.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rocket_common::exit::ExitKind;
use rocket_common::protocol::{self, EndRecord, Outcome};
use rocket_common::run_dir::{Attempt, RunDir};

use super::stop;
use crate::failure;
use crate::rank::RankContext;

/// Spacing of looks at what costs nothing, and at the lead's control file, which steps wait for.
const TICK: Duration = Duration::from_millis(250);
/// Spacing of looks for a newer attempt.
const FENCE: Duration = Duration::from_secs(1);
/// Spacing of looks at the control file by ranks other than the lead. In training they hear of a stop
/// from the lead; in an evaluation each looks for itself.
const CONTROL: Duration = Duration::from_secs(2);

/// How far the ranks are on their way to each other: only forwards.
static STAGE: AtomicU8 = AtomicU8::new(0);
/// This rank knows its attempt.
const IN_ATTEMPT: u8 = 1;
/// All ranks are connected.
const MET: u8 = 2;

/// Notes that the ranks have met: from now on a stop is agreed on.
pub(super) fn met() {
    STAGE.store(MET, Ordering::SeqCst);
}

/// Leaves on SIGTERM while it is not known yet which attempt this process belongs to.
///
/// # Errors
/// When no thread can be started.
pub fn watch_signal() -> Result<()> {
    spawn(move || {
        while STAGE.load(Ordering::SeqCst) < IN_ATTEMPT {
            if stop::signalled() {
                leave(None, &stopped());
            }
            std::thread::sleep(TICK);
        }
    })
}

/// Watches over a rank of an attempt until the process ends.
///
/// # Errors
/// When no thread can be started.
pub fn watch(context: &RankContext, run: &RunDir) -> Result<()> {
    STAGE.store(IN_ATTEMPT, Ordering::SeqCst);
    let (context, run) = (context.clone(), run.clone());
    spawn(move || Guard::new(&context, &run).watch())
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name("guard".to_owned())
        .spawn(work)
        .map(drop)
        .context("cannot start the thread that watches for stops")
}

struct Guard<'a> {
    context: &'a RankContext,
    run: &'a RunDir,
    attempt: Attempt,
}

impl<'a> Guard<'a> {
    fn new(context: &'a RankContext, run: &'a RunDir) -> Self {
        Self {
            context,
            run,
            attempt: run.attempt(context.attempt),
        }
    }

    fn watch(&self) {
        let spacing = if self.context.is_lead() {
            TICK
        } else {
            CONTROL
        };
        let (mut fence, mut control) = (None::<Instant>, None::<Instant>);
        let due = |last: &mut Option<Instant>, spacing: Duration| {
            let due = last.is_none_or(|last| last.elapsed() >= spacing);
            if due {
                *last = Some(Instant::now());
            }
            due
        };
        loop {
            if due(&mut fence, FENCE) {
                self.look_for_newer_attempt();
            }
            if due(&mut control, spacing)
                && let Ok(found) = protocol::read_control(&self.attempt)
            {
                stop::ask(found.stop);
            }
            if stop::wish().is_some() && STAGE.load(Ordering::SeqCst) < MET {
                leave(Some((&self.attempt, self.context.rank)), &stopped());
            }
            std::thread::sleep(TICK);
        }
    }

    fn look_for_newer_attempt(&self) {
        // A directory that cannot be read says nothing; publishing asks again, and takes no for an
        // answer.
        let Err(error) = self.run.fence_check(self.context.attempt) else {
            return;
        };
        if error.kind() == ExitKind::Fenced {
            let error = anyhow::Error::new(error);
            eprintln!("{}", failure::describe(&error));
            let record = failure::end_record(&error, 0);
            leave(Some((&self.attempt, self.context.rank)), &record);
        }
    }
}

/// The last words of a rank that was told to leave before it had begun.
fn stopped() -> EndRecord {
    EndRecord {
        outcome: Outcome::Stopped,
        kind: ExitKind::Ok,
        step: 0,
        stop: stop::wish(),
        cause: None,
        hint: None,
    }
}

/// Ends this process with its last words. At once: destructors of a process group whose peers are gone
/// can wait for them, and other threads may be anywhere in libtorch.
pub fn leave(place: Option<(&Attempt, u32)>, record: &EndRecord) -> ! {
    if let Some((attempt, rank)) = place
        && let Err(error) = protocol::write_end(attempt, rank, record)
    {
        eprintln!("error: {error}");
    }
    // SAFETY: _exit(2) takes any code and returns to nobody.
    unsafe { nix::libc::_exit(i32::from(record.kind.code())) }
}
