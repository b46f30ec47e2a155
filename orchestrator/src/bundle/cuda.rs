//! Libraries that the trainer opens by name while it runs: CUDA's, which no binary asks for, so that one
//! trainer serves machines with and without it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rocket_common::error::{Error, Result};

use super::elf::libraries;

/// NCCL's part of the trainer, which lies beside it.
const NCCL: &str = "libtch_distributed_nccl.so";

/// What lies beside `libtorch_cpu.so` where libtorch was installed with CUDA; the first decides.
const TORCH: [&str; 3] = [
    "libtorch_cuda.so",
    "libtorch_cuda_linalg.so",
    "libcaffe2_nvrtc.so",
];

/// Beginnings of the names of what CUDA's own libraries open in turn, beside themselves.
const IN_TURN: [&str; 2] = ["libcudnn_", "libnvrtc-builtins"];

/// Path by name of what `worker`, which loads `loaded`, opens where there is a GPU; nothing where its
/// libtorch has no CUDA. All of them find each other in one folder.
///
/// # Errors
/// A file cannot be read.
pub(super) fn opened_by_name(
    worker: &Path,
    loaded: &BTreeMap<String, PathBuf>,
) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let torch = loaded.get("libtorch_cpu.so").and_then(|path| path.parent());
    let Some(torch) = torch.filter(|folder| folder.join(TORCH[0]).is_file()) else {
        return Ok(found);
    };
    for name in TORCH {
        let path = torch.join(name);
        if path.is_file() {
            found.extend(libraries(&path)?);
            found.insert(name.to_owned(), path);
        }
    }
    let folders: BTreeSet<PathBuf> = found
        .values()
        .filter_map(|path| path.parent().map(Path::to_path_buf))
        .collect();
    for folder in folders {
        let entries = fs::read_dir(&folder).map_err(|error| Error::io("list", &folder, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| Error::io("list", &folder, error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if IN_TURN.iter().any(|start| name.starts_with(start)) && name.contains(".so") {
                found.insert(name, entry.path());
            }
        }
    }
    let nccl = worker.with_file_name(NCCL);
    if nccl.is_file() {
        found.insert(NCCL.to_owned(), nccl);
    }
    found.retain(|name, _| !loaded.contains_key(name));
    Ok(found)
}
