//! Checks of this build against numbers recorded from the original.

pub mod lr_schedules;
pub mod metrics;
pub mod report;
