//! `rocket logs`.

use std::process::ExitCode;

use regex::Regex;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::{Attempt, RunDir};

use crate::runs::Runs;
use crate::tail::{self, Attempts, Printer, Ranks, Selection, Source};

/// Print what ranks, or the supervisor, have written
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run
    run: String,
    /// Ranks: 3, 0,2, 0-7 or all; of several each line says whose it is
    #[arg(long, value_name = "RANKS", default_value = "0", value_parser = Ranks::parse)]
    rank: Ranks,
    /// The supervisor's log in place of a rank's
    #[arg(long, conflicts_with = "rank")]
    supervisor: bool,
    /// The attempt, or all [default: the last one]
    #[arg(long, value_name = "N|all", value_parser = Attempts::parse)]
    attempt: Option<Attempts>,
    /// Go on as the logs grow, over all further attempts and ranks, until the run settles
    #[arg(short, long)]
    follow: bool,
    /// Begin with so many of the last lines of each log
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<usize>,
    /// Only lines that match this regular expression
    #[arg(short, long, value_name = "REGEX")]
    grep: Option<Regex>,
    /// Print each line as JSON: attempt, rank (null for the supervisor), line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let run = runs.find(&args.run)?;
    let source = if args.supervisor {
        Source::Supervisor
    } else {
        Source::Ranks(args.rank.clone())
    };
    let selection = Selection {
        several: source.is_several() || args.attempt == Some(Attempts::All),
        source,
        attempts: args.attempt,
        tail: args.tail,
    };
    let printer = Printer {
        json: args.json,
        prefix: selection.several,
        grep: args.grep.clone(),
    };
    if args.follow {
        tail::follow(&run, &selection, printer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(last) = run.attempts()?.pop() else {
        return Err(Error::new(
            ExitKind::Usage,
            format!("run {} has no attempt yet, and so no log", run.id()),
        )
        .hint(format!("rocket status {}", run.id())));
    };
    if !tail::print(&run, &last, &selection, printer)? {
        let attempt = match args.attempt {
            Some(Attempts::One(number)) => run.attempt(number),
            _ => last.clone(),
        };
        return Err(missing(args, &run, &attempt, &last));
    }
    Ok(ExitCode::SUCCESS)
}

fn missing(args: &Args, run: &RunDir, attempt: &Attempt, last: &Attempt) -> Error {
    let id = run.id();
    if attempt.number() > last.number() {
        return Error::new(
            ExitKind::Usage,
            format!(
                "run {id} has no attempt {}; its last is {}",
                attempt.number(),
                last.number()
            ),
        );
    }
    let ranks = tail::ranks_of(attempt).len();
    let whose = match &args.rank {
        _ if args.supervisor => "the supervisor has".to_owned(),
        Ranks::Some(ranks) if ranks.len() == 1 => format!("rank {} has", ranks[0]),
        _ => "these ranks have".to_owned(),
    };
    let error = Error::new(
        ExitKind::Usage,
        format!(
            "{whose} no log in attempt {} of run {id}; {ranks} ranks have one",
            attempt.number()
        ),
    );
    if ranks == 0 && !args.supervisor {
        error.hint(format!("rocket logs {id} --supervisor"))
    } else {
        error
    }
}
