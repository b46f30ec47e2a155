//! Devices: choosing one, what it can do, its memory, copies to it, and whether its numbers repeat.

use std::ffi::c_int;

use tch::{Device, Tensor};

use crate::cuda;
use crate::error::{Error, Result, check};
use crate::tensor::device_code;

unsafe extern "C" {
    fn tchd_cuda_capability(
        device: c_int,
        major: *mut c_int,
        minor: *mut c_int,
        version: *mut c_int,
    ) -> c_int;
    fn tchd_set_device(device: c_int) -> c_int;
    fn tchd_synchronize(device: c_int) -> c_int;
    fn tchd_memory(device: c_int, six: *mut i64) -> c_int;
    fn tchd_memory_reset_peak(device: c_int) -> c_int;
    fn tchd_memory_release() -> c_int;
    fn tchd_deterministic(on: bool) -> c_int;
    fn tchd_tf32(products: bool, convolutions: bool) -> c_int;
}

/// Makes the CUDA device `local_rank` the one this thread works on, once it is sure that this libtorch has
/// code for it.
///
/// # Errors
/// [`Invalid`](Error::Invalid) where CUDA, or this device, is not there, or is too old for this libtorch.
pub fn select(local_rank: usize) -> Result<Device> {
    let loaded = cuda::load_if_present()?;
    let count = cuda::device_count();
    if count == 0 {
        return Err(Error::Invalid(if loaded {
            "training on CUDA needs a GPU, and CUDA shows this process none; check nvidia-smi and \
             CUDA_VISIBLE_DEVICES"
                .into()
        } else {
            "training on CUDA needs a libtorch built for CUDA, and the one in use has no \
             libtorch_cuda.so"
                .into()
        }));
    }
    if local_rank >= count {
        return Err(Error::Invalid(format!(
            "local rank {local_rank} has no GPU of its own: CUDA shows this process {count}, counted from 0"
        )));
    }
    let (capability, version) = capability(local_rank)?;
    if let Some(sentence) = unsupported(local_rank, capability, version) {
        return Err(Error::Invalid(sentence));
    }
    // SAFETY: plain values.
    check(unsafe { tchd_set_device(local_rank as c_int) })?;
    let device = Device::Cuda(local_rank);
    // The oldest device is known; that there is code for this very one, only a kernel shows.
    let sum = Tensor::f_ones([1], (tch::Kind::Float, device))?.f_sum(tch::Kind::Float)?;
    match f64::try_from(sum) {
        Ok(_) => Ok(device),
        Err(error) => {
            let (major, minor) = capability;
            Err(Error::Invalid(format!(
                "GPU {local_rank} (compute capability {major}.{minor}) cannot run this libtorch's code: {}",
                Error::from(error)
            )))
        }
    }
}

/// Compute capability of a CUDA device as (major, minor), and CUDA's version as in 13000 for 13.0.
///
/// # Errors
/// [`Torch`](Error::Torch) where there is no such device.
pub fn capability(index: usize) -> Result<((i32, i32), i32)> {
    let (mut major, mut minor, mut version) = (0, 0, 0);
    // SAFETY: the pointers are valid during the call.
    check(unsafe { tchd_cuda_capability(index as c_int, &mut major, &mut minor, &mut version) })?;
    Ok(((major, minor), version))
}

/// What is wrong where CUDA of this version has dropped devices of this capability.
fn unsupported(index: usize, capability: (i32, i32), version: i32) -> Option<String> {
    // CUDA's release notes: 13 dropped Maxwell, Pascal and Volta; 12 dropped Kepler.
    let oldest = match version / 1000 {
        13.. => (7, 5),
        12 => (5, 0),
        _ => (3, 5),
    };
    let ((major, minor), (cuda, rest)) = (capability, (version / 1000, version % 1000 / 10));
    (capability < oldest).then(|| {
        format!(
            "GPU {index} has compute capability {major}.{minor}, but CUDA {cuda}.{rest}, which this libtorch \
             is built for, needs {}.{} or newer; use a libtorch of the same version built for an older CUDA",
            oldest.0, oldest.1
        )
    })
}

/// Returns once the device has done all that was queued; at once on the CPU.
///
/// # Errors
/// What a queued operation failed with.
pub fn synchronize(device: Device) -> Result<()> {
    match device_code(device)? {
        (0, _) => Ok(()),
        // SAFETY: plain values.
        (_, index) => check(unsafe { tchd_synchronize(index) }),
    }
}

/// Memory of a device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Held by tensors now.
    pub allocated: u64,
    /// The most that tensors held since the start or [`reset_peak`].
    pub max_allocated: u64,
    /// Held by torch now, for tensors and for reuse.
    pub reserved: u64,
    /// The most that torch held since the start or [`reset_peak`].
    pub max_reserved: u64,
    /// Free on the device, for any process.
    pub free: u64,
    /// Of the device.
    pub total: u64,
}

