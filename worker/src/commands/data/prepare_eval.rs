//! `rocket-worker data prepare-eval`: an evaluation set's published archives become folders of classes.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use rocket_common::exit::ExitKind;

use crate::eval::prepare::{self, RECIPES};

/// Which set, from where, and where to.
#[derive(Debug, clap::Args)]
#[command(after_help = sources())]
pub struct Args {
    /// Name of the set in the catalog.
    #[arg(value_name = "SET")]
    set: String,
    /// The published archive, or a folder that holds the set's files, packed or unpacked.
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Folder to make: the set's `path` in the catalog.
    #[arg(value_name = "DEST")]
    dest: PathBuf,
    /// Print JSON in place of sentences.
    #[arg(long)]
    json: bool,
}

fn sources() -> String {
    let mut text = "What each set is made of:\n".to_owned();
    for recipe in &RECIPES {
        text += &format!("  {:<15} {}\n", recipe.set, recipe.from);
    }
    text
}

/// Prepares the set, and says what is there now.
///
/// # Errors
/// Every reason why it cannot be prepared; see [`prepare::PrepareError`].
pub fn run(args: &Args) -> Result<ExitKind> {
    let mut progress = Progress::new(&args.set);
    let prepared = prepare::prepare(&args.set, &args.source, &args.dest, &mut |done, total| {
        progress.say(done, total);
    })
    .map_err(rocket_common::error::Error::from)?;
    let mut out = std::io::stdout();
    if args.json {
        let mut value = serde_json::to_value(&prepared.record)?;
        value["found_written"] = prepared.found_written.into();
        value["notes"] = prepared.notes.clone().into();
        writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?;
        return Ok(ExitKind::Ok);
    }
    let record = &prepared.record;
    let total: usize = record.images.values().sum();
    let already = match prepared.found_written {
        0 => String::new(),
        all if all == total => ", prepared already".to_owned(),
        some => format!(", {some} of them from an earlier call"),
    };
    writeln!(
        out,
        "{}: {total} images in {}{already}",
        args.set,
        args.dest.display()
    )?;
    for (split, images) in &record.images {
        let classes = record.classes.get(split).copied().unwrap_or(0);
        writeln!(out, "  {split}: {images} images, {classes} classes")?;
    }
    for note in &prepared.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(ExitKind::Ok)
}

/// How far it is, to stderr: at most every few seconds, rewritten in place on a terminal.
struct Progress<'a> {
    set: &'a str,
    started: Instant,
    said: Option<Instant>,
    first: Option<usize>,
}

impl<'a> Progress<'a> {
    fn new(set: &'a str) -> Self {
        Self {
            set,
            started: Instant::now(),
            said: None,
            first: None,
        }
    }

    fn say(&mut self, done: usize, total: usize) {
        let first = *self.first.get_or_insert_with(|| {
            self.started = Instant::now();
            done
        });
        let terminal = std::io::stderr().is_terminal();
        let every = Duration::from_millis(if terminal { 200 } else { 10_000 });
        if self.said.unwrap_or(self.started).elapsed() < every {
            return;
        }
        self.said = Some(Instant::now());
        let rate = (done - first) as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
        let left = (total - done) as f64 / rate.max(1e-9);
        let line = format!(
            "{}: {done} of {total} images, {rate:.0}/s, {left:.0} s left",
            self.set
        );
        if terminal {
            eprint!("\r\x1b[K{line}");
            if done == total {
                eprintln!();
            }
        } else {
            eprintln!("{line}");
        }
    }
}
