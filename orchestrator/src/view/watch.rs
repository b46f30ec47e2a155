//! Showing something anew, again and again.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use ratatui::crossterm::terminal;
use rocket_common::error::Result;

use super::{cut_line, time};
use crate::output::{Format, Report, stdout_error};
use crate::screen::{self, Screen};

/// Shows what `read` gives every so many seconds, until a signal or a closed pipe: in place on a terminal, one
/// block after the other elsewhere, and as JSON a document a line. `read` is told whether it is the first time.
///
/// # Errors
/// What `read` says, or stdout cannot be written.
pub(crate) fn watch<R: Report>(
    seconds: u64,
    format: Format,
    mut read: impl FnMut(bool) -> Result<R>,
) -> Result<ExitCode> {
    screen::listen();
    let spacing = Duration::from_secs(seconds);
    // What cannot be read at all is said before the screen is taken.
    let mut report = read(true)?;
    let on_screen = io::stdout().is_terminal() && !format.json;
    let taken = on_screen
        .then(|| Screen::take(false))
        .transpose()
        .map_err(stdout_error)?;
    loop {
        let mut text = Vec::new();
        if format.json {
            serde_json::to_writer(&mut text, &report)
                .map_err(|error| stdout_error(error.into()))?;
            text.push(b'\n');
        } else {
            report.human(&mut text).map_err(stdout_error)?;
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        let now = time(Timestamp::now());
        let block = if format.json {
            text.clone()
        } else if on_screen {
            let (columns, rows) = terminal::size().unwrap_or((80, 24));
            let heading = format!("{now}  every {seconds} s, Ctrl-C ends");
            framed(&heading, &text, columns.into(), rows.into())
        } else {
            format!("{now}\n{text}\n")
        };
        write(&block)?;
        if !screen::wait(spacing) {
            drop(taken);
            if on_screen {
                // What was seen last stays on the ordinary screen.
                write(&text)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        report = read(false)?;
    }
}

fn write(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(stdout_error)
}

/// A text as a picture that fills a window of this size and overwrites the one before.
fn framed(heading: &str, text: &str, columns: usize, rows: usize) -> String {
    let room = rows.saturating_sub(2).max(1);
    let lines: Vec<&str> = text.lines().collect();
    let mut picture = format!("\x1b[H{}\x1b[K", cut_line(heading, columns));
    let shown = if lines.len() > room {
        room.saturating_sub(1)
    } else {
        lines.len()
    };
    for line in &lines[..shown] {
        picture.push_str(&format!("\r\n{}\x1b[K", cut_line(line, columns)));
    }
    if shown < lines.len() {
        let left = lines.len() - shown;
        let rest = format!("… {left} more lines: a larger window, a pattern or --state shows them");
        picture.push_str(&format!("\r\n{}\x1b[K", cut_line(&rest, columns)));
    }
    picture.push_str("\x1b[J");
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_fits_into_the_window() {
        let text = "RUN  STATE\na    running\nb    running\nc    running\n";
        insta::assert_snapshot!(framed("now", text, 12, 5).replace('\x1b', "^"), @r"
        ^[Hnow^[K
        RUN  STATE^[K
        a    running^[K
        … 2 more li…^[K^[J
        ");
        insta::assert_snapshot!(framed("now", text, 40, 24).replace('\x1b', "^"), @r"
        ^[Hnow^[K
        RUN  STATE^[K
        a    running^[K
        b    running^[K
        c    running^[K^[J
        ");
    }
}
