//! `rocket top`: runs, and the chosen one with its curves, ranks and log, on a terminal.
//!
//! [`app`] is what is shown and what keys do, [`draw`] makes a picture of it, [`feed`] reads in the background.

mod app;
mod detail;
mod draw;
mod draw_detail;
mod feed;
mod gpu;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use rocket_common::error::Result;

use crate::output::stdout_error;
use crate::screen::{self, Screen};
use crate::view::time;
use app::{App, Effect, Key};
use feed::{Feed, News};

/// Between two looks for keys and news.
const TICK: Duration = Duration::from_millis(50);
/// So long the first picture waits for the runs, so that it does not flicker.
const FIRST: Duration = Duration::from_millis(250);

/// Shows the runs below a folder until the user leaves, or a signal ends it.
///
/// # Errors
/// The terminal cannot be used.
pub(crate) fn top(root: PathBuf, filter: String) -> Result<()> {
    screen::listen();
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let feed = Feed::start(root.clone());
    let mut app = App::new(root, colour, filter);
    let _screen = Screen::take(true).map_err(stdout_error)?;
    show(&mut app, &feed).map_err(stdout_error)
}

fn show(app: &mut App, feed: &Feed) -> io::Result<()> {
    let mut terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
    if let Ok(news) = feed.news.recv_timeout(FIRST) {
        take(app, feed, news);
    }
    let mut drawn = None;
    loop {
        let mut changed = drawn.is_none_or(|at: Instant| at.elapsed() > Duration::from_secs(1));
        while let Ok(news) = feed.news.try_recv() {
            take(app, feed, news);
            changed = true;
        }
        if changed {
            app.now = time(Timestamp::now());
            terminal.draw(|frame| draw::draw(frame, app))?;
            drawn = Some(Instant::now());
        }
        if screen::ended() {
            return Ok(());
        }
        if !event::poll(TICK)? {
            continue;
        }
        match event::read()? {
            Event::Key(typed) if typed.kind != KeyEventKind::Release => {
                let Some(key) = key(typed.code, typed.modifiers) else {
                    continue;
                };
                match app.press(key) {
                    Effect::Quit => return Ok(()),
                    Effect::Look => look(app, feed),
                    Effect::Act(action, run) => {
                        app.message = Some(format!("{} ...", action.arguments()[0]));
                        feed.act(action, &run);
                    }
                    Effect::Nothing => {}
                }
                drawn = None;
            }
            Event::Resize(..) => drawn = None,
            _ => {}
        }
    }
}

fn take(app: &mut App, feed: &Feed, news: News) {
    match news {
        News::Runs(Ok(many)) => {
            app.take(many.views, many.damaged.len());
            // Its attempt, ranks and nodes may be others by now.
            look(app, feed);
        }
        News::Runs(Err(error)) => app.message = Some(error.to_string()),
        News::Detail(detail) => app.take_detail(detail),
        News::Done(words) => app.message = Some(words),
    }
}

fn look(app: &App, feed: &Feed) {
    if let Some(view) = app.view() {
        feed.look(view, app.rank);
    }
}

fn key(code: KeyCode, modifiers: KeyModifiers) -> Option<Key> {
    if modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(code, KeyCode::Char('c' | 'C')).then_some(Key::Interrupt);
    }
    Some(match code {
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Tab => Key::Tab,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}
