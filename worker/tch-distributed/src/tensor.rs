//! Tensors across the C boundary.

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use crate::error::{Error, Result, check};

/// `at::Tensor*`.
pub(crate) type Ptr = *mut C_tensor;

/// The pointer behind `t`, for the length of one call. The shim does not free or replace it.
pub(crate) fn ptr(t: &Tensor) -> Ptr {
    t.as_ptr().cast_mut()
}

/// The pointer behind `t`, or null.
pub(crate) fn ptr_or_null(t: Option<&Tensor>) -> Ptr {
    t.map_or(std::ptr::null_mut(), ptr)
}

/// The pointers behind `tensors`, for the length of one call.
pub(crate) fn ptrs(tensors: &[Tensor]) -> Vec<Ptr> {
    tensors.iter().map(ptr).collect()
}

/// Runs a call of the shim that gives one new tensor.
pub(crate) fn one_tensor(call: impl FnOnce(*mut Ptr) -> std::ffi::c_int) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    check(call(&mut out))?;
    // SAFETY: on success the shim has stored a tensor that it allocated for us.
    Ok(unsafe { Tensor::from_ptr(out) })
}

/// `c10::DeviceType` and index.
pub(crate) fn device_code(device: Device) -> Result<(i32, i32)> {
    match device {
        Device::Cpu => Ok((0, 0)),
        Device::Cuda(index) => Ok((1, index as i32)),
        other => Err(Error::Invalid(format!(
            "device {other:?} is not supported; use the CPU or CUDA"
        ))),
    }
}

/// `c10::ScalarType` of the types that autocast can go to.
pub(crate) fn autocast_code(kind: Kind) -> Result<i32> {
    match kind {
        Kind::Half => Ok(5),
        Kind::Float => Ok(6),
        Kind::BFloat16 => Ok(15),
        other => Err(Error::Invalid(format!(
            "autocast to {other:?} is not supported; use BFloat16 or Half"
        ))),
    }
}
