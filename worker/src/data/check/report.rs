//! What a check came to, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::examine::Problem;
use super::scan::{CheckOptions, Found};
use crate::data::source::Source;
use crate::progress::{bytes, duration, grouped};

/// Examples of a problem that are shown to people.
const SHOWN: usize = 5;

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// Format of the data set.
    pub dataset: String,
    /// Samples that it has.
    pub samples: u64,
    /// Samples that were looked at.
    pub checked: u64,
    /// Seed of the choice, if not all were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Samples with each problem; every problem is named.
    pub problems: Vec<ProblemReport>,
    /// Pictures by format.
    pub formats: BTreeMap<String, u64>,
    /// Shorter side in pixels that 1 %, half and 99 % of the pictures stay below.
    pub shorter_side: [usize; 3],
    /// Mean length in bytes of a file that could be decoded.
    pub mean_bytes: f64,
    /// Reading and decoding.
    pub throughput: Throughput,
}

/// Samples with a problem.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProblemReport {
    /// Which.
    pub problem: Problem,
    /// How many samples have it.
    pub samples: u64,
    /// The first of them (at most 1,000).
    pub first: Vec<ProblemSample>,
    /// All of them.
    #[serde(skip)]
    pub numbers: Vec<u32>,
}

/// A sample with a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProblemSample {
    /// Its number, from 0.
    pub sample: u64,
    /// Its name.
    pub name: String,
    /// What is wrong, where there is more to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// How fast it went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Throughput {
    /// Threads.
    pub threads: usize,
    /// Time that it took.
    pub seconds: f64,
    /// Samples per second, over all threads.
    pub samples_per_second: f64,
    /// Images that a thread decodes in a second in which it does nothing else.
    pub decoded_per_second_per_thread: f64,
    /// Bytes of files that it decodes in that second.
    pub decoded_bytes_per_second_per_thread: f64,
    /// Images that were asked for, those that are missing among them.
    pub reads: u64,
    /// Reads per second, over all threads.
    pub reads_per_second: f64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes read per second, over all threads.
    pub bytes_per_second: f64,
    /// Time that half of the reads and 99 % of them stayed below, in milliseconds.
    pub read_milliseconds: [f64; 2],
    /// Files that a thread reads in a second in which it does nothing else.
    pub reads_per_second_per_thread: f64,
    /// Bytes of them.
    pub read_bytes_per_second_per_thread: f64,
    /// Share of the threads' busy time that went into reading.
    pub reading_share: f64,
    /// Bytes that had to come from disks or file servers, where the kernel counts them; the rest was in
    /// memory already, and says nothing about them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_from_disks: Option<u64>,
}

impl CheckReport {
    pub(super) fn new(
        dataset: &str,
        source: &dyn Source,
        options: CheckOptions,
        mut found: Found,
    ) -> Self {
        let samples = source.len() as u64;
        let mut problems = std::mem::take(&mut found.problems);
        let problems = Problem::ALL
            .into_iter()
            .map(|problem| {
                let details = problems.remove(&problem).unwrap_or_default();
                ProblemReport {
                    problem,
                    samples: details.count,
                    first: details
                        .first
                        .into_iter()
                        .map(|(sample, detail)| ProblemSample {
                            sample,
                            name: source.name(sample as usize),
                            detail,
                        })
                        .collect(),
                    numbers: details.samples,
                }
            })
            .collect();
        let formats = std::mem::take(&mut found.formats)
            .into_iter()
            .map(|(format, count)| {
                let name = format.map_or("other", |format| format.name());
                (name.to_owned(), count)
            });
        Self {
            dataset: dataset.to_owned(),
            samples,
            checked: found.checked,
            seed: (found.checked < samples).then_some(options.seed),
            problems,
            formats: formats.collect(),
            shorter_side: [0.01, 0.5, 0.99].map(|share| quantile(&found.sides, share)),
            mean_bytes: found.decoded_bytes as f64 / found.decode.count().max(1) as f64,
            throughput: Throughput::new(options.threads.max(1), &found),
        }
    }

