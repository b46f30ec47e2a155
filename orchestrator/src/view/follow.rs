//! Following a run until it settles: its events as they come, and a line of progress.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rocket_common::error::Result;
use rocket_common::events::{self, Status};
use rocket_common::run_dir::RunDir;

use super::{RunView, duration, event_line, number, rate, read_metrics};
use crate::backend::Backends;
use crate::output::stdout_error;

const TICK: Duration = Duration::from_millis(250);
/// Spacing of progress lines where they cannot be overwritten.
const PLAIN_SPACING: Duration = Duration::from_secs(10);

/// Prints events from now on, or all of them, and progress, until nothing more happens by itself.
/// The exit code is the run's result.
pub(crate) fn follow(run: &RunDir) -> Result<ExitCode> {
    let mut screen = Screen::new();
    let backends = Backends::default();
    let mut shown = 0;
    let mut was = None;
    let mut waiting = None;
    loop {
        let events = events::read(run)?;
        // Read after the events: what the heartbeat says is then no older than they are.
        let view = RunView::read(run, &backends)?;
        // Merging may put a late event before one that was shown; none is shown twice or left out
        // for it, since files only grow.
        for event in events.iter().skip(shown) {
            let attempt = event
                .attempt
                .map_or(String::new(), |n| format!("attempt {n}: "));
            screen.line(&format!("{attempt}{}", event_line(event)))?;
        }
        shown = events.len();
        // Stopped with a living supervisor is a pause: it starts the ranks again.
        let settled = view.status.is_settled() && view.supervisor.is_none();
        if settled && was == Some(view.status) {
            screen.end()?;
            return result(run, &view);
        }
        was = Some(view.status);
        if view.waiting != waiting {
            waiting.clone_from(&view.waiting);
            if let Some(words) = &waiting {
                screen.line(&format!(
                    "job {}: {words}",
                    view.job.as_deref().unwrap_or("?")
                ))?;
            }
        }
        if view.status == Status::Running {
            screen.progress(&progress(run, &view)?)?;
        }
        std::thread::sleep(TICK);
    }
}

/// How the run ended, said and as exit code.
fn result(run: &RunDir, view: &RunView) -> Result<ExitCode> {
    let mut text = format!("run {} {}", run.id(), view.status);
    if view.status == Status::Finished {
        crate::output::print(&format!("{text}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(cause) = &view.cause {
        text.push_str(&format!(": {cause}"));
    }
    eprintln!("error: {text}");
    if let Some(hint) = &view.hint {
        eprintln!("hint: {hint}");
    }
    Ok(ExitCode::FAILURE)
}

fn progress(run: &RunDir, view: &RunView) -> Result<String> {
    let mut parts = Vec::new();
    if let Some(total) = view.total_steps {
        parts.push(format!("step {}/{total}", view.step));
    }
    if let Some(epoch) = view.epoch.filter(|epoch| *epoch > 0.0) {
        parts.push(format!("epoch {epoch:.2}"));
    }
    let last = read_metrics(run)?.last;
    for name in ["loss", "lr"] {
        if let Some((name, value)) = last.iter().find(|(of, _)| of == name) {
            parts.push(format!("{name} {}", number(*value)));
        }
    }
    if let Some(per_second) = view.samples_per_second.filter(|rate| *rate > 0.0) {
        parts.push(rate(per_second));
    }
    if let Some(seconds) = view.eta_seconds {
        parts.push(format!("{} left", duration(Duration::from_secs(seconds))));
    }
    Ok(parts.join("  "))
}

/// Whole lines, and one line of progress that is overwritten on a terminal.
struct Screen {
    terminal: bool,
    pending: bool,
    last: String,
    last_at: Option<Instant>,
}

impl Screen {
    fn new() -> Self {
        Self {
            terminal: io::stdout().is_terminal(),
            pending: false,
            last: String::new(),
            last_at: None,
        }
    }

    fn line(&mut self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        let clear = if std::mem::take(&mut self.pending) {
            "\r\x1b[K"
        } else {
            ""
        };
        writeln!(out, "{clear}{text}")
            .and_then(|()| out.flush())
            .map_err(stdout_error)
    }

    fn progress(&mut self, text: &str) -> Result<()> {
        if text.is_empty() || text == self.last {
            return Ok(());
        }
        if !self.terminal {
            let due = self.last_at.is_none_or(|at| at.elapsed() >= PLAIN_SPACING);
            if due {
                self.last_at = Some(Instant::now());
                text.clone_into(&mut self.last);
                return self.line(text);
            }
            return Ok(());
        }
        text.clone_into(&mut self.last);
        self.pending = true;
        let mut out = io::stdout().lock();
        write!(out, "\r\x1b[K{text}")
            .and_then(|()| out.flush())
            .map_err(stdout_error)
    }

    fn end(&mut self) -> Result<()> {
        if std::mem::take(&mut self.pending) {
            crate::output::print("\r\x1b[K")?;
        }
        Ok(())
    }
}

/// Waits until the supervisor that was just started has claimed an attempt after `last`, or has had
/// time enough to.
pub(crate) fn wait_for_attempt(run: &RunDir, last: Option<u32>) -> Result<()> {
    let start = Instant::now();
    let backends = Backends::default();
    let mut said = None;
    while run.highest_attempt()? <= last {
        let view = RunView::read(run, &backends)?;
        if view.status.is_settled() && view.status != Status::Lost {
            break;
        }
        if view.waiting.is_none() && start.elapsed() > Duration::from_secs(20) {
            break;
        }
        if view.waiting.is_some() && view.waiting != said {
            said.clone_from(&view.waiting);
            let job = view.job.unwrap_or_default();
            crate::output::print(&format!(
                "job {job}: {}\n",
                view.waiting.unwrap_or_default()
            ))?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
