//! Signals at the supervisor.

use rocket_common::error::{Error, Result};
use rocket_common::protocol::StopReason;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Save, and go on later: the scheduler wants the nodes (SIGTERM), or the time limit is near
    /// (SIGUSR1, by `--signal` of the job).
    Stop(StopReason),
    /// SIGINT: a person wants the run to end.
    Interrupt,
}

/// The signals that are caught. SIGHUP is caught and ignored: the run outlives its terminal.
pub(super) struct Signals {
    term: Signal,
    usr1: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// Catches them from now on.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn new() -> Result<Self> {
        let catch = |kind| {
            signal(kind)
                .map_err(|error| Error::io("catch signals for", "/proc/self".as_ref(), error))
        };
        Ok(Self {
            term: catch(SignalKind::terminate())?,
            usr1: catch(SignalKind::user_defined1())?,
            int: catch(SignalKind::interrupt())?,
            hup: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one. May be dropped before it returns without losing one.
    pub(super) async fn next(&mut self) -> Asked {
        loop {
            tokio::select! {
                _ = self.term.recv() => return Asked::Stop(StopReason::Preempted),
                _ = self.usr1.recv() => return Asked::Stop(StopReason::TimeLimit),
                _ = self.int.recv() => return Asked::Interrupt,
                _ = self.hup.recv() => {}
            }
        }
    }
}
