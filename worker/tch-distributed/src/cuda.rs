//! CUDA, where the libtorch in use has it.

use std::ffi::c_int;

use crate::error::{Result, check};

unsafe extern "C" {
    fn tchd_load_cuda(loaded: *mut bool) -> c_int;
}

/// Loads `libtorch_cuda.so` where it lies beside the `libtorch_cpu.so` in use; says whether it did. Call it
/// before anything else of torch: one binary then serves machines with and without CUDA.
///
/// # Errors
/// [`Torch`](crate::Error::Torch) where the file is there and cannot be loaded, with the loader's reason.
pub fn load_if_present() -> Result<bool> {
    let mut loaded = false;
    // SAFETY: the pointer is valid during the call.
    check(unsafe { tchd_load_cuda(&mut loaded) })?;
    Ok(loaded)
}

/// CUDA devices that this process sees; 0 unless CUDA is loaded.
pub fn device_count() -> usize {
    usize::try_from(tch::Cuda::device_count()).unwrap_or(0)
}
