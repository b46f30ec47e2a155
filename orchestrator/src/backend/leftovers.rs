//! Processes of earlier attempts that outlived their supervisor, found by the environment that every
//! rank and its children carry.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rocket_common::host;
use rocket_common::protocol::env;

/// Slurm's name of the node, in the environment of what it starts.
const NODE: &str = "SLURMD_NODENAME";

/// Kills this user's processes on this host that belong to a lower attempt of the run, and waits
/// until they are gone. Returns how many there were.
pub(crate) fn end(run: &Path, attempt: u32) -> usize {
    let found = find(run, |number| number < attempt);
    for &(pid, _) in &found {
        let _ = i32::try_from(pid).map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline
        && found
            .iter()
            .any(|&(pid, ticks)| host::start_ticks(pid) == Some(ticks))
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    found.len()
}

/// Processes, with their start, whose environment names the run and a wanted attempt.
pub(crate) fn find(run: &Path, wanted: impl Fn(u32) -> bool) -> Vec<(u32, u64)> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter_map(|pid| {
            let ticks = host::start_ticks(pid)?;
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            belongs(&environment, run, &wanted).then_some((pid, ticks))
        })
        .collect()
}

fn belongs(environment: &[u8], run: &Path, wanted: impl Fn(u32) -> bool) -> bool {
    let value = |name: &str| {
        environment
            .split(|byte| *byte == 0)
            .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    };
    // Several nodes of Slurm can be one host, as in its tests: only what is of this node is meant.
    let node = std::env::var_os(NODE);
    value(env::RUN_DIR) == Some(run.as_os_str().as_bytes())
        && value(NODE) == node.as_deref().map(OsStrExt::as_bytes)
        && value(env::ATTEMPT)
            .and_then(|number| std::str::from_utf8(number).ok()?.parse().ok())
            .is_some_and(wanted)
}
