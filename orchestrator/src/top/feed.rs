//! Reading in the background: the picture never waits for a disk.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rocket_common::error::Result;
use rocket_common::run_dir;

use super::app::Action;
use super::detail::{Detail, Reader};
use crate::backend::Backends;
use crate::view::{Many, RunView};

/// Between two looks at all runs.
const RUNS: Duration = Duration::from_secs(2);
/// Between two looks at the chosen one.
const DETAIL: Duration = Duration::from_secs(1);

/// What was found out.
#[derive(Debug)]
pub(super) enum News {
    Runs(Result<Many>),
    Detail(Detail),
    /// What became of something that was done to a run.
    Done(String),
}

/// The readers; they leave when this is dropped.
#[derive(Debug)]
pub(super) struct Feed {
    root: PathBuf,
    runs: Sender<()>,
    detail: Sender<(RunView, u32)>,
    sender: Sender<News>,
    pub(super) news: Receiver<News>,
}

impl Feed {
    pub(super) fn start(root: PathBuf) -> Self {
        let (sender, news) = channel();
        let (runs, asked) = channel();
        let (at, to) = (root.clone(), sender.clone());
        std::thread::spawn(move || read_runs(&at, &asked, &to));
        let (detail, asked) = channel();
        let to = sender.clone();
        std::thread::spawn(move || read_details(&asked, &to));
        Self {
            root,
            runs,
            detail,
            sender,
            news,
        }
    }

    /// Has a run looked at from now on.
    pub(super) fn look(&self, view: &RunView, rank: u32) {
        let _ = self.detail.send((view.clone(), rank));
    }

    /// Does something to a run, as its command would, and has all runs looked at afterwards.
    pub(super) fn act(&self, action: Action, run: &str) {
        let (root, run) = (self.root.clone(), run.to_owned());
        let (sender, runs) = (self.sender.clone(), self.runs.clone());
        std::thread::spawn(move || {
            let words = std::env::current_exe()
                .and_then(|rocket| {
                    Command::new(rocket)
                        .arg("--runs")
                        .arg(root)
                        .args(action.arguments())
                        .arg(run)
                        .stdin(Stdio::null())
                        .output()
                })
                .map_or_else(
                    |error| error.to_string(),
                    |output| said(&output.stdout, &output.stderr),
                );
            let _ = sender.send(News::Done(words));
            let _ = runs.send(());
        });
    }
}

/// What a command said, in one line.
fn said(stdout: &[u8], stderr: &[u8]) -> String {
    let text = [stderr, stdout].map(String::from_utf8_lossy).join("\n");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

fn read_runs(root: &std::path::Path, asked: &Receiver<()>, news: &Sender<News>) {
    let backends = Backends::default();
    loop {
        let many = run_dir::list(root).map(|found| Many::read(&found, &backends, 1, |_| true));
        if news.send(News::Runs(many)).is_err() {
            return;
        }
        if let Err(RecvTimeoutError::Disconnected) = asked.recv_timeout(RUNS) {
            return;
        }
    }
}

fn read_details(asked: &Receiver<(RunView, u32)>, news: &Sender<News>) {
    let mut reader = Reader::default();
    let mut target: Option<(RunView, u32)> = None;
    loop {
        match asked.recv_timeout(DETAIL) {
            // Whoever holds the arrow key down wants the last one.
            Ok(next) => target = Some(asked.try_iter().last().unwrap_or(next)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some((view, rank)) = &target else {
            continue;
        };
        let detail = reader.read(view, *rank).unwrap_or_else(|error| Detail {
            run: view.run.clone(),
            rank: *rank,
            trouble: Some(error.to_string()),
            ..Detail::default()
        });
        if news.send(News::Detail(detail)).is_err() {
            return;
        }
    }
}
