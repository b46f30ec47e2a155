//! A stop request: SIGTERM at this rank, or the supervisor's control file. One rank's request
//! becomes everyone's through the collective that ends a step, so that all save the same step.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rocket_common::protocol::StopReason;

static SIGNALLED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_signal: nix::libc::c_int) {
    // A store to an atomic is all that is allowed in a handler, and all that is needed.
    SIGNALLED.store(true, Ordering::SeqCst);
}

/// Lets SIGTERM be a request, instead of the end.
///
/// # Errors
/// When the handler cannot be installed.
pub fn catch_signals() -> Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(on_signal),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
    unsafe { sigaction(Signal::SIGTERM, &action) }
        .context("cannot install the handler of SIGTERM")?;
    Ok(())
}

/// Whether this process was sent SIGTERM.
#[must_use]
pub fn signalled() -> bool {
    SIGNALLED.load(Ordering::SeqCst)
}

/// The reasons in the order of their slots in the step's collective. The first that any rank
/// raised is the one that counts: what the supervisor says goes before a bare signal.
const SLOTS: [StopReason; 4] = [
    StopReason::Cancelled,
    StopReason::Preempted,
    StopReason::TimeLimit,
    StopReason::Signal,
];

/// Number of slots that [`encode`] fills.
pub const NUM_SLOTS: usize = SLOTS.len();

/// One slot per reason: 1 where it is this rank's wish.
#[must_use]
pub fn encode(wish: Option<StopReason>) -> [f64; NUM_SLOTS] {
    SLOTS.map(|reason| f64::from(u8::from(wish == Some(reason))))
}

/// The agreed reason, from the slots summed over all ranks.
#[must_use]
pub fn decode(sums: &[f64]) -> Option<StopReason> {
    SLOTS
        .into_iter()
        .zip(sums)
        .find(|(_, sum)| **sum > 0.0)
        .map(|(reason, _)| reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_rank_stops_all_and_the_supervisor_names_the_reason() {
        let sum = |wishes: &[Option<StopReason>]| {
            wishes
                .iter()
                .map(|wish| encode(*wish))
                .fold([0.0; NUM_SLOTS], |mut total, slots| {
                    total.iter_mut().zip(slots).for_each(|(t, s)| *t += s);
                    total
                })
        };
        assert_eq!(decode(&sum(&[None, None])), None);
        for reason in SLOTS {
            assert_eq!(decode(&sum(&[None, Some(reason), None])), Some(reason));
        }
        let mixed = sum(&[Some(StopReason::Signal), Some(StopReason::Preempted)]);
        assert_eq!(decode(&mixed), Some(StopReason::Preempted));
    }
}
