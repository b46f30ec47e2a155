//! `rocket sweep resume`.

use std::process::ExitCode;

use rocket_common::error::Result;
use rocket_common::events::Status;
use rocket_common::experiment::Reading;

use super::extend::existing;
use super::{carry_out, find};
use crate::backend::{Backends, Liveness};
use crate::commands::resume::{self, Resumed};
use crate::experiment::Written;
use crate::output;
use crate::runs::Runs;
use crate::submit::{Ground, Options};
use crate::sweep::{self, New};
use crate::view::RunView;

/// Go on with a sweep: points that were cancelled, failed or lost, and those not submitted yet
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sweep
    sweep: String,
    /// Leave failed points as they are
    #[arg(long)]
    not_failed: bool,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let (root, record) = find(&args.sweep, runs)?;
    let backends = Backends::default();
    let members = sweep::members(&root, &record.id)?;
    let mut text = String::new();
    let (mut going, mut finished, mut left, mut troubled) = (0, 0, 0, false);
    for member in &members {
        let id = member.run.id();
        let view = RunView::read(&member.run, &backends);
        let result = view.and_then(|view| {
            if view.status == Status::Finished {
                return Ok(Some(Resumed::Finished));
            }
            if view.status == Status::Failed && args.not_failed {
                left += 1;
                return Ok(None);
            }
            let backend = backends.of(member.manifest.backend);
            let outlook = backend.outlook(&member.run, &member.manifest)?;
            let starts = view.status == Status::Pending && outlook.liveness != Liveness::Unknown;
            let works = outlook.liveness == Liveness::Alive && !view.status.is_settled();
            if works || starts {
                going += 1;
                return Ok(None);
            }
            resume::one(&member.run, &backends, false).map(Some)
        });
        match result {
            Ok(Some(Resumed::On(words, _))) => text.push_str(&format!("run {id} {words}\n")),
            Ok(Some(Resumed::Finished)) => finished += 1,
            Ok(None) => {}
            Err(error) => {
                troubled = true;
                eprintln!("error: run {id}: {error}");
                for hint in error.hints() {
                    eprintln!("hint: {hint}");
                }
            }
        }
    }
    let mut counts = format!("{finished} finished, {going} under way");
    if left > 0 {
        counts.push_str(&format!(", {left} failed and left"));
    }
    output::print(&format!("{text}sweep {}: {counts}\n", record.id))?;
    if (members.len() as u64) < record.points {
        let path = &record.experiment_path;
        let written = Written::new(path, record.text.clone(), record.sets.clone())?;
        if let Reading::Many(sweep) = written.read()? {
            let ground = Ground::new(existing(path, &record), &Options::default(), runs)?;
            if ground.source.head().to_string() != record.parent_commit {
                eprintln!(
                    "note: the first points were submitted from commit {}, these are from {}",
                    record.parent_commit.get(..12).unwrap_or_default(),
                    &ground.source.head().to_string()[..12]
                );
            }
            let new = New::find(&sweep, &members, false)?;
            carry_out(&sweep, &ground, &record, &new)?;
        }
    }
    Ok(if troubled {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
