//! `rocket gc`.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use serde::Serialize;

use crate::gc::{self, Item, Kind, Options, Place, Plan};
use crate::output::{Format, Report, Table};
use crate::pin::Source;
use crate::runs::Runs;
use crate::view::size;

/// Free what no run needs any more: old checkpoints, programs, refs, leftovers
///
/// Shows what would go and how large it is, and asks. Of finished runs the last and the best checkpoint
/// stay. What a run needs that is not finished stays, whether it runs, waits, or could be resumed; so do
/// the programs of every run that is there.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Say what would go, and remove nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Keep so many of the latest checkpoints of a finished run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    keep_last: usize,
    /// Keep so many of its best
    #[arg(long, value_name = "N", default_value_t = 1)]
    keep_best: usize,
    /// Remove programs that only finished runs had, too; 'rocket reproduce' then needs others
    #[arg(long)]
    finished_programs: bool,
    /// Leave alone what was changed since, such as '2 hours' or '7 days'
    #[arg(long, value_name = "TIME", default_value = "1 day", value_parser = age)]
    older_than: Duration,
    #[command(flatten)]
    format: Format,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("the last checkpoint of a run always stays".into()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
    }
}

fn age(text: &str) -> Result<Duration, String> {
    let span: Span = text
        .parse()
        .map_err(|error: jiff::Error| error.to_string())?;
    let days = SpanRelativeTo::days_are_24_hours();
    let length = span.to_duration(days).map_err(|error| error.to_string())?;
    Duration::try_from(length).map_err(|_| "must not be negative".into())
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let source = Source::discover(&[Path::new(".")]).ok();
    let root = runs.root()?;
    let place = Place {
        root: &root,
        source: source.as_ref(),
    };
    let options = Options {
        keep_last: args.keep_last,
        keep_best: args.keep_best,
        finished_programs: args.finished_programs,
        older_than: args.older_than,
    };
    if !root.is_dir() {
        args.format.print(&Shown::default())?;
        return Ok(ExitCode::SUCCESS);
    }
    let plan = Plan::make(&place, &options)?;
    let mut shown = Shown {
        bytes: plan.bytes(),
        items: plan.items,
        notes: plan.notes,
        freed: None,
        failed: Vec::new(),
    };
    let nothing = shown.items.is_empty();
    if args.dry_run || nothing {
        args.format.print(&shown)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes {
        args.format.print(&shown)?;
        confirm(&shown)?;
    }
    free(&mut shown, &place, &options)?;
    if args.yes || args.format.json {
        args.format.print(&shown)?;
    } else {
        shown
            .freed_line(&mut io::stdout().lock())
            .map_err(crate::output::stdout_error)?;
    }
    Ok(if shown.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// # Errors
/// The answer is no, or nobody is there to answer.
fn confirm(shown: &Shown) -> Result<()> {
    if !io::stdin().is_terminal() {
        return Err(Error::new(
            ExitKind::Usage,
            format!(
                "{} things would go, and nobody is there to agree",
                shown.items.len()
            ),
        )
        .hint("if that is meant, say --yes; --dry-run only shows it"));
    }
    eprint!("Remove them? [y/N] ");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Error::new(ExitKind::Usage, "nothing was removed"))
}

/// Looks once more, since the answer may have taken long, and removes what was shown and still may go.
fn free(shown: &mut Shown, place: &Place<'_>, options: &Options) -> Result<()> {
    let now = Plan::make(place, options)?;
    let mut freed = 0;
    for item in &shown.items {
        let is_it = |now: &Item| (now.kind, &now.name) == (item.kind, &item.name);
        if !now.items.iter().any(is_it) {
            continue;
        }
        match gc::remove(item, place, options) {
            Ok(true) => freed += item.bytes,
            Ok(false) => {}
            // One that cannot be removed must not keep the others.
            Err(error) => shown.failed.push(error.to_string()),
        }
    }
    shown.freed = Some(freed);
    Ok(())
}

/// What could go, and what went.
#[derive(Debug, Default, Serialize)]
struct Shown {
    /// Room that all of it takes.
    bytes: u64,
    items: Vec<Item>,
    /// What is worth saying of what stays.
    notes: Vec<String>,
    /// Room that was freed; absent if nothing was removed.
    freed: Option<u64>,
    /// What could not be removed, and why.
    failed: Vec<String>,
}

impl Shown {
    fn freed_line(&self, out: &mut dyn Write) -> io::Result<()> {
        for failure in &self.failed {
            writeln!(out, "error: {failure}")?;
        }
        match self.freed {
            Some(freed) => writeln!(out, "{} freed", size(freed)),
            None => Ok(()),
        }
    }
}

impl Report for Shown {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        if self.items.is_empty() {
            return writeln!(out, "nothing to free");
        }
        let mut table = Table::new(&["WHAT", "NAME", "SIZE", "WHY"]).right(&[2]);
        for item in &self.items {
            let what = match item.kind {
                Kind::Checkpoint => "checkpoint",
                Kind::Programs => "programs",
                Kind::Ref | Kind::OwnRef => "ref",
                Kind::Leftover => "leftover",
            };
            let room = match item.kind {
                Kind::Ref | Kind::OwnRef => "-".into(),
                _ => size(item.bytes),
            };
            table.row(vec![what.into(), item.name.clone(), room, item.why.clone()]);
        }
        table.write(out)?;
        writeln!(out, "{} in all", size(self.bytes))?;
        self.freed_line(out)
    }
}
