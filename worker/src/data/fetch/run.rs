//! Fetching a list. One task decides: it reads the list, hands out requests, and notes what came of
//! them; requests run beside it, and pixels on threads of their own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, Url};
use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::cause::{Cause, Failure};
use super::hosts::{Hosts, Job, Next};
use super::interrupt::Interrupt;
use super::journal::{Fate, Journal};
use super::list::List;
use super::pairs::PairsOptions;
use super::picture::{PictureOptions, to_jpeg};
use super::request::{Answer, ask, client, is_web};
use super::shelf::Shelf;
use crate::data::budget::{Budget, DECODE_MEMORY};
use crate::image::ends_early;
use crate::progress::{Progress, bytes, grouped};

/// Rows that are looked ahead, so that a host with many rows holds up no other. Some 200 bytes each.
const WINDOW: usize = 1 << 16;
/// Lines that are read at a time.
const LINES: usize = 4096;
/// Redirects that are followed.
const MOST_HOPS: u32 = 5;
/// The longest pause that a host gets.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// How often the journal is written.
const NOTE_EVERY: Duration = Duration::from_secs(2);

/// What came of a request, the image being kept already.
enum Outcome {
    Kept {
        stored: u64,
        received: u64,
    },
    Moved(Url),
    Failed(Failure, Option<Duration>),
    /// The disk refuses, which no other image would change.
    Refused(Error),
    /// We were asked to stop before there was an answer.
    Stopped,
}

struct Done {
    job: Job,
    outcome: Outcome,
}

/// A list that is being fetched.
pub(super) struct Run<'a> {
    options: &'a PairsOptions,
    client: Client,
    hosts: Hosts,
    /// What became of each row.
    pub(super) journal: Journal,
    shelf: Shelf,
    images: Arc<File>,
    list: Option<List>,
    rows: u64,
    next_row: u64,
    pixels: Arc<Semaphore>,
    budget: Arc<Budget>,
    tasks: JoinSet<Done>,
    stop: watch::Sender<bool>,
    writing: Option<JoinHandle<Result<()>>>,
    /// The journal could not be written, and may end with half a line.
    torn: bool,
    noted: Instant,
    /// Bytes of bodies that images were kept of.
    pub(super) received: u64,
    settled: u64,
    kept: u64,
}

impl<'a> Run<'a> {
    pub(super) fn new(options: &'a PairsOptions, journal: Journal, rows: u64) -> Result<Self> {
        let shelf = Shelf::open(&options.folder)?;
        let images =
            File::open(shelf.path()).map_err(|error| Error::io("open", shelf.path(), error))?;
        let request = &options.request;
        Ok(Self {
            options,
            client: client(
                request.reach,
                &request.user_agent,
                options.politeness.connections,
            )?,
            hosts: Hosts::new(options.politeness),
            journal,
            shelf,
            images: Arc::new(images),
            list: Some(List::open(&options.list, options.pairs)?),
            rows,
            next_row: 0,
            pixels: Arc::new(Semaphore::new(options.threads.max(1))),
            budget: Arc::new(Budget::new(DECODE_MEMORY)),
            tasks: JoinSet::new(),
            stop: watch::Sender::new(false),
            writing: None,
            torn: false,
            noted: Instant::now(),
            received: 0,
            settled: 0,
            kept: 0,
        })
    }

