//! What a process that stands still is doing, as far as the kernel and a debugger tell.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use rocket_common::atomic;
use rocket_common::error::{Error, Result};

/// Writes state, wait channel and kernel stack of each thread.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn save(pid: u32, path: &Path) -> Result<()> {
    let mut text = format!("process {pid}\n");
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    for thread in threads.into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let _ = writeln!(
            text,
            "\nthread {} {}\n  wchan {}\n  syscall {}{}",
            thread.file_name().to_string_lossy(),
            read("comm").trim(),
            read("wchan").trim(),
            read("syscall"),
            read("stack"),
        );
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
    }
    atomic::write_unsynced(path, text.as_bytes())
}
