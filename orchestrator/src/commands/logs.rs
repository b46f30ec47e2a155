//! `rocket logs`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::{Attempt, RunDir};

use crate::backend::Backends;
use crate::output::stdout_error;
use crate::runs::Runs;
use crate::view::RunView;

const TICK: Duration = Duration::from_millis(250);

/// Print what a rank, or the supervisor, has written
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run
    run: String,
    /// The rank
    #[arg(long, default_value_t = 0)]
    rank: u32,
    /// The supervisor's log in place of a rank's
    #[arg(long, conflicts_with = "rank")]
    supervisor: bool,
    /// The attempt [default: the last one]
    #[arg(long)]
    attempt: Option<u32>,
    /// Go on as the log grows, over all further attempts, until the run settles
    #[arg(short, long)]
    follow: bool,
}

impl Args {
    fn path(&self, attempt: &Attempt) -> PathBuf {
        if self.supervisor {
            attempt.supervisor_log_path()
        } else {
            attempt.log_path(self.rank)
        }
    }
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let run = runs.find(&args.run)?;
    if args.follow {
        follow(args, &run)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(last) = run.attempts()?.pop() else {
        return Err(Error::new(
            ExitKind::Usage,
            format!("run {} has no attempt yet, and so no log", run.id()),
        )
        .hint(format!("rocket status {}", run.id())));
    };
    let attempt = args
        .attempt
        .map_or(last.clone(), |number| run.attempt(number));
    let path = args.path(&attempt);
    if !path.exists() {
        return Err(missing(args, &run, &attempt, &last));
    }
    copy(&path, 0)?;
    Ok(ExitCode::SUCCESS)
}

fn missing(args: &Args, run: &RunDir, attempt: &Attempt, last: &Attempt) -> Error {
    if attempt.number() > last.number() {
        return Error::new(
            ExitKind::Usage,
            format!(
                "run {} has no attempt {}; its last is {}",
                run.id(),
                attempt.number(),
                last.number()
            ),
        );
    }
    let ranks = (0..)
        .take_while(|&rank| attempt.log_path(rank).exists())
        .count();
    let error = Error::new(
        ExitKind::Usage,
        format!(
            "rank {} has no log in attempt {} of run {}; {ranks} ranks have one",
            args.rank,
            attempt.number(),
            run.id()
        ),
    );
    if ranks == 0 {
        error.hint(format!("rocket logs {} --supervisor", run.id()))
    } else {
        error
    }
}

fn follow(args: &Args, run: &RunDir) -> Result<()> {
    let mut number = args.attempt.or(run.highest_attempt()?).unwrap_or_default();
    let mut offset = 0;
    let backends = Backends::default();
    loop {
        // Looked at before reading: what was written until it settled is still read.
        let view = RunView::read(run, &backends)?;
        let settled = view.status.is_settled() && view.supervisor.is_none();
        let newer = run
            .highest_attempt()?
            .is_some_and(|highest| highest > number);
        let path = args.path(&run.attempt(number));
        if path.exists() {
            offset = copy(&path, offset)?;
        }
        if newer {
            number += 1;
            offset = 0;
        } else if settled {
            return Ok(());
        } else {
            std::thread::sleep(TICK);
        }
    }
}

/// Prints a file from an offset, and gives the offset of its end.
fn copy(path: &Path, from: u64) -> Result<u64> {
    let failed = |error| Error::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(from)).map_err(failed)?;
    let mut out = io::stdout().lock();
    let mut buffer = vec![0; 1 << 16];
    let mut at = from;
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            out.flush().map_err(stdout_error)?;
            return Ok(at);
        }
        out.write_all(&buffer[..read]).map_err(stdout_error)?;
        at += read as u64;
    }
}
