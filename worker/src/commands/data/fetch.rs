//! `rocket-worker data fetch`: data sets from where they are published.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use reqwest::Url;
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;

use crate::data::fetch::{
    ArchiveOptions, Origin, Pairs, PairsOptions, PairsReport, PictureOptions, Politeness, Reach,
    RequestOptions, Resize, SETS, fetch_pairs, fetch_set,
};
use crate::eval::{Catalog, special};
use crate::progress;

/// Seconds.
const TIMEOUT: f64 = 30.0;
const TRIES: u32 = 3;
/// Seconds.
const PAUSE: f64 = 2.0;
const USER_AGENT: &str = concat!("rocket/", env!("CARGO_PKG_VERSION"));

/// Which set.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    set: Set,
}

#[derive(Debug, Subcommand)]
enum Set {
    /// Fetch the images of Conceptual Captions (lines of caption, tab, address).
    Cc3m(List),
    /// Fetch the images of Conceptual 12M (lines of address, tab, caption).
    Cc12m(List),
    /// Fetch MNIST, 12 MB.
    Mnist(Archives),
    /// Fetch CIFAR-10, 170 MB.
    Cifar10(Archives),
    /// Fetch CIFAR-100, 169 MB.
    Cifar100(Archives),
    /// Fetch STL-10, 2.6 GB.
    Stl10(Archives),
}

#[derive(Debug, clap::Args)]
struct List {
    /// The list as it is published, a .tsv.
    #[arg(value_name = "LIST")]
    list: PathBuf,
    /// Folder for images and metadata; a fetch that was begun there goes on.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Make images smaller, if they are larger, so that the shorter side has this many pixels.
    #[arg(long, value_name = "PIXELS", conflicts_with = "longer_side", value_parser = clap::value_parser!(u32).range(1..))]
    shorter_side: Option<u32>,
    /// The same for the longer side.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
    longer_side: Option<u32>,
    /// Quality of JPEGs that are written anew; a JPEG that needs no change is kept as it came.
    #[arg(long, value_name = "1..100", default_value_t = 95, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Keep no image whose shorter side has fewer pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    min_side: u32,
    /// Keep no image with more bytes.
    #[arg(long, value_name = "MB", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=4096))]
    max_megabytes: u64,
    /// Requests at a time.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=4096))]
    connections: u32,
    /// Requests at a time to one host.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    per_host: u32,
    /// Requests a second to one host.
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = positive)]
    per_host_rate: f64,
    /// Threads that decode and resize; as many as there are processors if absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Ask again for images that failed in an earlier run.
    #[arg(long)]
    retry_failed: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    net: Net,
}

#[derive(Debug, clap::Args)]
struct Archives {
    /// Folder that gets the set's folder.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Another place that has the same files: an address, or a folder that they were put into by hand.
    #[arg(long, value_name = "URL|FOLDER")]
    from: Option<String>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    net: Net,
}

#[derive(Debug, clap::Args)]
struct Net {
    /// Longest time for an image; longest silence for an archive.
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT, value_parser = positive)]
    timeout: f64,
    /// Requests for the same thing, where a failure may pass.
    #[arg(long, value_name = "N", default_value_t = TRIES, value_parser = clap::value_parser!(u32).range(1..=100))]
    tries: u32,
    /// Pause before the second try; it doubles from try to try. A server may ask for a longer one.
    #[arg(long, value_name = "SECONDS", default_value_t = PAUSE, value_parser = positive)]
    pause: f64,
    /// Also ask addresses of private networks and of this machine, which a list may not name otherwise.
    #[arg(long)]
    allow_private: bool,
    /// How servers are told who asks.
    #[arg(long, value_name = "TEXT", default_value = USER_AGENT)]
    user_agent: String,
}

fn positive(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
    if value > 0.0 && value <= 1e6 {
        return Ok(value);
    }
    Err("must lie above 0 and not above 1,000,000".to_owned())
}

/// Fetches, and says what came of it.
///
/// # Errors
/// If nothing can be fetched at all, or the disk refuses.
pub(super) fn run(args: &Args) -> Result<ExitKind> {
    match &args.set {
        Set::Cc3m(list) => fetch_list(Pairs::Cc3m, list),
        Set::Cc12m(list) => fetch_list(Pairs::Cc12m, list),
        Set::Mnist(archives) => fetch_archives("mnist", archives),
        Set::Cifar10(archives) => fetch_archives("cifar10", archives),
        Set::Cifar100(archives) => fetch_archives("cifar100", archives),
        Set::Stl10(archives) => fetch_archives("stl10", archives),
    }
}

