//! NCCL groups. The code for them lies in a shared object, `libtch_distributed_nccl.so`, which is loaded
//! when the first group is asked for: a program that never asks needs nothing of CUDA.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::cuda;
use crate::error::{Error, Result, c_string, check};
use crate::process_group::{GlooOptions, ProcessGroup};
use crate::store::{Store, millis};

unsafe extern "C" {
    fn tchd_nccl_load(path: *const c_char) -> c_int;
    fn tchd_group_add_nccl(
        group: *mut c_void,
        store: *mut c_void,
        name: *const c_char,
        device: c_int,
        timeout_ms: i64,
        high_priority: bool,
    ) -> c_int;
}

/// The file name of the shared object. It is looked for beside the program, in `lib` beside the program, in
/// `../lib`, and where it was built.
pub const OBJECT: &str = "libtch_distributed_nccl.so";

/// Where the build put the shared object; none where NCCL's headers were not found.
const BUILT: Option<&str> = option_env!("TCH_DISTRIBUTED_NCCL_BUILT");

/// What an NCCL group needs besides its ranks.
#[derive(Debug, Clone)]
pub struct NcclOptions {
    /// For tensors on the CPU, which go over Gloo. Its timeout and name hold for both.
    pub gloo: GlooOptions,
    /// The CUDA device of this process.
    pub device: usize,
    /// Whether collectives go before other work that the device could do at the same time.
    pub high_priority: bool,
}

impl NcclOptions {
    /// The defaults, with this device and timeout.
    pub fn new(device: usize, timeout: Duration) -> NcclOptions {
        NcclOptions {
            gloo: GlooOptions::new(timeout),
            device,
            high_priority: false,
        }
    }
}

impl ProcessGroup {
    /// A group over NCCL for tensors on a CUDA device, one process a device, and over Gloo for tensors on
    /// the CPU. Returns once all ranks are connected. [`ProcessGroup::barrier`] goes over Gloo, and so
    /// waits for the ranks' hosts, not for their devices.
    ///
    /// A collective on the device is queued, and its call returns; what is queued after it, and reading its
    /// result, waits. A peer that dies or stalls is therefore seen by NCCL's watchdog, which ends this
    /// process after the timeout; with `TORCH_NCCL_BLOCKING_WAIT=1` in the environment calls wait, and
    /// report it as an error instead.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) without a GPU, or without the shared object, with what is missing;
    /// otherwise as [`ProcessGroup::gloo`].
    pub fn nccl(
        store: &Store,
        rank: usize,
        world_size: usize,
        options: &NcclOptions,
    ) -> Result<ProcessGroup> {
        load(options.device)?;
        let group = ProcessGroup::gloo(store, rank, world_size, &options.gloo)?;
        let name = c_string("group name", &options.gloo.name)?;
        // SAFETY: group and store are live, and the name is valid during the call.
        check(unsafe {
            tchd_group_add_nccl(
                group.raw(),
                store.handle(),
                name.as_ptr(),
                options.device as c_int,
                millis(Some(options.gloo.timeout)),
                options.high_priority,
            )
        })?;
        Ok(group)
    }
}

/// Loads the shared object, or says what is missing.
fn load(device: usize) -> Result<()> {
    if !cuda::load_if_present()? {
        return Err(needs_gpu(
            "the libtorch in use has no CUDA part (libtorch_cuda.so); use a libtorch built for CUDA",
        ));
    }
    let count = cuda::device_count();
    if count == 0 {
        return Err(needs_gpu(
            "CUDA shows this process none; check nvidia-smi and CUDA_VISIBLE_DEVICES",
        ));
    }
    if device >= count {
        return Err(needs_gpu(&format!(
            "device {device} was asked for, but CUDA shows this process {count}, counted from 0"
        )));
    }
    static LOADED: OnceLock<Result<()>> = OnceLock::new();
    LOADED.get_or_init(|| load_object(&find()?)).clone()
}

fn needs_gpu(what: &str) -> Error {
    Error::Invalid(format!("ProcessGroupNCCL needs a GPU: {what}"))
}

/// Loads one file as the shared object; [`ProcessGroup::nccl`] does so by itself.
///
/// # Errors
/// [`Torch`](Error::Torch) where it cannot be loaded, with the loader's reason: without CUDA's libraries
/// its symbols are missing.
pub fn load_object(path: &Path) -> Result<()> {
    let text = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::Invalid(format!("the path {} holds a NUL byte", path.display())))?;
    // SAFETY: the path is valid during the call.
    check(unsafe { tchd_nccl_load(text.as_ptr()) })
}

/// Where the shared object lies.
///
/// # Errors
/// [`Invalid`](Error::Invalid) where it lies nowhere, with the places that were looked at, or where this
/// crate was built without NCCL's headers.
pub fn find() -> Result<PathBuf> {
    let places = places(std::env::current_exe().ok().as_deref(), BUILT);
    if let Some(found) = places.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let list: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
    let built = match BUILT {
        Some(_) => "copy it from where the program was built",
        None => "the program was built without nccl.h and cuda_runtime.h; build it with them",
    };
    Err(Error::Invalid(format!(
        "NCCL needs {OBJECT}, which is not there ({built}); looked for {}",
        list.join(", ")
    )))
}

fn places(program: Option<&Path>, built: Option<&str>) -> Vec<PathBuf> {
    let beside = program.and_then(Path::parent).into_iter();
    let beside = beside.flat_map(|dir| ["", "lib", "../lib"].map(|sub| dir.join(sub).join(OBJECT)));
    beside.chain(built.map(PathBuf::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_beside_the_program_first() {
        let found = places(Some(Path::new("/run/bin/worker")), Some("/build/x.so"));
        let wanted = [
            "/run/bin/libtch_distributed_nccl.so",
            "/run/bin/lib/libtch_distributed_nccl.so",
            "/run/bin/../lib/libtch_distributed_nccl.so",
            "/build/x.so",
        ];
        assert_eq!(found, wanted.map(PathBuf::from));
        assert!(places(None, None).is_empty());
    }
}