    /// Until all is settled; gives whether we were asked to stop before.
    pub(super) async fn go(&mut self) -> Result<bool> {
        let mut interrupt = Interrupt::listen()?;
        let mut progress = Progress::new();
        let open = self.journal.tally().open;
        let mut result = loop {
            if let Err(error) = self.read_on() {
                break Err(error);
            }
            let wake = self.hand_out();
            if self.tasks.is_empty() && self.list.is_none() && self.hosts.waiting() == 0 {
                break Ok(false);
            }
            if let Err(error) = self.note().await {
                break Err(error);
            }
            progress.update(self.settled, open, |seconds| self.line(open, seconds));
            let tick = Instant::now() + Duration::from_millis(100);
            let wake = wake.map_or(tick, |wake| wake.min(tick)).into();
            tokio::select! {
                () = interrupt.asked() => break Ok(true),
                Some(done) = self.tasks.join_next() => {
                    if let Some(error) = self.settle(done) {
                        break Err(error);
                    }
                }
                () = tokio::time::sleep_until(wake), if self.list.is_none() || self.is_full() => {}
                () = tokio::task::yield_now(), if self.list.is_some() && !self.is_full() => {}
            }
        };
        progress.clear();
        // What is being asked for is given up; what has come is kept.
        self.stop.send_replace(true);
        while let Some(done) = self.tasks.join_next().await {
            if let Some(error) = self.settle(done) {
                result = result.and(Err(error));
            }
        }
        let noted = self.finish().await;
        let stopped = result?;
        noted?;
        Ok(stopped)
    }

    fn is_full(&self) -> bool {
        self.hosts.waiting() >= WINDOW
    }

    /// Queues rows of the list that are open.
    fn read_on(&mut self) -> Result<()> {
        let now = Instant::now();
        for _ in 0..LINES {
            if self.is_full() {
                break;
            }
            let Some(list) = &mut self.list else { break };
            let Some(read) = list.next_row()? else {
                self.list = None;
                break;
            };
            let row = self.next_row;
            self.next_row += 1;
            if self.journal.fate(row) != Fate::Open {
                continue;
            }
            let url = read
                .map_err(|why| Failure::new(Cause::Line, why))
                .and_then(|read| address(&read.url));
            let url = match url {
                Ok(url) => url,
                Err(failure) => {
                    self.fail(row, &failure);
                    continue;
                }
            };
            let place = self.shelf.place(row)?;
            if self.shelf.was_there(row)
                && let Some(length) = self.whole_image(&place)
            {
                self.keep(row, length);
                continue;
            }
            let (tries, hops) = (0, 0);
            let job = Job {
                row,
                url,
                tries,
                hops,
            };
            self.hosts.add(job, now);
        }
        Ok(())
    }

    /// Starts requests while there is room for them, and says when the next could be.
    fn hand_out(&mut self) -> Option<Instant> {
        while self.tasks.len() < self.options.connections.max(1) {
            match self.hosts.next(Instant::now()) {
                Next::Ask(job) => {
                    let place = match self.shelf.place(job.row) {
                        Ok(place) => place,
                        Err(error) => {
                            let outcome = Outcome::Refused(error);
                            let job = *job;
                            self.tasks.spawn(async move { Done { job, outcome } });
                            continue;
                        }
                    };
                    let client = self.client.clone();
                    let (pixels, budget) = (Arc::clone(&self.pixels), Arc::clone(&self.budget));
                    let request = self.options.request.clone();
                    let picture = self.options.picture;
                    let mut stop = self.stop.subscribe();
                    self.tasks.spawn(async move {
                        let answer = tokio::select! {
                            answer = ask(&client, &job.url, &request) => answer,
                            _ = stop.wait_for(|stop| *stop) => {
                                let outcome = Outcome::Stopped;
                                return Done { job: *job, outcome };
                            }
                        };
                        let outcome = keep(answer, picture, place, pixels, budget).await;
                        Done { job: *job, outcome }
                    });
                }
                Next::At(at) => return Some(at),
                Next::Nothing => return None,
            }
        }
        None
    }

