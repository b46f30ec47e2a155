//! One file of a known length and checksum, from a server that may break off, go silent, or have something
//! else: resumed where a connection broke.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use sha2::{Digest, Sha256};

use super::address::check_literal;
use super::archive::ArchiveOptions;
use super::cause::Cause;
use super::published::Archive;
use super::request::{client, is_web, judge, retry_after};
use crate::progress::{Progress, bytes};

/// Redirects that are followed.
const MOST_HOPS: u32 = 5;
/// Bytes after which a broken connection counts as a new one.
const GROUND: u64 = 1 << 20;
/// The longest pause that a server gets.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// Why a download did not succeed.
pub(super) enum Problem {
    /// This place does not have it, or not now.
    Place {
        what: String,
        /// Whether another try may end differently, and after which pause.
        again: Option<Duration>,
    },
    /// Nothing more can be done.
    Fatal(Error),
}

impl Problem {
    fn place(what: impl Into<String>) -> Self {
        Self::Place {
            what: what.into(),
            again: None,
        }
    }
}

/// A download into `.<file>.part` of a folder.
pub(super) struct Download<'a> {
    archive: &'a Archive,
    options: &'a ArchiveOptions,
    client: Client,
    pub(super) url: Url,
    part: PathBuf,
    /// Bytes that came.
    pub(super) received: u64,
    progress: Progress,
}

impl<'a> Download<'a> {
    pub(super) fn new(archive: &'a Archive, options: &'a ArchiveOptions, url: Url) -> Result<Self> {
        Ok(Self {
            archive,
            options,
            client: client(options.reach, &options.user_agent, 1)?,
            url,
            part: options.folder.join(format!(".{}.part", archive.file)),
            received: 0,
            progress: Progress::new(),
        })
    }

    /// Downloads until the checksum is right.
    pub(super) async fn run(&mut self) -> Result<PathBuf, Problem> {
        let mut failures = 0;
        loop {
            let start = self.length()?;
            let problem = match self.once(start).await {
                Ok(()) => match self.judge(start) {
                    Ok(()) => return Ok(self.part.clone()),
                    Err(problem) => problem,
                },
                Err(problem) => problem,
            };
            let Problem::Place {
                what,
                again: Some(pause),
            } = problem
            else {
                return Err(problem);
            };
            if self.length()? >= start.saturating_add(GROUND) {
                failures = 0;
            }
            failures += 1;
            if failures >= self.options.tries.max(1) {
                return Err(Problem::place(format!("{what}, {failures} times")));
            }
            let own = self
                .options
                .pause
                .saturating_mul(1 << (failures - 1).min(6));
            tokio::time::sleep(own.max(pause).min(LONGEST_PAUSE)).await;
        }
    }

