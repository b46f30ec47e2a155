//! The file system: what rocket relies on (rename, link, fsync), and what it can do without (locks,
//! common appends).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use rocket_common::error::{Error, Result};
use serde::{Deserialize, Serialize};

use super::Place;

/// Versions of a file that are renamed into place while others read.
const VERSIONS: u32 = 200;
/// Names that all try to link at once.
const CLAIMS: u32 = 40;
/// Messages that are sent to and fro.
const PINGS: u32 = 5;
/// Lines that each appends to one file.
const LINES: usize = 200;
/// Bytes written to measure the speed.
const BULK: usize = 32 << 20;

/// What was found out about the folder.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Files {
    /// Milliseconds until a file made by one is seen by the other, the longest of a few.
    pub seen_after_ms: Option<f64>,
    /// Renaming over a file that others read.
    pub rename: Rename,
    /// Renaming a folder onto one that is not empty is refused.
    pub rename_dir_refused: bool,
    /// `link()` as a claim that one alone can win.
    pub link: Link,
    /// Milliseconds of an fsync of a small file and its folder.
    pub fsync_ms: f64,
    /// MiB per second of one process writing a large file, fsync included.
    pub write_mib_s: Option<f64>,
    /// A lock of another is respected: `flock`.
    pub flock: Option<bool>,
    /// A lock of another is respected: `fcntl`.
    pub fcntl: Option<bool>,
    /// Lines of several processes that were appended to one file and are not there whole.
    pub lost_lines: Option<usize>,
}

/// What a reader saw of a file that was replaced again and again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Rename {
    /// Reads.
    pub reads: u64,
    /// Reads that found a mixture of two versions, or half of one.
    pub torn: u64,
    /// Reads that found no file, or that it had vanished.
    pub absent: u64,
    /// Reads that found an older version than the one before.
    pub back: u64,
}

/// Claims by `link()`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Link {
    /// Claims that this process holds, by the inode behind the name.
    pub won: Vec<u32>,
    /// Claims where the answer of `link()` was not the truth.
    pub wrong_answers: u32,
}

/// Probes the folder together with the others.
pub(super) fn probe(place: &Place) -> Result<Files> {
    let mut files = Files {
        seen_after_ms: ping(place)?,
        fsync_ms: fsync(place)?,
        ..Files::default()
    };
    place.barrier("rename")?;
    files.rename = rename(place)?;
    files.rename_dir_refused = rename_dir(place)?;
    place.barrier("link")?;
    files.link = link(place)?;
    place.barrier("append")?;
    append(place)?;
    place.barrier("appended")?;
    if place.rank == 0 {
        files.lost_lines = Some(lost_lines(place)?);
        files.write_mib_s = Some(bulk(place)?);
    }
    if place.size > 1 {
        files.flock = locked(place, "flock", try_flock)?;
        files.fcntl = locked(place, "fcntl", try_fcntl)?;
    }
    Ok(files)
}

fn io<T>(place: &Place, action: &str, result: io::Result<T>) -> Result<T> {
    result.map_err(|error| Error::io(action, &place.dir, error))
}

/// Half a round trip of messages between the first two, the longest: how long a new file is hidden.
fn ping(place: &Place) -> Result<Option<f64>> {
    if place.size < 2 || place.rank > 1 {
        return Ok(None);
    }
    let mut longest = Duration::ZERO;
    for i in 0..PINGS {
        let start = Instant::now();
        let (own, others) = if place.rank == 0 {
            ("ping", "pong")
        } else {
            ("pong", "ping")
        };
        if place.rank == 1 {
            place.wait_for(&format!("{others}.{i}"))?;
        }
        io(
            place,
            "write to",
            File::create_new(place.path(&format!("{own}.{i}"))),
        )?;
        if place.rank == 0 {
            place.wait_for(&format!("{others}.{i}"))?;
            longest = longest.max(start.elapsed() / 2);
        }
    }
    Ok((place.rank == 0).then_some(longest.as_secs_f64() * 1e3))
}

