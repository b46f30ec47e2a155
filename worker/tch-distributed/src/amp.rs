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
    fn tchd_autocast_leave(device_type: c_int, was_enabled: bool, old_kind: c_int);
}

/// Runs `f` with autocast on: on this thread and on `device`'s kind of device, operations that libtorch
/// deems safe compute in `kind` ([`Kind::BFloat16`] or [`Kind::Half`]; [`Kind::Float`] turns autocast off
/// inside). What was set before is put back at the end, also after a panic.
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
