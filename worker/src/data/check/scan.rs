//! Going through a data set with many threads, in bounded memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::examine::{Examined, Problem, examine};
use super::repeats::{Content, Look, alike, equal};
use super::times::Times;
use crate::data::budget::{Budget, DECODE_MEMORY};
use crate::data::source::Source;
use crate::image::Format;
use crate::random::{Purpose, Stream};

/// What is looked at, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// So many samples at random; all if absent.
    pub sample: Option<u64>,
    /// Which ones.
    pub seed: u64,
    /// Threads that read and decode.
    pub threads: usize,
    /// Images with a shorter side of fewer pixels are tiny.
    pub tiny: usize,
}

/// Samples a thread takes at a time.
const CHUNK: u64 = 32;
/// Details that are kept of each kind of problem: those of the first samples.
const DETAILS: usize = 1000;
/// Sides that are told apart.
const SIDES: usize = 8192;

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// Samples that were looked at.
    pub done: u64,
    /// Samples that are to be looked at.
    pub of: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Samples with a problem.
    pub bad: u64,
}

/// What was found.
pub(super) struct Found {
    /// Samples that were looked at.
    pub(super) checked: u64,
    /// How many samples have a problem, at all.
    pub(super) problems: BTreeMap<Problem, Details>,
    pub(super) formats: BTreeMap<Option<Format>, u64>,
    /// Number of pictures by their shorter side; the last counts all larger ones.
    pub(super) sides: Vec<u32>,
    pub(super) bytes: u64,
    /// Those of files that could be decoded.
    pub(super) decoded_bytes: u64,
    pub(super) read: Times,
    pub(super) decode: Times,
    pub(super) wall: Duration,
    /// Bytes that the kernel had to fetch, where it says so.
    pub(super) from_disks: Option<u64>,
}

/// Samples that have one kind of problem.
#[derive(Default)]
pub(super) struct Details {
    /// How many there are.
    pub(super) count: u64,
    /// The first ones, with details.
    pub(super) first: BTreeMap<u64, String>,
    /// All of them.
    pub(super) samples: Vec<u32>,
}

impl Details {
    fn add(&mut self, sample: u64, detail: String) {
        self.count += 1;
        self.samples.push(sample as u32);
        self.first.insert(sample, detail);
        if self.first.len() > DETAILS {
            self.first.pop_last();
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.samples.extend(other.samples);
        self.first.extend(other.first);
        while self.first.len() > DETAILS {
            self.first.pop_last();
        }
    }
}

/// What one thread found.
struct Share {
    problems: BTreeMap<Problem, Details>,
    formats: BTreeMap<Option<Format>, u64>,
    sides: Vec<u32>,
    bytes: u64,
    decoded_bytes: u64,
    read: Times,
    decode: Times,
    /// Of the samples that are being looked at.
    contents: Vec<Content>,
    looks: Vec<Look>,
}

/// What all threads write to, sample by sample: kept once, and not once by each thread and once by all.
struct Together<'a> {
    stage: Stage,
    contents: Vec<Content>,
    looks: Vec<Look>,
    say: &'a mut (dyn FnMut(Stage) + Send),
}

impl Share {
    fn new() -> Self {
        Self {
            problems: BTreeMap::new(),
            formats: BTreeMap::new(),
            sides: vec![0; SIDES],
            bytes: 0,
            decoded_bytes: 0,
            read: Times::new(),
            decode: Times::new(),
            contents: Vec::new(),
            looks: Vec::new(),
        }
    }

    fn add(&mut self, sample: u64, examined: Examined) {
        self.read.add(examined.read);
        for (problem, detail) in examined.problems {
            self.problems
                .entry(problem)
                .or_default()
                .add(sample, detail);
        }
        let Some(file) = examined.file else { return };
        self.bytes += file.bytes;
        let Some(picture) = file.picture else { return };
        self.decode.add(file.decode);
        self.decoded_bytes += file.bytes;
        self.contents.push(Content::new(file.hash, sample as u32));
        *self.formats.entry(picture.format).or_default() += 1;
        self.sides[picture.shorter.min(SIDES - 1)] += 1;
        if let Some(look) = picture.look {
            self.looks.push(Look::new(look, sample as u32));
        }
    }