    /// Notes what came of a request, or queues the next one for the row; an error ends everything.
    fn settle(&mut self, done: Result<Done, tokio::task::JoinError>) -> Option<Error> {
        let Done { mut job, outcome } = match done {
            Ok(done) => done,
            Err(error) => {
                return Some(Error::new(
                    ExitKind::Internal,
                    format!("a request broke off: {error}"),
                ));
            }
        };
        let now = Instant::now();
        let mut not_before = None;
        let asked = job.url.clone();
        match outcome {
            Outcome::Kept { stored, received } => {
                self.received += received;
                self.keep(job.row, stored);
            }
            Outcome::Moved(url) if job.hops < MOST_HOPS => {
                job.hops += 1;
                job.url = url;
                self.hosts.add(job, now);
            }
            Outcome::Moved(_) => {
                let failure = Failure::new(Cause::Redirects, format!("more than {MOST_HOPS}"));
                self.fail(job.row, &failure);
            }
            Outcome::Failed(failure, pause) => {
                let pause = pause.map(|pause| pause.min(LONGEST_PAUSE));
                not_before = pause.map(|pause| now + pause);
                job.tries += 1;
                if failure.cause.may_pass() && job.tries < self.options.tries {
                    let own = backoff(self.options.pause, &job);
                    let at = now + own.max(pause.unwrap_or_default());
                    self.hosts.add_later(job, at);
                } else {
                    self.fail(job.row, &failure);
                }
            }
            Outcome::Refused(error) => return Some(error),
            Outcome::Stopped => {}
        }
        self.hosts.done(&asked, not_before);
        None
    }

    /// Length of a file that is an image. It was renamed into place when it was whole, but a power cut may
    /// have taken its contents.
    fn whole_image(&self, path: &Path) -> Option<u64> {
        let bytes = std::fs::read(path).ok()?;
        (!ends_early(&bytes) && self.budget.decode(&bytes).is_ok()).then_some(bytes.len() as u64)
    }

    fn keep(&mut self, row: u64, bytes: u64) {
        self.journal.kept(row, bytes);
        self.settled += 1;
        self.kept += 1;
    }

    fn fail(&mut self, row: u64, failure: &Failure) {
        self.journal.failed(row, failure);
        self.settled += 1;
    }

    /// Has the journal written now and then, beside everything else.
    async fn note(&mut self) -> Result<()> {
        if self.noted.elapsed() < NOTE_EVERY {
            return Ok(());
        }
        let under_way = |writing: &JoinHandle<_>| !writing.is_finished();
        if self.writing.as_ref().is_some_and(under_way) {
            return Ok(());
        }
        self.written().await?;
        self.noted = Instant::now();
        let (batch, images) = (self.journal.batch(), Arc::clone(&self.images));
        self.writing = Some(tokio::task::spawn_blocking(move || {
            batch.write(Some(&images))
        }));
        Ok(())
    }

    /// Waits for what is written beside. Its handle is let go of, whatever came of it: awaited again, it
    /// panics.
    async fn written(&mut self) -> Result<()> {
        let Some(writing) = self.writing.take() else {
            return Ok(());
        };
        let result = joined(writing.await);
        self.torn = result.is_err();
        result
    }

    async fn finish(&mut self) -> Result<()> {
        self.written().await?;
        if self.torn {
            // Told already. Half a line at the end is taken off at the next start, but not one that others
            // follow; rows that are not noted are looked at again then.
            return Ok(());
        }
        self.journal.batch().write(Some(&self.images))
    }

    fn line(&self, open: u64, seconds: f64) -> String {
        let left = open.saturating_sub(self.settled);
        format!(
            "{}: {} of {} rows, {} failed, {:.0} images/s, {}/s",
            self.options.pairs.name(),
            grouped(self.rows.saturating_sub(left)),
            grouped(self.rows),
            grouped(self.settled - self.kept),
            self.kept as f64 / seconds,
            bytes(self.received as f64 / seconds),
        )
    }
}

