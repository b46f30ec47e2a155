//! What is being read, and since when, so that a file system that no longer answers can be named. A thread
//! that waits for one cannot be woken: whoever waits for the thread gives up instead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::SourceError;

/// A read that goes on for longer than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stalled {
    /// The file.
    pub file: PathBuf,
    /// Since when.
    pub seconds: u64,
}

/// The reads that are under way.
#[derive(Debug)]
pub struct Reads {
    limit: Duration,
    under_way: Mutex<UnderWay>,
}

#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    reads: BTreeMap<u64, (Instant, PathBuf)>,
}

impl Reads {
    /// `limit` is how long one read may take.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            under_way: Mutex::default(),
        }
    }

    /// Those that nobody watches.
    pub(super) fn unwatched() -> Arc<Self> {
        Arc::new(Self::new(Duration::MAX))
    }

    /// Notes that a file is being read until the guard is dropped.
    pub(super) fn begin(&self, file: &Path) -> Reading<'_> {
        let mut under_way = self.lock();
        let number = under_way.next;
        under_way.next += 1;
        under_way
            .reads
            .insert(number, (Instant::now(), file.to_owned()));
        Reading {
            reads: self,
            number,
        }
    }

    /// The read of which nothing has come for longest, if that is longer than it may take.
    #[must_use]
    pub fn stalled(&self) -> Option<Stalled> {
        let under_way = self.lock();
        let (since, file) = under_way.reads.values().min_by_key(|(since, _)| *since)?;
        (since.elapsed() >= self.limit).then(|| Stalled {
            file: file.clone(),
            seconds: since.elapsed().as_secs(),
        })
    }

    /// A panic in between leaves a map that is still true, so poison is ignored.
    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A read that is under way.
pub(super) struct Reading<'a> {
    reads: &'a Reads,
    number: u64,
}

impl Reading<'_> {
    /// Something of it came: its time begins anew.
    pub(super) fn moved(&self) {
        if let Some((since, _)) = self.reads.lock().reads.get_mut(&self.number) {
            *since = Instant::now();
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.reads.lock().reads.remove(&self.number);
    }
}

/// How often it is looked whether a read goes on for too long.
const OFTEN: Duration = Duration::from_millis(100);

/// Does `work` on a thread of its own, and hands what it says on its way to `said`. Once `stalled` names a
/// read, the thread is left to itself.
///
/// # Errors
/// [`SourceError::Stalled`]; [`SourceError::Thread`] if there can be no thread.
pub fn watched<T, S>(
    stalled: impl Fn() -> Option<Stalled>,
    mut said: impl FnMut(S),
    work: impl FnOnce(&mut (dyn FnMut(S) + Send)) -> T + Send + 'static,
) -> Result<T, SourceError>
where
    T: Send + 'static,
    S: Send + 'static,
{
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new()
        .name("reads".to_owned())
        .spawn(move || {
            // Once nobody listens, nobody waits for what comes of it either.
            work(&mut |what| drop(sender.send(what)))
        })
        .map_err(|cause| SourceError::Thread { cause })?;
    let mut looked = Instant::now();
    loop {
        match receiver.recv_timeout(OFTEN) {
            Ok(what) => said(what),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return thread
                    .join()
                    .or_else(|panic| std::panic::resume_unwind(panic));
            }
        }
        if looked.elapsed() >= OFTEN {
            looked = Instant::now();
            if let Some(Stalled { file, seconds }) = stalled() {
                return Err(SourceError::Stalled { file, seconds });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_that_waits_longest_is_named() {
        let reads = Reads::new(Duration::from_millis(50));
        let first = reads.begin(Path::new("first"));
        std::thread::sleep(Duration::from_millis(60));
        let _second = reads.begin(Path::new("second"));
        let named = |reads: &Reads| reads.stalled().map(|stalled| stalled.file);
        assert_eq!(named(&reads), Some("first".into()));
        // What moves does not stand still, however long it takes.
        first.moved();
        assert_eq!(named(&reads), None);
        std::thread::sleep(Duration::from_millis(60));
        first.moved();
        assert_eq!(named(&reads), Some("second".into()));
    }

    #[test]
    fn work_that_ends_is_handed_over_with_what_it_said() {
        let mut all = Vec::new();
        let value = watched(
            || None,
            |what| all.push(what),
            |say| {
                (0..1000).for_each(say);
                "done"
            },
        );
        assert_eq!(value.expect("no read stalls"), "done");
        assert_eq!(all, (0..1000).collect::<Vec<i32>>());
    }

    #[test]
    fn work_that_waits_for_ever_is_left_to_itself() {
        let reads = Arc::new(Reads::new(Duration::from_millis(200)));
        let (release, wait) = channel::<()>();
        let inner = Arc::clone(&reads);
        let stopped = watched(
            || reads.stalled(),
            |()| {},
            move |_| {
                let _reading = inner.begin(Path::new("dead/list"));
                // As a file system that never answers.
                let _ = wait.recv();
            },
        );
        drop(release);
        let error = stopped.expect_err("it waits for ever").to_string();
        assert!(
            error.starts_with("dead/list: nothing came of it for"),
            "{error}"
        );
    }

    #[test]
    fn a_panic_stays_a_panic() {
        let caught = std::panic::catch_unwind(|| {
            watched(|| None, |()| {}, |_| assert!(std::env::args().count() == 0))
        });
        assert!(caught.is_err());
    }
}