fn fsync(place: &Place) -> Result<f64> {
    let start = Instant::now();
    let path = place.path(&format!("fsync.{}", place.rank));
    io(
        place,
        "write to",
        File::create_new(path).and_then(|mut file| {
            file.write_all(&[7; 4096])?;
            file.sync_all()
        }),
    )?;
    rocket_common::atomic::sync_dir(&place.dir)?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn version_text(version: u32) -> Vec<u8> {
    // Longer than a page, so that a torn read shows, and each of another length.
    format!("{version:08}\n")
        .repeat(600 + (version % 7) as usize)
        .into_bytes()
}

/// The version that a text is, if it is one version and whole.
fn version_of(text: &[u8]) -> Option<u32> {
    let version = std::str::from_utf8(text.get(..8)?).ok()?.parse().ok()?;
    (version_text(version) == text).then_some(version)
}

fn rename(place: &Place) -> Result<Rename> {
    let current = place.path("current");
    let mut seen = Rename::default();
    if place.rank == 0 {
        for version in 0..VERSIONS {
            let aside = place.path(".current.new");
            io(place, "write to", fs::write(&aside, version_text(version)))?;
            io(place, "rename in", fs::rename(&aside, &current))?;
        }
        return Ok(seen);
    }
    place.wait_for("current")?;
    let start = Instant::now();
    let mut last = 0;
    while last + 1 < VERSIONS && start.elapsed() < super::PATIENCE {
        seen.reads += 1;
        match fs::read(&current) {
            Ok(text) => match version_of(&text) {
                Some(version) => {
                    seen.back += u64::from(version < last);
                    last = version;
                }
                None => seen.torn += 1,
            },
            Err(_) => seen.absent += 1,
        }
    }
    Ok(seen)
}

/// Each in a folder of its own: publishing a checkpoint renames one.
fn rename_dir(place: &Place) -> Result<bool> {
    let (from, to) = (
        place.path(&format!("from.{}", place.rank)),
        place.path(&format!("to.{}", place.rank)),
    );
    io(
        place,
        "write to",
        (|| {
            fs::create_dir(&from)?;
            fs::create_dir(&to)?;
            fs::write(to.join("file"), "x")
        })(),
    )?;
    let refused = fs::rename(&from, &to).is_err();
    let free = place.path(&format!("free.{}", place.rank));
    Ok(refused && fs::rename(&to, &free).is_ok() && free.join("file").exists())
}

fn link(place: &Place) -> Result<Link> {
    let own = place.path(&format!("own.{}", place.rank));
    io(place, "write to", File::create_new(&own))?;
    let inode = io(place, "read", own.metadata())?.ino();
    let mut link = Link::default();
    let answers: Vec<bool> = (0..CLAIMS)
        .map(|claim| fs::hard_link(&own, place.path(&format!("claim.{claim}"))).is_ok())
        .collect();
    for (claim, answer) in (0..CLAIMS).zip(answers) {
        let held = place
            .path(&format!("claim.{claim}"))
            .metadata()
            .is_ok_and(|meta| meta.ino() == inode);
        link.wrong_answers += u32::from(held != answer);
        if held {
            link.won.push(claim);
        }
    }
    Ok(link)
}

fn append(place: &Place) -> Result<()> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(place.path("appended"));
    let mut file = io(place, "write to", file)?;
    for line in 0..LINES {
        let line = format!("{:04} {line:06} {}\n", place.rank, "-".repeat(100));
        io(place, "write to", file.write_all(line.as_bytes()))?;
    }
    io(place, "write to", file.sync_all())
}

fn lost_lines(place: &Place) -> Result<usize> {
    let text = io(place, "read", fs::read(place.path("appended")))?;
    let text = String::from_utf8_lossy(&text);
    let whole = text
        .lines()
        .filter(|line| line.len() == 112 && line.ends_with('-'))
        .count();
    Ok((LINES * place.size as usize).saturating_sub(whole))
}

fn bulk(place: &Place) -> Result<f64> {
    let path = place.path("bulk");
    let start = Instant::now();
    let result = File::create_new(&path).and_then(|mut file| {
        let block = vec![0x5a_u8; 1 << 20];
        for _ in 0..BULK >> 20 {
            file.write_all(&block)?;
        }
        file.sync_all()
    });
    let seconds = start.elapsed().as_secs_f64();
    let _ = fs::remove_file(&path);
    io(place, "write to", result)?;
    Ok((BULK >> 20) as f64 / seconds)
}

/// A lock that was taken, kept until it is dropped.
enum Taken {
    Flock(#[allow(dead_code, reason = "held")] Flock<File>),
    Fcntl(#[allow(dead_code, reason = "held")] File),
}

/// Whether a lock could be taken; an error is that of a file system without such locks.
type TryLock = fn(File) -> io::Result<Option<Taken>>;

fn try_flock(file: File) -> io::Result<Option<Taken>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(Taken::Flock(lock))),
        Err((_, nix::Error::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

fn try_fcntl(file: File) -> io::Result<Option<Taken>> {
    let whole = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(&file, FcntlArg::F_SETLK(&whole)) {
        Ok(_) => Ok(Some(Taken::Fcntl(file))),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The first takes the lock, the others try; `None` where there are no such locks.
fn locked(place: &Place, name: &str, try_lock: TryLock) -> Result<Option<bool>> {
    let path = place.path(&format!("lock-{name}"));
    let open = || {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
    };
    let mut held = None;
    if place.rank == 0 {
        held = io(place, "write to", open()).map(|file| try_lock(file).ok().flatten())?;
        let outcome = if held.is_some() { "held" } else { "none" };
        io(
            place,
            "write to",
            fs::write(place.path(&format!("{name}-outcome")), outcome),
        )?;
    }
    place.barrier(&format!("{name}-taken"))?;
    let mut outcome = String::new();
    let mut file = io(
        place,
        "read",
        File::open(place.path(&format!("{name}-outcome"))),
    )?;
    io(
        place,
        "read",
        file.rewind()
            .and_then(|()| file.read_to_string(&mut outcome)),
    )?;
    let mut respected = None;
    if place.rank != 0 && outcome == "held" {
        respected = io(place, "write to", open())
            .map(|file| try_lock(file).ok().map(|taken| taken.is_none()))?;
    }
    place.barrier(&format!("{name}-tried"))?;
    drop(held);
    Ok(respected)
}
