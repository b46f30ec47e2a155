//! The supervisor.

mod decide;
mod ending;
mod watchdog;

pub use decide::{Action, Ending, History, Policy, backoff, decide};
pub use ending::{Exit, Interventions, RankEnd, ending};
pub use watchdog::Watchdog;