/// Keeps the image that was answered, if there is one.
async fn keep(
    answer: Answer,
    picture: PictureOptions,
    place: PathBuf,
    pixels: Arc<Semaphore>,
    budget: Arc<Budget>,
) -> Outcome {
    let body = match answer {
        Answer::Body(body) => body,
        Answer::Moved(url) => return Outcome::Moved(url),
        Answer::Failed(failure, pause) => return Outcome::Failed(failure, pause),
    };
    let received = body.len() as u64;
    // The semaphore is never closed; without a permit there would only be more threads at once.
    let permit = pixels.acquire_owned().await;
    let kept = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let jpeg = match to_jpeg(body, picture, &budget) {
            Ok(jpeg) => jpeg,
            Err(failure) => return Outcome::Failed(failure, None),
        };
        match atomic::write_unsynced(&place, &jpeg) {
            Ok(()) => Outcome::Kept {
                stored: jpeg.len() as u64,
                received,
            },
            Err(error) => Outcome::Refused(error),
        }
    });
    kept.await.unwrap_or_else(|error| {
        Outcome::Failed(Failure::new(Cause::Broken, error.to_string()), None)
    })
}

fn address(text: &str) -> Result<Url, Failure> {
    let url =
        Url::parse(text.trim()).map_err(|error| Failure::new(Cause::Url, error.to_string()))?;
    if !is_web(&url) {
        let scheme: String = url.scheme().chars().take(20).collect();
        return Err(Failure::new(Cause::Url, scheme));
    }
    Ok(url)
}

/// The pause before the next try: doubled each time, and spread between half and one and a half by the
/// row, so that what failed together is not asked for together.
fn backoff(first: Duration, job: &Job) -> Duration {
    let doubled = first.saturating_mul(1 << job.tries.saturating_sub(1).min(6));
    let spread = job.row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    doubled.mul_f64(0.5 + spread as f64 / (1_u64 << 24) as f64)
}

fn joined(result: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    result.unwrap_or_else(|error| {
        Err(Error::new(
            ExitKind::Internal,
            format!("the journal was not written: {error}"),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fetch::journal::Header;
    use crate::data::fetch::{Pairs, Politeness, Reach, RequestOptions};

    fn options(folder: &Path) -> PairsOptions {
        PairsOptions {
            list: folder.join("list.tsv"),
            pairs: Pairs::Cc12m,
            folder: folder.to_owned(),
            connections: 1,
            politeness: Politeness {
                connections: 1,
                spacing: Duration::ZERO,
            },
            tries: 1,
            pause: Duration::ZERO,
            picture: PictureOptions {
                resize: None,
                quality: 95,
                min_side: 0,
            },
            request: RequestOptions {
                timeout: Duration::from_secs(1),
                max_bytes: 1,
                reach: Reach::Public,
                user_agent: "test".into(),
            },
            retry_failed: false,
            threads: 1,
        }
    }

    /// The last write awaited the failed one again, which panicked, and would have added to half a line.
    #[test]
    fn nothing_follows_a_write_of_the_journal_that_failed() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(folder.path());
        std::fs::write(&options.list, "").expect("a list");
        let header = Header {
            version: 1,
            set: "cc12m".into(),
            list_sha256: String::new(),
            rows: 2,
            pictures: String::new(),
        };
        let mut journal = Journal::open(folder.path(), &header).expect("a journal");
        let path = folder.path().join("journal.tsv");
        let before = std::fs::read(&path).expect("the journal");
        let full = File::options().write(true).open("/dev/full");
        let disk = journal.redirect(Arc::new(full.expect("a full disk")));
        let mut run = Run::new(&options, journal, 2).expect("a run");
        run.keep(0, 1000);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let error = runtime.block_on(async {
            loop {
                // It is time for a note.
                run.noted = Instant::now() - NOTE_EVERY;
                if let Err(error) = run.note().await {
                    break error;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(error.message().ends_with("the disk is full"), "{error}");
        // There is room again, which does not mend what is torn.
        run.journal.redirect(disk);
        run.keep(1, 1000);
        runtime
            .block_on(run.finish())
            .expect("the failure was told already");
        assert_eq!(std::fs::read(&path).expect("the journal"), before);
    }
}
