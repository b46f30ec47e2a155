//! Which request is made next. Requests wait in a queue of their host, so that a host is never asked
//! more often than it should be, and a slow one holds up nobody else. Time is given, not read.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use reqwest::Url;

/// One request for the image of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// The list's line, from 0.
    pub(super) row: u64,
    /// What is asked for.
    pub(super) url: Url,
    /// Requests that failed before.
    pub(super) tries: u32,
    /// Redirects that led here.
    pub(super) hops: u32,
}

impl Job {
    /// Who is asked. Names differ by case alone are the same host already in a [`Url`].
    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }
}

/// How much is asked of one host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Politeness {
    /// Requests at a time.
    pub connections: usize,
    /// Least time between the beginnings of two requests.
    pub spacing: Duration,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This request.
    Ask(Box<Job>),
    /// Nothing until then.
    At(Instant),
    /// Nothing until a request ends or is added.
    Nothing,
}

struct Host {
    queue: VecDeque<Job>,
    active: usize,
    free_at: Instant,
}

/// The queues of all hosts.
pub(super) struct Hosts {
    politeness: Politeness,
    hosts: HashMap<String, Host>,
    /// Hosts that have a request and may be asked, by the time from which on.
    open: BTreeSet<(Instant, String)>,
    /// Requests that are tried again later.
    later: BinaryHeap<Reverse<Later>>,
    waiting: usize,
    /// Number of hosts at which forgotten ones are looked for.
    sweep_at: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Later {
    at: Instant,
    job: Job,
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.job.row).cmp(&(other.at, other.job.row))
    }
}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

const SWEEP: usize = 1024;

impl Hosts {
    pub(super) fn new(politeness: Politeness) -> Self {
        Self {
            politeness: Politeness {
                connections: politeness.connections.max(1),
                ..politeness
            },
            hosts: HashMap::new(),
            open: BTreeSet::new(),
            later: BinaryHeap::new(),
            waiting: 0,
            sweep_at: SWEEP,
        }
    }

    /// Requests that were added and not yet handed out.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Adds a request.
    pub(super) fn add(&mut self, job: Job, now: Instant) {
        self.waiting += 1;
        self.enqueue(job, now);
    }

    /// Adds a request that must wait.
    pub(super) fn add_later(&mut self, job: Job, at: Instant) {
        self.waiting += 1;
        self.later.push(Reverse(Later { at, job }));
    }

    fn enqueue(&mut self, job: Job, now: Instant) {
        self.sweep(now);
        let name = job.host().to_owned();
        let host = self.hosts.entry(name.clone()).or_insert_with(|| Host {
            queue: VecDeque::new(),
            active: 0,
            free_at: now,
        });
        host.queue.push_back(job);
        if host.active < self.politeness.connections {
            self.open.insert((host.free_at, name));
        }
    }

    /// The next request, which then counts as under way until [`Self::done`].
    pub(super) fn next(&mut self, now: Instant) -> Next {
        while self
            .later
            .peek()
            .is_some_and(|Reverse(later)| later.at <= now)
        {
            if let Some(Reverse(later)) = self.later.pop() {
                self.enqueue(later.job, now);
            }
        }
        let later = self.later.peek().map(|Reverse(later)| later.at);
        let Some((free_at, name)) = self.open.first().cloned() else {
            return later.map_or(Next::Nothing, Next::At);
        };
        if free_at > now {
            return Next::At(later.map_or(free_at, |later| later.min(free_at)));
        }
        self.open.pop_first();
        let Some((host, job)) = self.hosts.get_mut(&name).and_then(|host| {
            let job = host.queue.pop_front()?;
            Some((host, job))
        }) else {
            return Next::Nothing;
        };
        host.active += 1;
        host.free_at = now + self.politeness.spacing;
        if host.active < self.politeness.connections && !host.queue.is_empty() {
            self.open.insert((host.free_at, name));
        }
        self.waiting -= 1;
        Next::Ask(Box::new(job))
    }

