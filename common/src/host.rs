//! This machine and its processes, as Linux tells.

use std::fs;

/// Host name up to the first dot.
#[must_use]
pub fn name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim().split('.').next() {
        Some(short) if !short.is_empty() => short.to_owned(),
        _ => "localhost".to_owned(),
    }
}

/// When a process started, in clock ticks since boot; `None` if there is no such process, or only
/// its zombie. A process id alone may have been given to another process since.
#[must_use]
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // "pid (command) state ppid ...": the command may hold spaces and parentheses, so count from
    // its last one. State is the third field of proc(5), the start time the 22nd.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(22 - 3 - 1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_started_and_pid_0_has_not() {
        assert!(super::start_ticks(std::process::id()).is_some_and(|ticks| ticks > 0));
        assert_eq!(super::start_ticks(0), None);
        assert!(!super::name().is_empty());
    }
}
