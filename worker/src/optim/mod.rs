//! The optimiser and its learning rate.

mod adamw;
pub mod schedule;

pub use adamw::NamedAdamW;
pub use schedule::Schedule;