    /// A request of this address ended; its host asked for no more before `not_before`.
    pub(super) fn done(&mut self, url: &Url, not_before: Option<Instant>) {
        let name = url.host_str().unwrap_or_default();
        let Some(host) = self.hosts.get_mut(name) else {
            return;
        };
        self.open.remove(&(host.free_at, name.to_owned()));
        host.active = host.active.saturating_sub(1);
        if let Some(not_before) = not_before {
            host.free_at = host.free_at.max(not_before);
        }
        if !host.queue.is_empty() && host.active < self.politeness.connections {
            self.open.insert((host.free_at, name.to_owned()));
        }
    }

    /// Forgets hosts that nothing is asked of, so that memory does not grow with the list.
    fn sweep(&mut self, now: Instant) {
        if self.hosts.len() < self.sweep_at {
            return;
        }
        self.hosts
            .retain(|_, host| host.active > 0 || !host.queue.is_empty() || host.free_at > now);
        self.sweep_at = self.hosts.len() * 2 + SWEEP;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn job(row: u64, url: &str) -> Job {
        Job {
            row,
            url: Url::parse(url).expect("an address"),
            tries: 0,
            hops: 0,
        }
    }

    fn hosts(connections: usize) -> Hosts {
        Hosts::new(Politeness {
            connections,
            spacing: SECOND,
        })
    }

    fn row(next: Next) -> u64 {
        match next {
            Next::Ask(job) => job.row,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_host_is_asked_at_its_pace_and_holds_up_nobody() {
        let now = Instant::now();
        let mut hosts = hosts(2);
        for row in 0..4 {
            hosts.add(job(row, "http://slow/x"), now);
        }
        hosts.add(job(4, "http://other/x"), now);
        assert_eq!(hosts.waiting(), 5);
        let mut first = [row(hosts.next(now)), row(hosts.next(now))];
        first.sort_unstable();
        assert_eq!(first, [0, 4]);
        // The second of the slow host waits for its time, the third for a free connection.
        assert_eq!(hosts.next(now), Next::At(now + SECOND));
        assert_eq!(row(hosts.next(now + SECOND)), 1);
        assert_eq!(hosts.next(now + 9 * SECOND), Next::Nothing);
        hosts.done(&job(0, "http://slow/x").url, None);
        assert_eq!(row(hosts.next(now + 9 * SECOND)), 2);
        assert_eq!(hosts.waiting(), 1);
    }

    #[test]
    fn a_host_that_asks_for_a_pause_gets_it() {
        let now = Instant::now();
        let mut hosts = hosts(8);
        hosts.add(job(0, "http://a/x"), now);
        hosts.add(job(1, "http://a/x"), now);
        assert_eq!(row(hosts.next(now)), 0);
        let url = job(0, "http://a/x").url;
        hosts.done(&url, Some(now + 60 * SECOND));
        assert_eq!(hosts.next(now + 5 * SECOND), Next::At(now + 60 * SECOND));
        // A retry waits for the later of its own time and the host's.
        hosts.add_later(job(2, "http://b/x"), now + 30 * SECOND);
        assert_eq!(hosts.next(now + 5 * SECOND), Next::At(now + 30 * SECOND));
        assert_eq!(row(hosts.next(now + 30 * SECOND)), 2);
        assert_eq!(row(hosts.next(now + 60 * SECOND)), 1);
        assert_eq!(hosts.next(now + 60 * SECOND), Next::Nothing);
        assert_eq!(hosts.waiting(), 0);
    }

    #[test]
    fn hosts_are_forgotten() {
        let now = Instant::now();
        let mut hosts = hosts(1);
        for number in 0..50_000_u32 {
            let at = now + number * SECOND;
            let job = job(number.into(), &format!("http://h{number}/x"));
            hosts.add(job.clone(), at);
            assert_eq!(row(hosts.next(at)), u64::from(number));
            hosts.done(&job.url, None);
        }
        assert!(hosts.hosts.len() < 2 * SWEEP + 2, "{}", hosts.hosts.len());
    }
}
