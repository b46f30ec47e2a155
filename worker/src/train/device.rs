//! Where a rank computes.

use anyhow::{Context, Result};
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{DeviceKind, Experiment};
use tch::Device;
use tch_distributed::{cuda, device};

/// Loads CUDA for an experiment that may use it. Due before the first tensor.
///
/// # Errors
/// When libtorch's CUDA library is there and cannot be loaded.
pub fn prepare(kind: DeviceKind) -> Result<()> {
    if kind != DeviceKind::Cpu {
        cuda::load_if_present()
            .context("CUDA cannot be used; 'cluster.device: cpu' does without it")?;
    }
    Ok(())
}

/// The device of the rank `local_rank` of its machine.
///
/// # Errors
/// Kind [`ExitKind::Experiment`] where the experiment wants a GPU and there is none, [`ExitKind::Internal`] where
/// this rank's is missing or libtorch has no code for it.
pub fn choose(experiment: &Experiment, local_rank: u32) -> Result<Device> {
    let chosen = match experiment.cluster.device {
        DeviceKind::Cpu => Device::Cpu,
        DeviceKind::Auto if cuda::device_count() == 0 => Device::Cpu,
        DeviceKind::Auto | DeviceKind::Cuda => {
            device::select(local_rank as usize).map_err(|error| {
                // A GPU that is missing among others is a broken machine: another may do.
                let kind = match cuda::device_count() {
                    0 => ExitKind::Experiment,
                    _ => ExitKind::Internal,
                };
                Error::new(kind, error.to_string())
                    .hint("'cluster.device: cpu' computes on the CPU")
            })?
        }
    };
    if chosen.is_cuda() {
        device::set_deterministic(experiment.train.deterministic)?;
    }
    Ok(chosen)
}
