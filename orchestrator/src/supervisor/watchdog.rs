//! Hang watchdog: counters that do not move. Time is handed in, so that a test needs none.

use std::time::{Duration, Instant};

use rocket_common::protocol::{Heartbeat, Phase};

/// What must move for a rank to count as alive: any heartbeat, and in training the step as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    beat: u64,
    pid: u32,
}

#[derive(Debug, Clone, Copy)]
struct Rank {
    seen: Option<Seen>,
    seen_at: Instant,
    step: Option<u64>,
    step_at: Instant,
    done: bool,
}

/// Watches the ranks of one attempt.
#[derive(Debug)]
pub struct Watchdog {
    limit: Duration,
    /// Ranks that write no heartbeats are not watched, unless they wrote one.
    required: bool,
    ranks: Vec<Rank>,
}

impl Watchdog {
    /// Of `world_size` ranks that start now. `required`: ranks that never write a heartbeat hang.
    #[must_use]
    pub fn new(world_size: u32, limit: Duration, required: bool, now: Instant) -> Self {
        let rank = Rank {
            seen: None,
            seen_at: now,
            step: None,
            step_at: now,
            done: false,
        };
        Self {
            limit,
            required,
            ranks: vec![rank; world_size as usize],
        }
    }

    /// Notes a rank's heartbeat as it was read.
    pub fn observe(&mut self, rank: u32, beat: &Heartbeat, now: Instant) {
        let rank = &mut self.ranks[rank as usize];
        let seen = Seen {
            beat: beat.beat,
            pid: beat.pid,
        };
        if rank.seen != Some(seen) {
            rank.seen = Some(seen);
            rank.seen_at = now;
        }
        // Evaluation and saving take as long as they take; only in training must steps go on.
        if beat.phase != Phase::Training || rank.step != Some(beat.step) {
            rank.step = Some(beat.step);
            rank.step_at = now;
        }
    }

    /// Notes that a rank has ended, however.
    pub fn ended(&mut self, rank: u32) {
        self.ranks[rank as usize].done = true;
    }

    /// Whether a rank ever wrote a heartbeat.
    #[must_use]
    pub fn has_beaten(&self, rank: u32) -> bool {
        self.ranks[rank as usize].seen.is_some()
    }

    /// The rank that has stood still for longest, if it is longer than the limit; and how in words.
    #[must_use]
    pub fn hung(&self, now: Instant) -> Option<(u32, String)> {
        let (index, rank, still) = (0_u32..)
            .zip(&self.ranks)
            .filter(|(_, rank)| !rank.done && (self.required || rank.seen.is_some()))
            .map(|(index, rank)| (index, rank, now - rank.seen_at.min(rank.step_at)))
            .max_by_key(|(_, _, still)| *still)?;
        if still <= self.limit {
            return None;
        }
        let what = match rank {
            Rank { seen: None, .. } => "gave no sign of life".to_owned(),
            Rank {
                step: Some(step),
                step_at,
                seen_at,
                ..
            } if step_at < seen_at => {
                format!("made no step after step {step}")
            }
            _ => "gave no sign of life any more".to_owned(),
        };
        Some((index, format!("rank {index} {what} for {}", words(still))))
    }
}

fn words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} minutes", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(beat: u64, phase: Phase, step: u64) -> Heartbeat {
        Heartbeat {
            beat,
            pid: 1,
            phase,
            step,
            total_steps: 100,
            epoch: 0.0,
            samples_per_second: 0.0,
            resident_bytes: 0,
        }
    }

    #[test]
    fn a_rank_that_stands_still_is_found() {
        let t0 = Instant::now();
        let at = |seconds| t0 + Duration::from_secs(seconds);
        let mut dog = Watchdog::new(2, Duration::from_secs(60), true, t0);
        assert_eq!(dog.hung(at(60)), None);
        assert_eq!(
            dog.hung(at(61)).unwrap(),
            (1, "rank 1 gave no sign of life for 61 s".into())
        );
        dog.observe(0, &beat(1, Phase::Training, 5), at(50));
        dog.observe(1, &beat(1, Phase::Training, 5), at(50));
        assert_eq!(dog.hung(at(110)), None);
        // Rank 0 goes on; rank 1 beats, but steps no more.
        dog.observe(0, &beat(2, Phase::Training, 6), at(100));
        dog.observe(1, &beat(2, Phase::Training, 5), at(100));
        let (rank, words) = dog.hung(at(111)).unwrap();
        assert_eq!(
            (rank, &*words),
            (1, "rank 1 made no step after step 5 for 61 s")
        );
        // While it evaluates or saves, beats are enough.
        dog.observe(1, &beat(3, Phase::Evaluating, 5), at(105));
        assert_eq!(dog.hung(at(160)), None);
        dog.ended(1);
        assert_eq!(dog.hung(at(160)), None);
        assert_eq!(dog.hung(at(161)).unwrap().0, 0);
    }

    #[test]
    fn programs_without_heartbeats_are_left_alone() {
        let t0 = Instant::now();
        let later = t0 + Duration::from_secs(3600);
        let mut dog = Watchdog::new(2, Duration::from_secs(60), false, t0);
        assert_eq!(dog.hung(later), None);
        dog.observe(1, &beat(1, Phase::Training, 0), t0);
        assert_eq!(dog.hung(later).unwrap().0, 1);
    }
}