fn fetch_list(pairs: Pairs, args: &List) -> Result<ExitKind> {
    let resize = match (args.shorter_side, args.longer_side) {
        (Some(side), _) => Some(Resize::Shorter(side as usize)),
        (None, Some(side)) => Some(Resize::Longer(side as usize)),
        (None, None) => None,
    };
    let options = PairsOptions {
        list: args.list.clone(),
        pairs,
        folder: args.folder.clone(),
        connections: args.connections as usize,
        politeness: Politeness {
            connections: args.per_host as usize,
            spacing: Duration::from_secs_f64(1.0 / args.per_host_rate),
        },
        tries: args.net.tries,
        pause: Duration::from_secs_f64(args.net.pause),
        picture: PictureOptions {
            resize,
            quality: args.quality,
            min_side: args.min_side as usize,
        },
        request: RequestOptions {
            timeout: Duration::from_secs_f64(args.net.timeout),
            max_bytes: args.max_megabytes * 1_000_000,
            reach: args.net.reach(),
            user_agent: args.net.user_agent.clone(),
        },
        retry_failed: args.retry_failed,
        threads: args
            .threads
            .map_or_else(processors, |threads| threads as usize),
    };
    let report = fetch_pairs(&options)?;
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{}", report.text())?;
    }
    if report.stopped {
        eprintln!("stopped; the same command goes on from here");
        out.flush()?;
        stop_as_asked();
    }
    nothing_there(&report)?;
    Ok(ExitKind::Ok)
}

/// A list of which no image at all could be had is no data set.
fn nothing_there(report: &PairsReport) -> Result<()> {
    if report.kept > 0 {
        return Ok(());
    }
    let most = report.failed.first();
    let most = most.map_or_else(String::new, |count| {
        format!(
            " ({} of them: {})",
            progress::grouped(count.rows),
            count.words
        )
    });
    Err(Error::new(
        ExitKind::Data,
        format!(
            "none of the {} images could be fetched{most}",
            progress::grouped(report.rows)
        ),
    )
    .hint("is the list the one that was named, and does this machine reach the internet?")
    .into())
}

/// Ends as a program that Ctrl-C ended, so that scripts around it see it.
fn stop_as_asked() -> ! {
    std::process::exit(130)
}

fn fetch_archives(name: &str, args: &Archives) -> Result<ExitKind> {
    let options = archive_options(args.from.as_deref(), "--from", &args.folder, &args.net)?;
    let set = SETS.iter().find(|set| set.name == name);
    let set = set.ok_or_else(|| Error::new(ExitKind::Internal, format!("no set '{name}'")))?;
    let report = fetch_set(set, &options)?;
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return Ok(ExitKind::Ok);
    }
    for folder in &report.folders {
        let before = if report.was_there { " already" } else { "" };
        writeln!(out, "{name} is{before} in '{}'", folder.display())?;
    }
    Ok(ExitKind::Ok)
}

/// Where archives come from, and how. `flag` is what `from` was given by.
fn archive_options(
    from: Option<&str>,
    flag: &str,
    folder: &Path,
    net: &Net,
) -> Result<ArchiveOptions> {
    let from = match from {
        None => Origin::Published,
        Some(text) => match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Origin::Web(url),
            _ if Path::new(text).is_dir() => Origin::Folder(text.into()),
            _ => {
                return Err(Error::new(
                    ExitKind::Usage,
                    format!("{flag} '{text}' is neither an address nor a folder"),
                )
                .hint("an address begins with http:// or https://")
                .into());
            }
        },
    };
    // An address that the user gives is the user's word.
    let reach = match from {
        Origin::Web(_) => Reach::Any,
        _ => net.reach(),
    };
    Ok(ArchiveOptions {
        from,
        folder: folder.to_owned(),
        tries: net.tries,
        pause: Duration::from_secs_f64(net.pause),
        timeout: Duration::from_secs_f64(net.timeout),
        reach,
        user_agent: net.user_agent.clone(),
    })
}

/// What `--fetch` of other commands asks for: those of the sets that are missing and that are known to be
/// published for everybody, from there or from another place (`--fetch=FROM`; empty for there).
///
/// # Errors
/// The place is none, or a set cannot be had from it.
pub(in crate::commands) fn fetch_missing(
    from: &str,
    catalog: &Catalog,
    names: &[&str],
) -> Result<()> {
    let from = (!from.is_empty()).then_some(from);
    let options = archive_options(from, "--fetch", Path::new(""), &Net::default())?;
    for report in special::fetch_missing(catalog, names, SETS, &options)? {
        for folder in &report.folders {
            eprintln!("note: {} is in '{}' now", report.set, folder.display());
        }
    }
    Ok(())
}

impl Default for Net {
    fn default() -> Self {
        Self {
            timeout: TIMEOUT,
            tries: TRIES,
            pause: PAUSE,
            allow_private: false,
            user_agent: USER_AGENT.to_owned(),
        }
    }
}

impl Net {
    fn reach(&self) -> Reach {
        if self.allow_private {
            Reach::Any
        } else {
            Reach::Public
        }
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