    /// Bytes that are there.
    fn length(&self) -> Result<u64, Problem> {
        match fs::metadata(&self.part) {
            Ok(there) => Ok(there.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(Problem::Fatal(Error::io("read", &self.part, error))),
        }
    }

    fn discard(&self) -> Result<(), Problem> {
        match fs::remove_file(&self.part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Problem::Fatal(Error::io("remove", &self.part, error)))
            }
            _ => Ok(()),
        }
    }

    /// Compares the checksum. What was put together out of several answers gets a second chance.
    fn judge(&self, resumed_at: u64) -> Result<(), Problem> {
        let found = hash(&self.part).map_err(Problem::Fatal)?;
        let starts = found.starts_as_gzip;
        let found = found.finish();
        if found == self.archive.sha256 {
            return Ok(());
        }
        self.discard()?;
        let what = if starts {
            format!(
                "what is there is not the published file: its SHA-256 is {found}, not {}",
                self.archive.sha256
            )
        } else {
            "what is there is no archive".to_owned()
        };
        Err(Problem::Place {
            what,
            again: (resumed_at > 0).then_some(Duration::ZERO),
        })
    }

    /// One request and its answer, added to what is there.
    async fn once(&mut self, start: u64) -> Result<(), Problem> {
        if start == self.archive.bytes {
            return Ok(());
        }
        let start = if start > self.archive.bytes {
            self.discard()?;
            0
        } else {
            start
        };
        let response = self.ask(start).await?;
        let goes_on = response.status() == StatusCode::PARTIAL_CONTENT;
        if goes_on && !continues(&response, start, self.archive.bytes) {
            self.discard()?;
            return Err(Problem::Place {
                what: "the server goes on at another place".into(),
                again: Some(Duration::ZERO),
            });
        }
        let start = if goes_on { start } else { 0 };
        if let Some(length) = response.content_length()
            && start.saturating_add(length) != self.archive.bytes
        {
            let kind = response.headers().get(CONTENT_TYPE);
            let kind = kind
                .and_then(|kind| kind.to_str().ok())
                .unwrap_or("no type");
            return Err(Problem::place(format!(
                "{length} bytes ({kind}) are there, not the {} of the published file",
                self.archive.bytes
            )));
        }
        self.receive(response, start).await
    }

    async fn ask(&self, start: u64) -> Result<Response, Problem> {
        let mut url = self.url.clone();
        for _ in 0..=MOST_HOPS {
            check_literal(&url, self.options.reach)
                .map_err(|private| Problem::place(private.to_string()))?;
            let mut request = self
                .client
                .get(url.clone())
                .header(ACCEPT_ENCODING, "identity");
            if start > 0 {
                request = request.header(RANGE, format!("bytes={start}-"));
            }
            let response = self.timed("no answer", request.send()).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if status == StatusCode::RANGE_NOT_SATISFIABLE && start > 0 {
                self.discard()?;
                return Err(Problem::Place {
                    what: "the server does not go on".into(),
                    again: Some(Duration::ZERO),
                });
            }
            if !status.is_redirection() {
                let code = status.as_u16();
                let passes = matches!(code, 408 | 425 | 429 | 500..=599);
                let pause = retry_after(response.headers()).unwrap_or_default();
                return Err(Problem::Place {
                    what: Cause::Status(code).words(),
                    again: passes.then_some(pause),
                });
            }
            let to = response.headers().get(reqwest::header::LOCATION);
            let to = to.and_then(|to| url.join(to.to_str().ok()?).ok());
            url = to
                .filter(is_web)
                .ok_or_else(|| Problem::place("it redirects to nowhere"))?;
        }
        Err(Problem::place("it redirects too often"))
    }

    async fn receive(&mut self, mut response: Response, start: u64) -> Result<(), Problem> {
        let failed = |error| Problem::Fatal(Error::io("write", &self.part, error));
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.part)
            .map_err(failed)?;
        // Where the file system has no locks the user must take care.
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(Problem::Fatal(Error::new(
                ExitKind::Usage,
                format!("another process fetches '{}'", self.part.display()),
            )));
        }
        file.set_len(start).map_err(failed)?;
        let mut at = start;
        loop {
            let chunk = match self.timed("the connection ended", response.chunk()).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(problem) => return Err(problem),
            };
            at += chunk.len() as u64;
            if at > self.archive.bytes {
                drop(file);
                self.discard()?;
                return Err(Problem::place(format!(
                    "more than the {} bytes of the published file are there",
                    self.archive.bytes
                )));
            }
            file.write_all(&chunk).map_err(failed)?;
            self.received += chunk.len() as u64;
            let (name, all, received) = (self.archive.file, self.archive.bytes, self.received);
            // What was there before took no time.
            self.progress
                .update(received, received + (all - at), |seconds| {
                    format!(
                        "{name}: {} of {}, {}/s",
                        bytes(at as f64),
                        bytes(all as f64),
                        bytes(received as f64 / seconds),
                    )
                });
        }
        file.sync_all().map_err(failed)?;
        if at < self.archive.bytes {
            return Err(Problem::Place {
                what: format!("the connection ended after {at} bytes"),
                again: Some(Duration::ZERO),
            });
        }
        Ok(())
    }

    /// An exchange with an end.
    async fn timed<T>(
        &self,
        broken: &str,
        exchange: impl Future<Output = reqwest::Result<T>>,
    ) -> Result<T, Problem> {
        match tokio::time::timeout(self.options.timeout, exchange).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let failure = judge(&error);
                let what = match failure.cause {
                    Cause::Connection => broken.to_owned(),
                    cause => cause.words(),
                };
                Err(Problem::Place {
                    what: format!("{what}: {}", failure.detail),
                    again: failure.cause.may_pass().then_some(Duration::ZERO),
                })
            }
            Err(_) => Err(Problem::Place {
                what: format!("nothing came for {} s", self.options.timeout.as_secs_f64()),
                again: Some(Duration::ZERO),
            }),
        }
    }
}

/// Whether an answer is what follows on `start` of a file of this length.
fn continues(response: &Response, start: u64, bytes: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE);
    range
        .and_then(|range| range.to_str().ok())
        .is_some_and(|range| {
            let last = bytes.saturating_sub(1);
            range == format!("bytes {start}-{last}/{bytes}")
                || range == format!("bytes {start}-{last}/*")
        })
}

/// The checksum of a file.
pub(super) struct Hashed {
    hash: Sha256,
    starts_as_gzip: bool,
}

impl Hashed {
    /// Hexadecimal.
    pub(super) fn finish(self) -> String {
        let digest = self.hash.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Reads a file for its SHA-256.
pub(super) fn hash(path: &Path) -> Result<Hashed> {
    let failed = |error| Error::io("read", path, error).with_kind(ExitKind::Data);
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut starts_as_gzip = None;
    loop {
        let length = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        starts_as_gzip.get_or_insert(buffer.starts_with(b"\x1f\x8b"));
        hash.update(&buffer[..length]);
    }
    Ok(Hashed {
        hash,
        starts_as_gzip: starts_as_gzip.unwrap_or(false),
    })
}
