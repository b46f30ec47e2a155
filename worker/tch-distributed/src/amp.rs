//! Automatic mixed precision.

use std::ffi::c_int;

use tch::{Device, Kind};

use crate::error::{Result, check};
use crate::tensor::{autocast_code, device_code};

unsafe extern "C" {
    fn tchd_autocast_enter(
        device_type: c_int,
        enabled: bool,
        kind: c_int,
        was_enabled: *mut bool,
        old_kind: *mut c_int,
    ) -> c_int;
    fn tchd_autocast_now(device_type: c_int, enabled: *mut bool, kind: *mut c_int) -> c_int;
    fn tchd_autocast_leave(device_type: c_int, was_enabled: bool, old_kind: c_int);
}

/// Runs `f` with autocast on: on this thread and on `device`'s kind of device, operations that libtorch
/// deems safe compute in `kind` ([`Kind::BFloat16`] or [`Kind::Half`]; [`Kind::Float`] turns autocast off
/// inside). What was set before is put back at the end, also after a panic.
///
/// Casts of parameters are kept until the outermost autocast of this thread ends, so that a parameter that
/// is used twice is cast once. Run the backward pass after it has ended: operations there take the types
/// that they had forward, and the kept casts are gone. A [`checkpoint`](crate::checkpoint()) segment keeps
/// none, and runs again under the autocast that it first ran under.
///
/// # Errors
/// [`Invalid`](crate::Error::Invalid) for another device or kind.
pub fn autocast<R>(device: Device, kind: Kind, f: impl FnOnce() -> R) -> Result<R> {
    struct Leave(c_int, bool, c_int);
    impl Drop for Leave {
        fn drop(&mut self) {
            // SAFETY: plain values; matches the enter below on the same thread.
            unsafe { tchd_autocast_leave(self.0, self.1, self.2) }
        }
    }
    let (device_type, _) = device_code(device)?;
    let (mut was_enabled, mut old_kind) = (false, 0);
    let (enabled, code) = (kind != Kind::Float, autocast_code(kind)?);
    // SAFETY: the pointers are valid during the call.
    check(unsafe {
        tchd_autocast_enter(device_type, enabled, code, &mut was_enabled, &mut old_kind)
    })?;
    let _leave = Leave(device_type, was_enabled, old_kind);
    Ok(f())
}

/// Runs `f` with autocast off on this thread, on the CPU and on CUDA: for losses, and whatever else must
/// compute in the type of its inputs (cast those to f32 first). What was set before is put back at the end.
///
/// # Errors
/// There is none of its own; the result is there because autocast is torch's to switch.
pub fn without_autocast<R>(f: impl FnOnce() -> R) -> Result<R> {
    autocast(Device::Cuda(0), Kind::Float, || {
        autocast(Device::Cpu, Kind::Float, f)
    })?
}

/// The type that autocast computes in on this thread and on `device`'s kind of device; `None` where it is
/// off.
///
/// # Errors
/// [`Invalid`](crate::Error::Invalid) for a device that is neither the CPU nor CUDA.
pub fn autocast_kind(device: Device) -> Result<Option<Kind>> {
    let (device_type, _) = device_code(device)?;
    let (mut enabled, mut code) = (false, 0);
    // SAFETY: the pointers are valid during the call.
    check(unsafe { tchd_autocast_now(device_type, &mut enabled, &mut code) })?;
    let kinds = [Kind::Half, Kind::Float, Kind::BFloat16];
    let kind = kinds
        .into_iter()
        .find(|&k| autocast_code(k).ok() == Some(code));
    Ok(kind.filter(|_| enabled))
}
