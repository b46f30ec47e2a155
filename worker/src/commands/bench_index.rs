//! `rocket-worker bench index` and `bench read`: what the index of a data set costs, in time and in memory, when many processes
//! of a node use it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rocket_common::exit::ExitKind;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::bench::read_experiment;
use crate::data::source::{index_path, open};
use crate::random::Permutation;

#[derive(Debug, clap::Args)]
pub(super) struct ReadArgs {
    /// The experiment whose images are read
    experiment: PathBuf,
    /// Overrides, as for `rocket submit`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Images to read, in the order of training; all of an epoch if absent
    #[arg(long)]
    images: Option<u64>,
    /// Threads that read
    #[arg(long, default_value_t = 4)]
    threads: u64,
}

/// Reads images' files in the order of training, without decoding them, and prints one JSON object: how many,
/// how many bytes, and how fast.
///
/// # Errors
/// A wrong experiment, or data that cannot be opened.
pub(super) fn read(args: &ReadArgs) -> Result<ExitKind> {
    let experiment = read_experiment(&args.experiment, &args.set)?;
    let source = open(&experiment.data)?;
    let samples = source.len() as u64;
    let order = Permutation::new(experiment.seed, 0, samples);
    let images = args.images.unwrap_or(samples).min(samples);
    let next = AtomicU64::new(0);
    let (bytes, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            scope.spawn(|| {
                let mut buffer = Vec::new();
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if place >= images {
                        return;
                    }
                    match source.read(order.at(place) as usize, &mut buffer) {
                        Ok(()) => bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed),
                        Err(_) => failed.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let bytes = bytes.into_inner();
    println!(
        "{}",
        json!({
            "images": images,
            "unreadable": failed.into_inner(),
            "bytes": bytes,
            "seconds": seconds,
            "images_per_second": images as f64 / seconds.max(1e-9),
            "bytes_per_second": bytes as f64 / seconds.max(1e-9),
        })
    );
    Ok(ExitKind::Ok)
}

#[derive(Debug, clap::Args)]
pub(super) struct IndexArgs {
    /// The experiment whose data are opened
    experiment: PathBuf,
    /// Overrides, as for `rocket submit`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Processes that use the index at the same time
    #[arg(long, default_value_t = 8)]
    processes: usize,
    /// Be one of these processes
    #[arg(long, hide = true)]
    member: bool,
}

/// What one process says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Member {
    samples: usize,
    /// Seconds until the data set was open and its first sample known.
    open_seconds: f64,
    /// Memory of its own that opening took, in bytes (private and dirty, `smaps_rollup`).
    opening_private: i64,
    /// The same after every sample was looked at.
    private: i64,
}

/// Prints one JSON object: seconds from the start of a process to its first sample, and the memory that the
/// processes take for the index together and each for itself.
///
/// # Errors
/// A wrong experiment, data that cannot be read, or a process that fails.
pub(super) fn run(args: &IndexArgs) -> Result<ExitKind> {
    if args.member {
        return member(args);
    }
    let experiment = read_experiment(&args.experiment, &args.set)?;
    let lists = experiment.data.lists().map_err(anyhow::Error::msg)?;
    let index = index_path(&experiment.data, &lists);
    let size = std::fs::metadata(&index)
        .with_context(|| format!("there is no index '{}' yet", index.display()))?
        .len();
    let mut running = Vec::new();
    let mut first = Vec::new();
    let mut members = Vec::new();
    for _ in 0..args.processes.max(1) {
        let began = Instant::now();
        let mut child = Running::start(args)?;
        child.line()?;
        first.push(began.elapsed().as_secs_f64());
        running.push(child);
    }
    // Only now: a process that starts beside others that look at all samples says more of the processors' number.
    for child in &mut running {
        child.go_on()?;
    }
    for child in &mut running {
        members.push(serde_json::from_str::<Member>(&child.line()?)?);
    }
    let mut pss = 0;
    let mut rss = 0;
    for child in &running {
        let mapped = mapped(child.child.id(), &index.display().to_string())?;
        pss += mapped.get("Pss").copied().unwrap_or(0);
        rss += mapped.get("Rss").copied().unwrap_or(0);
    }
    let most = |of: fn(&Member) -> i64| members.iter().map(of).max().unwrap_or(0);
    let slowest = |seconds: &[f64]| seconds.iter().copied().fold(0.0, f64::max);
    let open: Vec<f64> = members.iter().map(|member| member.open_seconds).collect();
    println!(
        "{}",
        json!({
            "samples": members.first().map(|member| member.samples),
            "processes": members.len(),
            "index_bytes": size,
            "first_sample_seconds": slowest(&first),
            "open_seconds": slowest(&open),
            "pss_bytes": pss,
            "rss_bytes": rss,
            "pss_copies": pss as f64 / size as f64,
            "opening_private_bytes": most(|member| member.opening_private),
            "private_bytes": most(|member| member.private),
        })
    );
    for child in running {
        child.end()?;
    }
    Ok(ExitKind::Ok)
}

/// Opens the data set, says its first sample, looks at all of them when a line comes (or standard input ends),
/// says what that cost, and stays until standard input ends.
fn member(args: &IndexArgs) -> Result<ExitKind> {
    let experiment = read_experiment(&args.experiment, &args.set)?;
    let before = private()?;
    let began = Instant::now();
    let source = open(&experiment.data)?;
    let captions = source.captions(0).join(" ");
    let open_seconds = began.elapsed().as_secs_f64();
    let opening_private = private()? - before;
    let mut out = std::io::stdout();
    writeln!(out, "{}: {captions:?}", source.name(0))?;
    out.flush()?;
    std::io::stdin().read_line(&mut String::new())?;
    let mut bytes = 0;
    for sample in 0..source.len() {
        let captions = source.captions(sample);
        bytes += captions.iter().map(|caption| caption.len()).sum::<usize>();
        // What is absent is of no interest here, only that it was looked up.
        bytes += source
            .place(sample)
            .map_or(0, |place| place.file.as_os_str().len());
    }
    std::hint::black_box(bytes);
    let said = Member {
        samples: source.len(),
        open_seconds,
        opening_private,
        private: private()? - before,
    };
    writeln!(out, "{}", serde_json::to_string(&said)?)?;
    out.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(ExitKind::Ok)
}

/// A process of the measurement; it is ended with this value.
struct Running {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Running {
    fn start(args: &IndexArgs) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["bench", "index", "--member"])
            .arg(&args.experiment);
        for set in &args.set {
            command.args(["--set", set]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = child.stdout.take().context("a process without output")?;
        Ok(Self {
            child,
            said: BufReader::new(said),
        })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.said.read_line(&mut line)? == 0 {
            bail!("a process of the measurement ended early; what it said is above");
        }
        Ok(line)
    }

    /// Lets it look at all samples.
    fn go_on(&mut self) -> Result<()> {
        let stdin = self
            .child
            .stdin
            .as_mut()
            .context("a process without input")?;
        Ok(stdin.write_all(b"\n")?)
    }

    fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Without effect on one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Private dirty memory of this process in bytes.
fn private() -> Result<i64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let private = fields(text.lines());
    Ok(private.get("Private_Dirty").copied().unwrap_or(0))
}

/// The fields of what a process has mapped of a file, added up, in bytes (proc(5), `smaps`).
fn mapped(process: u32, file: &str) -> Result<BTreeMap<String, i64>> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps"))?;
    let mut ours = false;
    let lines = text.lines().filter(|line| {
        // A mapping begins with its addresses, and ends with its file.
        if line
            .split(' ')
            .next()
            .is_some_and(|word| word.contains('-'))
        {
            ours = line.ends_with(file);
        }
        ours
    });
    Ok(fields(lines))
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for line in lines {
        let Some((name, rest)) = line.split_once(':') else {
            continue;
        };
        let kib = rest
            .trim()
            .strip_suffix(" kB")
            .and_then(|kib| kib.trim().parse::<i64>().ok());
        if let Some(kib) = kib {
            *sums.entry(name.to_owned()).or_insert(0) += kib * 1024;
        }
    }
    sums
}
