//! Torch's default generators: dropout and the `rand` functions draw from them.

use std::ffi::c_int;

use tch::{Device, Tensor};

use crate::error::Result;
use crate::error::check;
use crate::tensor::{Ptr, device_code, one_tensor, ptr};

unsafe extern "C" {
    fn tchd_rng_state(device_type: c_int, index: c_int, out: *mut Ptr) -> c_int;
    fn tchd_rng_set_state(device_type: c_int, index: c_int, state: Ptr) -> c_int;
    fn tchd_rng_seed(device_type: c_int, index: c_int, seed: u64) -> c_int;
}

/// Starts the default generator of `device` from `seed`.
///
/// # Errors
/// [`Torch`](crate::Error::Torch) where there is no such device.
pub fn manual_seed(device: Device, seed: u64) -> Result<()> {
    let (kind, index) = device_code(device)?;
    // SAFETY: plain values.
    check(unsafe { tchd_rng_seed(kind, index, seed) })
}

/// The state of the default generator of `device`, as bytes in a tensor on the CPU.
///
/// # Errors
/// [`Torch`](crate::Error::Torch) where there is no such device.
pub fn state(device: Device) -> Result<Tensor> {
    let (kind, index) = device_code(device)?;
    // SAFETY: the shim stores a new tensor on success.
    one_tensor(|out| unsafe { tchd_rng_state(kind, index, out) })
}

/// Puts the default generator of `device` into a state that [`state`] gave.
///
/// # Errors
/// [`Torch`](crate::Error::Torch) for a tensor that is no such state, or where there is no such device.
pub fn set_state(device: Device, state: &Tensor) -> Result<()> {
    let (kind, index) = device_code(device)?;
    // SAFETY: `state` is valid during the call.
    check(unsafe { tchd_rng_set_state(kind, index, ptr(state)) })
}
