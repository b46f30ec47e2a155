//! Reading events: tolerant of torn lines, merged in an order that respects cause and effect.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use super::{Event, EventKind};
use crate::error::{Error, Result};
use crate::run_dir::RunDir;

/// Every event of a run, in order.
///
/// Events of one writer keep their order. Across writers time decides, corrected by what is known
/// for certain whatever the clocks say: nothing comes before the submission, and nothing of an
/// attempt comes before the start of an earlier attempt.
///
/// # Errors
/// The directory or a file cannot be read. Lines that are no events (torn ones) are skipped.
pub fn read(run: &RunDir) -> Result<Vec<Event>> {
    let dir = run.events_dir();
    let failed = |error| Error::io("read", &dir, error);
    let mut writers = Vec::new();
    for entry in fs::read_dir(&dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            writers.push(read_file(&path)?);
        }
    }
    Ok(merge(writers))
}

/// The events of one file, in the order they were written.
fn read_file(path: &Path) -> Result<Vec<Event>> {
    let bytes = fs::read(path).map_err(|error| Error::io("read", path, error))?;
    let writer = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(bytes
        .split(|byte| *byte == b'\n')
        .filter_map(parse)
        .map(|mut event| {
            event.writer = writer.clone().into_owned();
            event
        })
        .collect())
}

/// One line; nothing if it is torn.
fn parse(line: &[u8]) -> Option<Event> {
    Checkpointed::parse(line).or_else(|| serde_json::from_slice(line).ok())
}

/// The line of a published checkpoint. A long run has hundreds of them and few others, and without the
/// detour through a tree of values, which the many forms of an event take, they are read several times
/// as fast.
#[derive(Deserialize)]
struct Checkpointed<'a> {
    event: &'a str,
    time: Timestamp,
    #[serde(default)]
    seq: u64,
    attempt: Option<u32>,
    job: Option<String>,
    #[serde(default)]
    nodes: Vec<String>,
    step: Option<u64>,
    cause: Option<String>,
    hint: Option<String>,
    #[serde(default)]
    excused: bool,
    name: String,
    seconds: f64,
    bytes: u64,
}

impl Checkpointed<'_> {
    fn parse(line: &[u8]) -> Option<Event> {
        let line: Checkpointed<'_> = serde_json::from_slice(line).ok()?;
        (line.event == "checkpoint").then(|| Event {
            time: line.time,
            seq: line.seq,
            writer: String::new(),
            attempt: line.attempt,
            job: line.job,
            nodes: line.nodes,
            step: line.step,
            cause: line.cause,
            hint: line.hint,
            excused: line.excused,
            kind: EventKind::Checkpoint {
                name: line.name,
                seconds: line.seconds,
                bytes: line.bytes,
            },
        })
    }
}

/// An event's place: corrected time, then attempt, then writer by the order of names.
type Key = (Timestamp, u32, usize);

fn merge(mut writers: Vec<Vec<Event>>) -> Vec<Event> {
    let name = |events: &Vec<Event>| events.first().map(|event| event.writer.clone());
    writers.sort_by_cached_key(name);
    let floors = Floors::of(&writers);
    let mut queues: Vec<std::vec::IntoIter<(Key, Event)>> = writers
        .into_iter()
        .enumerate()
        .map(|(writer, events)| floors.place(writer, events).into_iter())
        .collect();
    // A merge of queues: whatever their keys, two events of one writer never swap.
    let mut heap = BinaryHeap::new();
    let mut heads: Vec<Option<Event>> = Vec::with_capacity(queues.len());
    for (index, queue) in queues.iter_mut().enumerate() {
        heads.push(queue.next().map(|(key, event)| {
            heap.push(Reverse((key, index)));
            event
        }));
    }
    let mut merged = Vec::new();
    while let Some(Reverse((_, index))) = heap.pop() {
        merged.extend(heads[index].take());
        if let Some((key, event)) = queues[index].next() {
            heap.push(Reverse((key, index)));
            heads[index] = Some(event);
        }
    }
    merged
}

/// The earliest moment that an event of an attempt can have.
struct Floors {
    submitted: Option<Timestamp>,
    /// By attempt: its start, corrected.
    starts: BTreeMap<u32, Timestamp>,
}

impl Floors {
    fn of(writers: &[Vec<Event>]) -> Self {
        let events = || writers.iter().flatten();
        let submitted = events()
            .filter(|event| matches!(event.kind, EventKind::Submitted { .. }))
            .map(|event| event.time)
            .min();
        let mut starts = BTreeMap::new();
        for event in events() {
            if let (EventKind::AttemptStarted { .. }, Some(attempt)) = (&event.kind, event.attempt)
            {
                starts.entry(attempt).or_insert(event.time);
            }
        }
        let mut latest = submitted;
        for start in starts.values_mut() {
            *start = latest.map_or(*start, |latest| latest.max(*start));
            latest = Some(*start);
        }
        Self { submitted, starts }
    }

    /// Gives the events of one writer keys that never fall.
    fn place(&self, writer: usize, events: Vec<Event>) -> Vec<(Key, Event)> {
        let mut time = self.submitted;
        let mut attempt = 0;
        let place = |event: Event| {
            if let Some(of_event) = event.attempt {
                attempt = of_event;
                let floor = self.starts.range(..=of_event).next_back();
                time = time.max(floor.map(|(_, start)| *start));
            }
            let corrected = time.map_or(event.time, |time| time.max(event.time));
            // The submission itself is the floor, not above it.
            time = Some(corrected);
            ((corrected, attempt, writer), event)
        };
        events.into_iter().map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_checkpoint_is_read_as_any_other() {
        let all = r#"{"time":"2026-01-01T10:00:00Z","seq":3,"attempt":1,"job":"41","nodes":["n1"],"step":100,"cause":"c","hint":"h","event":"checkpoint","name":"step-00000100","seconds":1.5,"bytes":9}"#;
        let least = r#"{"event":"checkpoint","time":"2026-01-01T10:00:00Z","name":"s","seconds":2,"bytes":0}"#;
        // Another way of writing the name, a field of a newer version, a name with an escape.
        let odd = r#"{"event":"\u0063heckpoint","time":"2026-01-01T10:00:00Z","name":"a\"b","seconds":2,"bytes":0,"new":[1]}"#;
        for line in [all, least, odd] {
            let slow: Event = serde_json::from_str(line).unwrap();
            assert_eq!(parse(line.as_bytes()), Some(slow), "{line}");
        }
        assert!(Checkpointed::parse(all.as_bytes()).is_some());
        let other =
            r#"{"event":"note","time":"2026-01-01T10:00:00Z","name":"s","seconds":2,"bytes":0}"#;
        assert!(Checkpointed::parse(other.as_bytes()).is_none());
        assert_eq!(parse(&all.as_bytes()[..60]), None);
    }

    #[test]
    fn an_event_is_excused_only_if_it_says_so() {
        let plain = r#"{"time":"2026-01-01T10:00:00Z","seq":0,"event":"supervisor_lost"}"#;
        let event = parse(plain.as_bytes()).unwrap();
        assert!(!event.excused);
        assert_eq!(serde_json::to_string(&event).unwrap(), plain);
        let line = serde_json::to_string(&event.excused(true)).unwrap();
        let event = parse(line.as_bytes()).unwrap();
        assert!(event.excused);
        assert_eq!(event.kind, EventKind::SupervisorLost);
    }
}
