//! Fetching published archives: resumed where a connection broke, compared with their checksum, and
//! unpacked aside, so that a folder is there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::address::{Reach, check_literal};
use super::cause::Cause;
use super::published::{Archive, Contents, Published};
use super::request::{client, is_web, judge, retry_after};
use super::unpack::{unpack_gz, unpack_tar_gz};
use crate::progress::{Progress, bytes};

/// Redirects that are followed.
const MOST_HOPS: u32 = 5;
/// Bytes after which a broken connection counts as a new one.
const GROUND: u64 = 1 << 20;
/// The longest pause that a server gets.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// Where archives come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Where their authors publish them.
    Published,
    /// A folder of the web that has the same files.
    Web(Url),
    /// A folder that they were put into by hand.
    Folder(PathBuf),
}

/// How a set is fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchiveOptions {
    /// Where from.
    pub from: Origin,
    /// The folder that gets the set's folder.
    pub folder: PathBuf,
    /// Requests that may fail in a way that passes, without getting any further.
    pub tries: u32,
    /// Pause before the second try; it doubles from try to try.
    pub pause: Duration,
    /// Longest silence of a server.
    pub timeout: Duration,
    /// Where requests may go.
    pub reach: Reach,
    /// How we call ourselves.
    pub user_agent: String,
}

/// What a fetch of a set came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SetReport {
    /// The set.
    pub set: String,
    /// Folders that are there now.
    pub folders: Vec<PathBuf>,
    /// Bytes that were received.
    pub received_bytes: u64,
    /// Whether everything was there before.
    pub was_there: bool,
}

/// Fetches the archives of a set that are not there, and unpacks them.
///
/// # Errors
/// If no place has an archive with the right checksum, what is in it is not what it should be, or the
/// disk refuses. What is in the set's folder is whole in any case.
pub fn fetch_set(set: &Published, options: &ArchiveOptions) -> Result<SetReport> {
    fs::create_dir_all(&options.folder)
        .map_err(|error| Error::io("create", &options.folder, error))?;
    let mut report = SetReport {
        set: set.name.to_owned(),
        folders: Vec::new(),
        received_bytes: 0,
        was_there: true,
    };
    for archive in set.archives {
        let (Contents::Gz { folder, .. } | Contents::TarGz { folder, .. }) = archive.contents;
        let folder = options.folder.join(folder);
        if !is_there(archive, &folder)? {
            report.was_there = false;
            let (path, received) = obtain(archive, options)?;
            report.received_bytes += received;
            unpack(archive, &path, &folder)?;
            if !matches!(options.from, Origin::Folder(_)) && path.is_file() {
                fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
            }
        }
        if !report.folders.contains(&folder) {
            report.folders.push(folder);
        }
    }
    Ok(report)
}

/// Whether the files of an archive are there with their lengths.
fn is_there(archive: &Archive, folder: &Path) -> Result<bool> {
    let single;
    let files = match archive.contents {
        Contents::Gz { name, bytes, .. } => {
            single = [(name, bytes), (archive.file, archive.bytes)];
            single.as_slice()
        }
        Contents::TarGz { files, .. } => files,
    };
    let mut missing = false;
    for &(name, bytes) in files {
        match fs::metadata(folder.join(name)) {
            Ok(there) if there.len() == bytes => {}
            Ok(there) => {
                return Err(Error::new(
                    ExitKind::Data,
                    format!(
                        "'{}' has {} bytes, not the {bytes} of the published file",
                        folder.join(name).display(),
                        there.len()
                    ),
                )
                .hint("move it away, and fetch again"));
            }
            Err(_) => missing = true,
        }
    }
    if missing && matches!(archive.contents, Contents::TarGz { .. }) && folder.exists() {
        return Err(Error::new(
            ExitKind::Data,
            format!("'{}' is there, but not whole", folder.display()),
        )
        .hint("move it away, and fetch again"));
    }
    Ok(!missing)
}

