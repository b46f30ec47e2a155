//! `rocket sweep cancel`.

use std::process::ExitCode;

use rocket_common::error::Result;
use rocket_common::events::Status;

use super::find;
use crate::backend::Backends;
use crate::commands::cancel::{self, Asked};
use crate::output;
use crate::runs::Runs;
use crate::sweep;
use crate::view::RunView;

/// End a sweep: points that wait are not started, and those that run save first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sweep
    sweep: String,
    /// Kill the ranks at once instead of letting them save
    #[arg(long)]
    now: bool,
    /// Do not wait until the ranks have left
    #[arg(long)]
    no_wait: bool,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let (root, record) = find(&args.sweep, runs)?;
    let backends = Backends::default();
    let members = sweep::members(&root, &record.id)?;
    let mut waiting = Vec::new();
    let mut running = Vec::new();
    let mut over = 0;
    let mut troubled = false;
    for member in &members {
        match RunView::read(&member.run, &backends) {
            Ok(view)
                if matches!(
                    view.status,
                    Status::Finished | Status::Failed | Status::Cancelled
                ) =>
            {
                over += 1;
            }
            Ok(view) if view.waiting.is_some() => waiting.push(&member.run),
            Ok(_) => running.push(&member.run),
            Err(error) => {
                troubled = true;
                eprintln!("error: run {}: {error}", member.run.id());
            }
        }
    }
    let mut leaving = Vec::new();
    let mut gone = Vec::new();
    // Those that wait first, the last of them first: the end of one that runs would start the next.
    for run in waiting.into_iter().rev().chain(running) {
        match cancel::ask(run, &backends, args.now) {
            Ok(Asked::Leaving) => leaving.push(run),
            Ok(Asked::Already | Asked::Done) => gone.push(run),
            Err(error) => {
                troubled = true;
                eprintln!("error: run {}: {error}", run.id());
            }
        }
    }
    let id = &record.id;
    let mut cancelled = gone.len();
    if args.no_wait {
        output::print(&format!(
            "sweep {id}: {cancelled} cancelled, {} asked to save and end, {over} were over\n",
            leaving.len()
        ))?;
    } else {
        for run in gone {
            cancel::until_gone(run, &backends)?;
        }
        for run in leaving {
            cancel::wait(run, &backends, args.now)?;
            cancelled += 1;
        }
        output::print(&format!(
            "sweep {id}: {cancelled} cancelled, {over} were over\n"
        ))?;
    }
    Ok(if troubled {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
