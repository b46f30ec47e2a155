//! What the tests on a GPU share. They are ignored unless asked for: `make gpu-test`.

use std::panic::catch_unwind;
use std::sync::OnceLock;
use std::time::Duration;

use tch::{Device, Kind};
use tch_distributed::{GlooOptions, NcclOptions, ProcessGroup, Store, cuda, device};

use super::{Rank, launch};

/// The first GPU. Fails in words where there is none: whoever asks for these tests wants them run.
pub fn gpu() -> (Kind, Device) {
    let device = device::select(0).unwrap_or_else(|error| panic!("{error}"));
    (Kind::Float, device)
}

impl Rank {
    /// A group over NCCL, each rank on a GPU of its own where there are enough.
    pub fn nccl(&self) -> (Store, ProcessGroup, (Kind, Device)) {
        gpu();
        let index = self.rank % cuda::device_count();
        let device = device::select(index).unwrap();
        let patience = Duration::from_secs(60);
        let store = self.store(patience);
        let mut options = NcclOptions::new(index, patience);
        options.gloo = GlooOptions::new(patience).interface("lo");
        let group = ProcessGroup::nccl(&store, self.rank, self.world_size, &options).unwrap();
        (store, group, (Kind::Float, device))
    }
}

/// Runs `body` as two ranks, on one GPU if need be and NCCL allows it, else as one.
pub fn with_gpu_ranks(test: &str, body: impl FnOnce(Rank)) {
    static RANKS: OnceLock<usize> = OnceLock::new();
    if let Some(rank) = Rank::from_env() {
        if rank.phase != "probe" {
            return body(rank);
        }
        let (_store, group, options) = rank.nccl();
        let one = tch::Tensor::ones([1], options);
        return group
            .all_reduce(&one, tch_distributed::ReduceOp::Sum)
            .unwrap();
    }
    gpu();
    let dir = tempfile::tempdir().unwrap();
    let ranks = *RANKS.get_or_init(|| {
        let two = cuda::device_count() > 1
            || catch_unwind(|| launch(test, 2, "probe", dir.path())).is_ok();
        if two { 2 } else { 1 }
    });
    eprintln!("{test}: {ranks} rank(s) on {} GPU(s)", cuda::device_count());
    launch(test, ranks, "run", dir.path());
}