/// The archive as a file whose checksum was compared, and how many bytes were received for it.
fn obtain(archive: &Archive, options: &ArchiveOptions) -> Result<(PathBuf, u64)> {
    let base = match &options.from {
        Origin::Folder(folder) => {
            let path = folder.join(archive.file);
            let found = hash(&path)?.finish();
            if found != archive.sha256 {
                return Err(wrong_sum(&path.display().to_string(), &found, archive));
            }
            return Ok((path, 0));
        }
        Origin::Web(base) => vec![base.clone()],
        Origin::Published => archive
            .places
            .iter()
            .filter_map(|place| Url::parse(place).ok())
            .collect(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(ExitKind::Internal, format!("cannot start: {error}")))?;
    let mut problems = Vec::new();
    for mut base in base {
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let url = base.join(archive.file).map_err(|error| {
            Error::new(ExitKind::Usage, format!("'{base}' is no base: {error}"))
        })?;
        let mut download = Download::new(archive, options, url)?;
        match runtime.block_on(download.run()) {
            Ok(path) => return Ok((path, download.received)),
            Err(Problem::Fatal(error)) => return Err(error),
            Err(Problem::Place { what, .. }) => problems.push(format!("{}: {what}", download.url)),
        }
    }
    Err(Error::new(
        ExitKind::Data,
        format!(
            "'{}' cannot be fetched: {}",
            archive.file,
            problems.join("; ")
        ),
    )
    .hint("fetch it by hand into a folder, and give that with --from"))
}

fn wrong_sum(of: &str, found: &str, archive: &Archive) -> Error {
    Error::new(
        ExitKind::Data,
        format!(
            "'{of}' is not the published file: its SHA-256 is {found}, not {}",
            archive.sha256
        ),
    )
}

/// Why a download did not succeed.
enum Problem {
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

struct Download<'a> {
    archive: &'a Archive,
    options: &'a ArchiveOptions,
    client: Client,
    url: Url,
    part: PathBuf,
    received: u64,
    progress: Progress,
}

impl<'a> Download<'a> {
    fn new(archive: &'a Archive, options: &'a ArchiveOptions, url: Url) -> Result<Self> {
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
    async fn run(&mut self) -> Result<PathBuf, Problem> {
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

struct Hashed {
    hash: Sha256,
    starts_as_gzip: bool,
}

impl Hashed {
    fn finish(self) -> String {
        let digest = self.hash.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn hash(path: &Path) -> Result<Hashed> {
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

/// Unpacks aside, then puts it into its place.
fn unpack(archive: &Archive, path: &Path, folder: &Path) -> Result<()> {
    let open = || File::open(path).map_err(|error| Error::io("read", path, error));
    let wrong = |error: super::UnpackError| {
        Error::new(ExitKind::Data, format!("{}: {error}", archive.file))
    };
    let parent = folder.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| Error::io("create", parent, error))?;
    let aside = Folder::new(parent.join(format!(".unpacking-{}", archive.file)))?;
    let moved = |from: &Path, to: &Path| {
        fs::rename(from, to).map_err(|error| Error::io("move into place", to, error))
    };
    match archive.contents {
        Contents::Gz { name, bytes, .. } => {
            let to = aside.0.join(name);
            unpack_gz(BufReader::new(open()?), &to, bytes).map_err(wrong)?;
            let kept = aside.0.join(archive.file);
            fs::copy(path, &kept).map_err(|error| Error::io("copy", path, error))?;
            fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
            moved(&kept, &folder.join(archive.file))?;
            moved(&to, &folder.join(name))?;
            atomic::sync_dir(folder)
        }
        Contents::TarGz {
            folder: top,
            files,
            most_bytes,
        } => {
            let to = aside.0.join(top);
            fs::create_dir(&to).map_err(|error| Error::io("create", &to, error))?;
            unpack_tar_gz(BufReader::new(open()?), top, files, most_bytes, &to).map_err(wrong)?;
            moved(&to, folder)?;
            atomic::sync_dir(parent)
        }
    }
}

/// A folder that goes away with all that is in it, whatever happens; what a killed process left of it
/// goes away first.
struct Folder(PathBuf);

impl Folder {
    fn new(path: PathBuf) -> Result<Self> {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &path, error));
            }
            _ => {}
        }
        fs::create_dir(&path).map_err(|error| Error::io("create", &path, error))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The next fetch tries again.
        let _ = fs::remove_dir_all(&self.0);
    }
}