    fn merge(&mut self, other: Self) {
        for (problem, details) in other.problems {
            self.problems.entry(problem).or_default().merge(details);
        }
        for (format, count) in other.formats {
            *self.formats.entry(format).or_default() += count;
        }
        for (side, count) in self.sides.iter_mut().zip(other.sides) {
            *side += count;
        }
        self.bytes += other.bytes;
        self.decoded_bytes += other.decoded_bytes;
        self.read.merge(&other.read);
        self.decode.merge(&other.decode);
    }
}

/// Looks at all samples or some. `say` is called now and then by one thread at a time.
pub(super) fn scan(
    source: &dyn Source,
    options: CheckOptions,
    say: &mut (dyn FnMut(Stage) + Send),
) -> Found {
    let all = source.len() as u64;
    let chosen = options
        .sample
        .filter(|&count| count < all)
        .map(|count| choose(all, count, options.seed));
    let of = chosen.as_ref().map_or(all, |chosen| chosen.len() as u64);
    let disk_before = from_disks();
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let budget = Budget::new(DECODE_MEMORY);
    let room = usize::try_from(of).unwrap_or(0);
    let together = Mutex::new(Together {
        stage: Stage {
            done: 0,
            of,
            bytes: 0,
            bad: 0,
        },
        contents: Vec::with_capacity(room),
        looks: Vec::with_capacity(room),
        say,
    });
    let work = || {
        let mut share = Share::new();
        let mut bytes = Vec::new();
        loop {
            let start = next.fetch_add(CHUNK, Ordering::Relaxed);
            if start >= of {
                return share;
            }
            let end = of.min(start + CHUNK);
            let (before, mut bad) = (share.bytes, 0);
            for place in start..end {
                let sample = chosen
                    .as_ref()
                    .map_or(place, |chosen| chosen[place as usize]);
                let sample_at = sample as usize;
                let examined = examine(source, sample_at, options.tiny, &budget, &mut bytes);
                bad += u64::from(!examined.problems.is_empty());
                share.add(sample, examined);
            }
            let mut together = together.lock().unwrap_or_else(PoisonError::into_inner);
            together.contents.append(&mut share.contents);
            together.looks.append(&mut share.looks);
            together.stage.done += end - start;
            together.stage.bytes += share.bytes - before;
            together.stage.bad += bad;
            let now = together.stage;
            (together.say)(now);
        }
    };
    let mut all = Share::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads.max(1))
            .map(|_| scope.spawn(work))
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(share) => all.merge(share),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let wall = began.elapsed();
    let from_disks = from_disks()
        .zip(disk_before)
        .map(|(after, before)| after.saturating_sub(before));
    let mut together = together
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let checked = together.stage.done;
    let duplicates = equal(&mut together.contents);
    drop(std::mem::take(&mut together.contents));
    let lookalikes = alike(&mut together.looks, &duplicates);
    for (problem, repeats, what) in [
        (Problem::Duplicate, duplicates, "the same file as"),
        (Problem::Lookalike, lookalikes, "looks like"),
    ] {
        for (sample, first) in repeats {
            let detail = format!("{what} '{}'", source.name(first as usize));
            let details = all.problems.entry(problem).or_default();
            details.add(sample.into(), detail);
        }
    }
    for details in all.problems.values_mut() {
        details.samples.sort_unstable();
    }
    Found {
        checked,
        problems: all.problems,
        formats: all.formats,
        sides: all.sides,
        bytes: all.bytes,
        decoded_bytes: all.decoded_bytes,
        read: all.read,
        decode: all.decode,
        wall,
        from_disks,
    }
}

/// Bytes that this process caused to be read from disks and file servers until now.
fn from_disks() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: "));
    line?.trim().parse().ok()
}

/// `count` different numbers below `all`, in order (R. Floyd's algorithm).
pub(super) fn choose(all: u64, count: u64, seed: u64) -> Vec<u64> {
    let mut stream = Stream::new(seed, 0, 0, Purpose::Check);
    let mut chosen = BTreeSet::new();
    for most in all - count..all {
        let one = stream.below(most + 1);
        if !chosen.insert(one) {
            chosen.insert(most);
        }
    }
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_has_no_number_twice() {
        for (all, count) in [(10, 10), (10, 3), (1_000_000, 1000), (5, 0)] {
            let chosen = choose(all, count, 7);
            assert_eq!(chosen.len() as u64, count);
            assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(chosen.iter().all(|&one| one < all));
        }
        assert_ne!(choose(1000, 10, 0), choose(1000, 10, 1));
        assert_eq!(choose(1000, 10, 1), choose(1000, 10, 1));
    }
}
