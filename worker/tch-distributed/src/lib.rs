//! `torch.distributed` for [tch](https://docs.rs/tch), on libtorch's own c10d.
//!
//! - [`Store`] and [`ProcessGroup`]: rendezvous over TCP; `all_reduce`, `all_gather`, `broadcast`,
//!   `barrier`. Every call ends, with a result or an [`Error`] of a kind one can act on.
//! - [`functional`]: collectives that gradients flow through.
//! - [`Ddp`]: gradients averaged by c10d's reducer, in buckets, beside the backward pass, in an order that
//!   does not depend on how long the process has lived.
//! - [`sync_batch_norm`]: batch normalisation over the batches of all ranks.
//! - [`checkpoint()`]: activation checkpointing over a closure; [`unread_linear`] for its last layer.
//! - [`autocast`] and [`GradScaler`]: mixed precision with a type of one's choice.
//! - [`AdamW`], [`optim`], [`rng`], [`cuda`], [`device`]; NCCL by [`ProcessGroup::nccl`].
//!
//! ```no_run
//! use std::time::Duration;
//! use tch::{Device, Kind, Tensor};
//! use tch_distributed::{AdamW, Ddp, DdpOptions, GlooOptions, Hyper, ProcessGroup, Result, Store};
//!
//! fn train(rank: usize, world_size: usize) -> Result<()> {
//!     let patience = Duration::from_secs(30);
//!     let store = Store::tcp("127.0.0.1", 29500, world_size, rank == 0, patience)?;
//!     let group = ProcessGroup::gloo(&store, rank, world_size, &GlooOptions::new(patience))?;
//!     let weight = Tensor::randn([10, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
//!     let params = vec![weight.shallow_clone()];
//!     let ddp = Ddp::new(&group, &params, &DdpOptions::default())?; // all ranks now hold rank 0's weights
//!     let mut adamw = AdamW::new(vec![(params, Hyper { lr: 1e-3, ..Hyper::default() })])?;
//!     for _ in 0..100 {
//!         let x = Tensor::randn([32, 4], (Kind::Float, Device::Cpu)); // each rank's own batch
//!         let loss = x.matmul(&weight.tr()).square().mean(Kind::Float);
//!         adamw.zero_grad()?;
//!         ddp.backward(&loss)?;
//!         adamw.step()?;
//!     }
//!     group.barrier()
//! }
//! ```
//!
//! # Building
//! libtorch 2.13.0 is found as torch-sys finds it (`LIBTORCH`); another version is refused. A package with
//! binaries reads `DEP_TCH_DISTRIBUTED_LIBTORCH_LIB` in its build script and emits that folder as rpath:
//! link arguments do not propagate from libraries. `LD_LIBRARY_PATH` is not needed then.

pub mod amp;
pub mod batch_norm;
pub mod checkpoint;
pub mod cuda;
pub mod ddp;
pub mod device;
mod error;
pub mod functional;
pub mod nccl;
pub mod optim;
pub mod process_group;
pub mod rng;
pub mod scaler;
pub mod store;
mod tensor;
pub mod unread;

pub use amp::{autocast, autocast_kind, without_autocast};
pub use batch_norm::sync_batch_norm;
pub use checkpoint::{checkpoint, is_recomputing, output_is_unread, try_checkpoint};
pub use ddp::{Ddp, DdpOptions};
pub use error::{Error, Result};
pub use nccl::NcclOptions;
pub use optim::{AdamW, Hyper};
pub use process_group::{Endpoint, GlooOptions, ProcessGroup, ReduceOp};
pub use scaler::{GradScaler, ScalerState, Step};
pub use store::Store;
pub use unread::unread_linear;