    /// Samples with a problem of one of these kinds; a sample with two counts twice.
    #[must_use]
    pub fn count(&self, kinds: &[Problem]) -> u64 {
        let counted = self.problems.iter();
        counted
            .filter(|report| kinds.contains(&report.problem))
            .map(|report| report.samples)
            .sum()
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    // Writing to a string cannot fail.
    fn write(&self, text: &mut String) {
        let fast = &self.throughput;
        let which = match self.seed {
            Some(seed) => format!("{} of them checked (seed {seed})", grouped(self.checked)),
            None => "all checked".to_owned(),
        };
        let _ = writeln!(
            text,
            "{}: {} samples, {which}, in {}",
            self.dataset,
            grouped(self.samples),
            brief(fast.seconds)
        );
        let width = self
            .problems
            .iter()
            .map(|report| grouped(report.samples).len());
        let width = width.max().unwrap_or(1);
        for report in &self.problems {
            let share = 100.0 * report.samples as f64 / self.checked.max(1) as f64;
            let share = match report.samples {
                0 => String::new(),
                _ if share < 0.01 => "  under 0.01 %".to_owned(),
                _ => format!("  {share:.2} %"),
            };
            let (name, count) = (report.problem.name(), grouped(report.samples));
            let _ = writeln!(text, "  {name:<12} {count:>width$}{share}");
            for sample in report.first.iter().take(SHOWN) {
                let detail = match sample.detail.as_str() {
                    "" => String::new(),
                    detail => format!(": {detail}"),
                };
                let name = sample.name.escape_debug();
                let _ = writeln!(text, "      {} '{name}'{detail}", sample.sample);
            }
            if report.samples as usize > SHOWN && !report.first.is_empty() {
                let more = grouped(report.samples - SHOWN as u64);
                let _ = writeln!(text, "      and {more} more");
            }
        }
        let formats: Vec<String> = self
            .formats
            .iter()
            .map(|(name, count)| format!("{} {name}", grouped(*count)))
            .collect();
        if formats.is_empty() {
            return;
        }
        let [low, half, high] = self.shorter_side;
        let _ = writeln!(
            text,
            "images: {}; {} on average; shorter side: median {half} pixels, {low} to {high} in 98 %",
            formats.join(", "),
            bytes(self.mean_bytes)
        );
        let rate = |per_second: f64| grouped(per_second.round() as u64);
        let _ = writeln!(
            text,
            "decoding: {} images/s, {}/s a thread",
            rate(fast.decoded_per_second_per_thread),
            bytes(fast.decoded_bytes_per_second_per_thread),
        );
        let _ = writeln!(
            text,
            "reading: {} files/s, {}/s a thread; half of the files took up to {}, 99 % up to {}",
            rate(fast.reads_per_second_per_thread),
            bytes(fast.read_bytes_per_second_per_thread),
            brief(fast.read_milliseconds[0] / 1e3),
            brief(fast.read_milliseconds[1] / 1e3),
        );
        let threads = match fast.threads {
            1 => "1 thread".to_owned(),
            threads => format!("{threads} threads"),
        };
        let _ = writeln!(
            text,
            "together: {} samples/s, {}/s with {threads}, {:.0} % of the time in reading",
            rate(fast.samples_per_second),
            bytes(fast.bytes_per_second),
            100.0 * fast.reading_share,
        );
        if let Some(cold) = fast.bytes_from_disks.filter(|&cold| cold < fast.bytes / 2) {
            let _ = writeln!(
                text,
                "{} were read, {} of them from disks: the rest was in memory already, which says nothing of the disks",
                bytes(fast.bytes as f64),
                bytes(cold as f64),
            );
        }
    }
}

impl Throughput {
    fn new(threads: usize, found: &Found) -> Self {
        let Found {
            bytes,
            wall,
            ref read,
            ref decode,
            ..
        } = *found;
        let wall = wall.as_secs_f64().max(1e-9);
        let decoding = decode.sum().as_secs_f64().max(1e-9);
        let reading = read.sum().as_secs_f64().max(1e-9);
        let milliseconds = |share| read.quantile(share).as_secs_f64() * 1e3;
        Self {
            threads,
            seconds: wall,
            samples_per_second: read.count() as f64 / wall,
            decoded_per_second_per_thread: decode.count() as f64 / decoding,
            decoded_bytes_per_second_per_thread: found.decoded_bytes as f64 / decoding,
            reads: read.count(),
            reads_per_second: read.count() as f64 / wall,
            bytes,
            bytes_per_second: bytes as f64 / wall,
            read_milliseconds: [milliseconds(0.5), milliseconds(0.99)],
            reads_per_second_per_thread: read.count() as f64 / reading,
            read_bytes_per_second_per_thread: bytes as f64 / reading,
            bytes_from_disks: found.from_disks,
            reading_share: reading / (reading + decoding),
        }
    }
}

/// A time, also where it is much less than a second.
fn brief(seconds: f64) -> String {
    match seconds {
        ..0.000_999_5 => format!("{:.0} \u{b5}s", seconds * 1e6),
        ..0.099_95 => format!("{:.1} ms", seconds * 1e3),
        ..9.95 => format!("{seconds:.1} s"),
        _ => duration(seconds),
    }
}

fn quantile(counts: &[u32], share: f64) -> usize {
    let all: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    let wanted = (all as f64 * share).ceil().max(1.0) as u64;
    let mut seen = 0;
    let found = counts.iter().position(|&count| {
        seen += u64::from(count);
        seen >= wanted
    });
    found.unwrap_or(0)
}
