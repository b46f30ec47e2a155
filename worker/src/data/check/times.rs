//! How long something took, many times over, in constant memory.

use std::time::Duration;

/// Buckets for each doubling of the time.
const FINE: f64 = 8.0;
/// Buckets from a microsecond to more than a day.
const BUCKETS: usize = 320;

/// Sums, and a histogram on a logarithmic scale (each bucket 9 % wide).
#[derive(Debug, Clone)]
pub(super) struct Times {
    buckets: Vec<u64>,
    count: u64,
    sum: Duration,
}

impl Times {
    pub(super) fn new() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            count: 0,
            sum: Duration::ZERO,
        }
    }

    pub(super) fn add(&mut self, time: Duration) {
        let micros = time.as_secs_f64() * 1e6;
        let bucket = (micros.max(1.0).log2() * FINE) as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.count += 1;
        self.sum += time;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += more;
        }
        self.count += other.count;
        self.sum += other.sum;
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn sum(&self) -> Duration {
        self.sum
    }

    /// The time that a share of all stayed below, to 9 %.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, &count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                let micros = ((bucket + 1) as f64 / FINE).exp2();
                return Duration::from_secs_f64(micros / 1e6);
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near() {
        let mut times = Times::new();
        let mut later = Times::new();
        for micros in 1..=1000 {
            let one = if micros % 2 == 0 {
                &mut times
            } else {
                &mut later
            };
            one.add(Duration::from_micros(micros * 10));
        }
        times.merge(&later);
        assert_eq!(times.count(), 1000);
        assert_eq!(times.sum(), Duration::from_micros(10 * 500 * 1001));
        for (share, want) in [(0.5, 0.005), (0.99, 0.0099), (1.0, 0.01)] {
            let found = times.quantile(share).as_secs_f64();
            assert!(
                found >= want * 0.99 && found < want * 1.1,
                "{share}: {found}"
            );
        }
        assert_eq!(Times::new().quantile(0.5), Duration::ZERO);
    }
}
