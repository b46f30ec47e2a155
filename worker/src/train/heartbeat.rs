//! The rank's sign of life: written by the loop itself, so that a rank that hangs stops beating.

use std::time::{Duration, Instant};

use rocket_common::protocol::{self, Heartbeat, Phase};
use rocket_common::run_dir::Attempt;

/// Shortest time between two heartbeats of one phase.
const SPACING: Duration = Duration::from_secs(1);

/// Writes this rank's heartbeat.
#[derive(Debug)]
pub struct Pulse {
    attempt: Attempt,
    rank: u32,
    last: Option<Instant>,
    beat: Heartbeat,
}

impl Pulse {
    /// A rank that starts.
    #[must_use]
    pub fn new(attempt: Attempt, rank: u32) -> Self {
        let beat = Heartbeat {
            beat: 0,
            pid: std::process::id(),
            phase: Phase::Starting,
            step: 0,
            total_steps: 0,
            epoch: 0.0,
            samples_per_second: 0.0,
            resident_bytes: 0,
        };
        let mut pulse = Self {
            attempt,
            rank,
            last: None,
            beat,
        };
        pulse.write();
        pulse
    }

    /// Length of the run, once it is known.
    pub fn total_steps(&mut self, total_steps: u64) {
        self.beat.total_steps = total_steps;
    }

    /// Says what the rank is busy with, now.
    pub fn phase(&mut self, phase: Phase) {
        self.beat.phase = phase;
        self.write();
    }

    /// Says how far it is, if the last heartbeat is a while ago.
    pub fn step(&mut self, step: u64, epoch: f64, samples_per_second: Option<f64>) {
        self.beat.step = step;
        self.beat.epoch = epoch;
        if let Some(speed) = samples_per_second {
            self.beat.samples_per_second = speed;
        }
        self.alive();
    }

    /// Says that it lives, if the last heartbeat is a while ago.
    pub fn alive(&mut self) {
        if self.last.is_none_or(|last| last.elapsed() >= SPACING) {
            self.write();
        }
    }

    fn write(&mut self) {
        self.beat.beat += 1;
        self.beat.resident_bytes = resident_bytes().unwrap_or(0);
        self.last = Some(Instant::now());
        // A full disk must not end a run through its heartbeat; the next checkpoint will tell.
        if let Err(error) = protocol::write_heartbeat(&self.attempt, self.rank, &self.beat) {
            tracing::warn!("cannot write the heartbeat: {error}");
        }
    }
}

/// Resident memory of this process in bytes (proc(5), `statm`).
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}

/// The most resident memory that this process has had, in bytes (proc(5), `status`).
#[must_use]
pub fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
