//! A stop request: SIGTERM at this rank, or the supervisor's control file. One rank's request
//! becomes everyone's through the collective that ends a step, so that all save the same step.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rocket_common::protocol::StopReason;
use tch::Tensor;
use tch_distributed::{ProcessGroup, ReduceOp};

static SIGNALLED: AtomicBool = AtomicBool::new(false);
/// One more than the index in [`SLOTS`] of what the control file asks for; 0 is nothing.
static ASKED: AtomicU8 = AtomicU8::new(0);

extern "C" fn on_signal(_signal: nix::libc::c_int) {
    // A store to an atomic is all that is allowed in a handler, and all that is needed.
    SIGNALLED.store(true, Ordering::SeqCst);
}

/// Lets SIGTERM be a request, instead of the end. A launcher may have blocked it before it started this
/// program, so that none is lost while libraries load; now it may come. SIGCONT, which Slurm sends along with it, keeps its
/// default: it does nothing to a process that runs.
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
    let mut held = SigSet::empty();
    held.add(Signal::SIGTERM);
    held.thread_unblock().context("cannot unblock SIGTERM")
}

/// Whether this process was sent SIGTERM.
#[must_use]
pub fn signalled() -> bool {
    SIGNALLED.load(Ordering::SeqCst)
}

/// Notes what the supervisor's control file asks for. What was asked once stays asked: some rank may
/// have acted on it.
pub(super) fn ask(reason: Option<StopReason>) {
    let slot = reason.and_then(|reason| SLOTS.iter().position(|slot| *slot == reason));
    if let Some(code) = slot.and_then(|slot| u8::try_from(slot + 1).ok()) {
        ASKED.store(code, Ordering::SeqCst);
    }
}

/// Whether this rank was asked to stop, by the supervisor or by a signal, and why.
#[must_use]
pub fn wish() -> Option<StopReason> {
    let asked = usize::from(ASKED.load(Ordering::SeqCst));
    asked
        .checked_sub(1)
        .and_then(|slot| SLOTS.get(slot).copied())
        .or_else(|| signalled().then_some(StopReason::Signal))
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

/// Brings this rank's wish together with the others', outside of a step.
///
/// # Errors
/// When a peer is lost.
pub fn agree(group: &ProcessGroup) -> Result<Option<StopReason>> {
    let slots = Tensor::from_slice(&encode(wish()));
    group.all_reduce(&slots, ReduceOp::Sum)?;
    Ok(decode(&Vec::<f64>::try_from(slots)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_stays_asked_and_may_get_another_reason() {
        assert_eq!(wish(), None);
        for reason in SLOTS {
            ask(Some(reason));
            ask(None);
            assert_eq!(wish(), Some(reason));
        }
    }

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
