//! The trackers of a run while it trains: a thread for each, so that none waits for another and training
//! waits for none.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rocket_common::exit::ExitKind;
use rocket_common::experiment::Track;
use rocket_common::run_dir::RunDir;

use super::follower::Follower;
use super::records::Position;
use super::sink::Ending;
use super::story::Story;

/// How often a thread looks for new records.
const TICK: Duration = Duration::from_secs(1);

/// Shortest and longest time before a tracker that failed is tried again.
const BACKOFF: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];

/// The threads of the lead rank that bring records to the trackers.
#[derive(Debug, Default)]
pub struct Trackers {
    all: Vec<Thread>,
    run: String,
}

#[derive(Debug)]
struct Thread {
    name: &'static str,
    end: Sender<Ending>,
    ended: Receiver<Result<(), String>>,
    reached: Arc<Mutex<Position>>,
}

impl Trackers {
    /// Starts the trackers that an experiment chooses. What keeps one from starting is said, and no more.
    #[must_use]
    pub fn start(run: &RunDir, attempt: u32, track: &Track) -> Self {
        let mut trackers = Self {
            all: Vec::new(),
            run: run.path().display().to_string(),
        };
        if !track.is_any() {
            return trackers;
        }
        let story = match Story::read(run) {
            Ok(story) => story,
            Err(error) => {
                tracing::warn!("no tracker is written: {error:#}");
                return trackers;
            }
        };
        for sink in super::sinks(track, &story) {
            let name = sink.name();
            let started = Follower::new(run, sink)
                .and_then(|follower| Ok(start(run.clone(), attempt, follower)?));
            match started {
                Ok(thread) => trackers.all.push(thread),
                Err(error) => tracing::warn!("{name} is not written: {error:#}"),
            }
        }
        trackers
    }

    /// Lets the trackers get what is left, for a bounded time, and says which could not.
    pub fn finish(self, ending: Ending) {
        for thread in &self.all {
            // A thread that is no more has said why.
            let _ = thread.end.send(ending);
        }
        let deadline = Instant::now() + ending.patience();
        for thread in &self.all {
            let left = deadline.saturating_duration_since(Instant::now());
            let why = match thread.ended.recv_timeout(left) {
                Ok(Ok(())) => continue,
                Ok(Err(why)) => why,
                Err(RecvTimeoutError::Timeout) => "it takes too long".to_owned(),
                // Superseded, and with it the whole attempt; a defect has said itself what it is.
                Err(RecvTimeoutError::Disconnected) => continue,
            };
            let reached = *thread
                .reached
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            tracing::warn!(
                "{} has the numbers up to step {} and not the rest: {why}; 'rocket-worker track sync {}' brings them",
                thread.name,
                reached.step,
                self.run,
            );
        }
    }
}

fn start(run: RunDir, attempt: u32, follower: Follower) -> std::io::Result<Thread> {
    let (end, orders) = mpsc::channel();
    let (answer, ended) = mpsc::channel();
    let name = follower.sink().name();
    let reached = follower.reached();
    thread::Builder::new()
        .name(format!("track-{}", follower.sink().file()))
        .spawn(move || {
            if let Some(result) = follow(&run, attempt, follower, &orders) {
                // Nobody may be waiting any more.
                let _ = answer.send(result);
            }
        })?;
    Ok(Thread {
        name,
        end,
        ended,
        reached,
    })
}

/// What one thread does, until it is told that training has ended. `None` if this attempt was superseded:
/// the trackers belong to the newer one then.
fn follow(
    run: &RunDir,
    attempt: u32,
    mut follower: Follower,
    orders: &Receiver<Ending>,
) -> Option<Result<(), String>> {
    let name = follower.sink().name();
    let mut said = false;
    let mut failing: Option<(Instant, Duration)> = None;
    let mut wait = Duration::ZERO;
    loop {
        let ending = match orders.recv_timeout(wait) {
            Ok(ending) => Some(ending),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return None,
        };
        wait = TICK;
        let resting =
            failing.is_some_and(|(since, pause)| ending.is_none() && since.elapsed() < pause);
        if resting {
            continue;
        }
        match run.fence_check(attempt) {
            Err(error) if error.kind() == ExitKind::Fenced => return None,
            _ => {}
        }
        let result = match ending {
            Some(ending) => follower.finish(ending),
            None => follower.catch_up(),
        };
        match &result {
            Ok(_) => {
                if failing.take().is_some() {
                    tracing::info!("{name} works again, and has what was missing");
                }
            }
            Err(error) => {
                if !said {
                    tracing::warn!(
                        "{name} could not be written, and is tried again while training goes on; what is missing follows then: {error:#}"
                    );
                    said = true;
                }
                let pause = failing.map_or(BACKOFF[0], |(_, pause)| (pause * 2).min(BACKOFF[1]));
                failing = Some((Instant::now(), pause));
            }
        }
        if ending.is_some() {
            return Some(result.map(|_| ()).map_err(|error| format!("{error:#}")));
        }
    }
}