/// Memory of a CUDA device; `None` for the CPU, where torch does not count.
///
/// # Errors
/// [`Torch`](Error::Torch) where there is no such device.
pub fn memory(device: Device) -> Result<Option<Memory>> {
    let Some(index) = cuda_index(device)? else {
        return Ok(None);
    };
    let mut six = [0i64; 6];
    // SAFETY: the pointer is valid for six values.
    check(unsafe { tchd_memory(index, six.as_mut_ptr()) })?;
    let [
        allocated,
        max_allocated,
        reserved,
        max_reserved,
        free,
        total,
    ] = six.map(|bytes| u64::try_from(bytes).unwrap_or(0));
    Ok(Some(Memory {
        allocated,
        max_allocated,
        reserved,
        max_reserved,
        free,
        total,
    }))
}

/// Starts the maxima of [`memory`] anew; nothing on the CPU.
///
/// # Errors
/// As [`memory`].
pub fn reset_peak(device: Device) -> Result<()> {
    match cuda_index(device)? {
        // SAFETY: plain values.
        Some(index) => check(unsafe { tchd_memory_reset_peak(index) }),
        None => Ok(()),
    }
}

/// Gives what torch keeps for reuse back to the device, for other processes; nothing on the CPU.
///
/// # Errors
/// As [`memory`].
pub fn empty_cache(device: Device) -> Result<()> {
    match cuda_index(device)? {
        // SAFETY: no arguments.
        Some(_) => check(unsafe { tchd_memory_release() }),
        None => Ok(()),
    }
}

fn cuda_index(device: Device) -> Result<Option<c_int>> {
    match device_code(device)? {
        (0, _) => Ok(None),
        (_, index) if (index as usize) < cuda::device_count() => Ok(Some(index)),
        (_, index) => Err(Error::Invalid(format!("there is no CUDA device {index}"))),
    }
}

/// Whether operations must give the same bits for the same inputs on the same device. An operation that
/// cannot is an error then, which names it. cuDNN no longer tries out which of its algorithms is fastest.
///
/// Sets `CUBLAS_WORKSPACE_CONFIG` unless it is set: call this before other threads are started and
/// before the first operation on a GPU.
///
/// # Errors
/// [`Torch`](Error::Torch).
pub fn set_deterministic(on: bool) -> Result<()> {
    // SAFETY: plain values.
    check(unsafe { tchd_deterministic(on) })
}

/// Whether float32 matrix products, and convolutions, may round their inputs to TF32 (10 bits of fraction)
/// on GPUs that are faster so. Torch starts with convolutions alone.
///
/// # Errors
/// [`Torch`](Error::Torch).
pub fn allow_tf32(products: bool, convolutions: bool) -> Result<()> {
    // SAFETY: plain values.
    check(unsafe { tchd_tf32(products, convolutions) })
}

/// `t` in memory that a GPU can read by itself, for [`upload`] to go on beside other work; `t` itself where
/// there is no GPU or it is there already.
///
/// # Errors
/// [`OutOfMemory`](Error::OutOfMemory), [`Torch`](Error::Torch).
pub fn pin(t: &Tensor) -> Result<Tensor> {
    if t.device() != Device::Cpu || cuda::device_count() == 0 {
        return Ok(t.shallow_clone());
    }
    // An index is not looked at; deprecated arguments stay at their defaults.
    Ok(t.f_pin_memory(Device::Cuda(0))?)
}

/// `t` on `device`. From [pinned](pin) memory to a GPU the copy is queued and this returns at once; torch keeps
/// the memory from reuse until it is done. `t` itself where it is there already.
///
/// # Errors
/// [`OutOfMemory`](Error::OutOfMemory), [`Torch`](Error::Torch).
pub fn upload(t: &Tensor, device: Device) -> Result<Tensor> {
    if t.device() == device {
        return Ok(t.shallow_clone());
    }
    // Towards the CPU nothing would wait for a queued copy before it is read.
    Ok(t.f_to_device_(device, t.kind(), device != Device::Cpu, false)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_devices_are_refused_in_words() {
        let volta = unsupported(3, (7, 0), 13000).unwrap();
        assert_eq!(
            volta,
            "GPU 3 has compute capability 7.0, but CUDA 13.0, which this libtorch is built for, needs \
             7.5 or newer; use a libtorch of the same version built for an older CUDA"
        );
        assert_eq!(unsupported(0, (7, 0), 12060), None);
        assert_eq!(unsupported(0, (7, 5), 13000), None);
        assert_eq!(unsupported(0, (12, 0), 13000), None);
        assert!(unsupported(0, (3, 7), 12060).is_some());
    }
}
