//! Training data: sources, order, loader.

mod bad;
mod batch;
mod budget;
pub mod check;
pub mod fetch;
pub mod index;
mod loader;
pub mod mapped;
pub mod npy;
pub mod npy_write;
pub mod order;
pub mod pickle;
mod sample;
mod slots;
pub mod source;
pub mod yfcc15m;

pub use bad::LoadError;
pub use batch::HostBatch;
pub use loader::{Counters, Loader, LoaderOptions, views};
pub use order::{GlobalPosition, Order};
pub use sample::BadSample;
