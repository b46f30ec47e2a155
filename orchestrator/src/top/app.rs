//! What the dashboard shows and how keys change it: no terminal, no clock, no files.

use std::cmp::Ordering;
use std::path::PathBuf;

use rocket_common::events::Status;

use super::detail::Detail;
use crate::view::RunView;

/// A key that was pressed, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// A letter, a digit, a sign.
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Tab,
    Enter,
    Escape,
    Backspace,
    /// Ctrl-C.
    Interrupt,
}

/// What is to be done about a key, outside of what is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    /// Another run, or rank, is looked at.
    Look,
    Quit,
    /// Something is done to a run, after the user has said yes.
    Act(Action, String),
}

/// What can be done to a run from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Cancel,
    Resume,
}

impl Action {
    /// The arguments of `rocket` that do it.
    pub(super) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Cancel => &["cancel", "--no-wait"],
            Self::Resume => &["resume"],
        }
    }

    /// What is asked before.
    pub(super) fn question(self, run: &str) -> String {
        match self {
            Self::Cancel => format!("Cancel {run}? Its ranks save first; 'resume' goes on."),
            Self::Resume => format!("Go on with {run} from its last checkpoint?"),
        }
    }

    /// Why it has no meaning for a run that stands there.
    fn refusal(self, status: Status) -> Option<&'static str> {
        match self {
            Self::Cancel
                if matches!(
                    status,
                    Status::Finished | Status::Failed | Status::Cancelled
                ) =>
            {
                Some("there is nothing to cancel")
            }
            Self::Resume if !status.is_settled() => Some("it goes on already"),
            Self::Resume if status == Status::Finished => Some("there is nothing left to do"),
            _ => None,
        }
    }
}

/// Order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// What still moves first, then the newest.
    Active,
    /// The newest first.
    Newest,
    Name,
    Progress,
    Rate,
    Score,
}

impl Sort {
    const ALL: [Self; 6] = [
        Self::Active,
        Self::Newest,
        Self::Name,
        Self::Progress,
        Self::Rate,
        Self::Score,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Active => "active first",
            Self::Newest => "newest first",
            Self::Name => "by name",
            Self::Progress => "by progress",
            Self::Rate => "by samples/s",
            Self::Score => "by score",
        }
    }

    fn compare(self, a: &RunView, b: &RunView) -> Ordering {
        let newest = || b.submitted.cmp(&a.submitted);
        let falling = |of: fn(&RunView) -> f64| of(b).total_cmp(&of(a));
        match self {
            Self::Active => (a.status.is_settled().cmp(&b.status.is_settled())).then_with(newest),
            Self::Newest => newest(),
            Self::Name => a.run.cmp(&b.run),
            Self::Progress => falling(progress).then_with(newest),
            Self::Rate => falling(|view| view.samples_per_second.unwrap_or(-1.0)).then_with(newest),
            Self::Score => falling(score).then_with(newest),
        }
    }
}

/// Share of the run that is done.
pub(super) fn progress(view: &RunView) -> f64 {
    match view.total_steps {
        _ if view.status == Status::Finished => 1.0,
        Some(total) => (view.step as f64 / total as f64).min(1.0),
        None => -1.0,
    }
}

fn score(view: &RunView) -> f64 {
    let main = view
        .metrics
        .iter()
        .find(|(name, _)| name.ends_with("z_top1"));
    main.or(view.metrics.iter().next())
        .map_or(-1.0, |(_, value)| *value)
}

/// Which part of the chosen run has the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    /// All of them share it.
    All,
    Curves,
    Ranks,
    Log,
}

/// What keys mean at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    List,
    /// They are the filter.
    Typing,
    Help,
    /// Yes or no.
    Asking(Action, String),
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct App {
    /// The folder of all runs.
    pub(super) root: PathBuf,
    /// The runs, sorted and filtered, and how many there are without the filter.
    pub(super) shown: Vec<RunView>,
    pub(super) all: Vec<RunView>,
    /// How many cannot be read.
    pub(super) damaged: usize,
    /// Whether the runs were read at all.
    pub(super) loaded: bool,
    /// The chosen run.
    pub(super) chosen: Option<String>,
    pub(super) rank: u32,
    /// How many metrics are passed over.
    pub(super) metric: usize,
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    pub(super) filter: String,
    pub(super) only_active: bool,
    pub(super) pane: Pane,
    pub(super) mode: Mode,
    /// What was done, or went wrong.
    pub(super) message: Option<String>,
    pub(super) detail: Option<Detail>,
    /// Whether the terminal is to show colours.
    pub(super) colour: bool,
    /// Time of the last look, as it is shown.
    pub(super) now: String,
}

impl App {
    pub(super) fn new(root: PathBuf, colour: bool, filter: String) -> Self {
        Self {
            root,
            shown: Vec::new(),
            all: Vec::new(),
            damaged: 0,
            loaded: false,
            chosen: None,
            rank: 0,
            metric: 0,
            sort: Sort::Active,
            reversed: false,
            filter,
            only_active: false,
            pane: Pane::All,
            mode: Mode::List,
            message: None,
            detail: None,
            colour,
            now: String::new(),
        }
    }

    /// Takes a new look at the runs.
    pub(super) fn take(&mut self, views: Vec<RunView>, damaged: usize) -> Effect {
        (self.all, self.damaged, self.loaded) = (views, damaged, true);
        self.arrange()
    }

    /// Takes a new look at the chosen run; one at another run comes too late.
    pub(super) fn take_detail(&mut self, detail: Detail) {
        if self.chosen.as_deref() == Some(detail.run.as_str()) && detail.rank == self.rank {
            self.detail = Some(detail);
        }
    }

    /// Place of the chosen run in the list.
    pub(super) fn place(&self) -> Option<usize> {
        let chosen = self.chosen.as_deref()?;
        self.shown.iter().position(|view| view.run == chosen)
    }

    /// The chosen run.
    pub(super) fn view(&self) -> Option<&RunView> {
        self.shown.get(self.place()?)
    }

    /// Sorts and filters anew; the choice stays on its run.
    fn arrange(&mut self) -> Effect {
        let before = self.place();
        let mut shown: Vec<RunView> = self
            .all
            .iter()
            .filter(|view| !self.only_active || !view.status.is_settled())
            .filter(|view| matches(view, &self.filter))
            .cloned()
            .collect();
        shown.sort_by(|a, b| {
            let order = self.sort.compare(a, b);
            let order = if self.reversed {
                order.reverse()
            } else {
                order
            };
            order.then_with(|| a.run.cmp(&b.run))
        });
        self.shown = shown;
        if self.place().is_some() {
            return Effect::Nothing;
        }
        // It left the list: the choice stays where it was.
        self.choose(before.unwrap_or_default())
    }

    fn choose(&mut self, place: usize) -> Effect {
        let last = self.shown.len().saturating_sub(1);
        let chosen = self.shown.get(place.min(last)).map(|view| view.run.clone());
        if chosen == self.chosen {
            return Effect::Nothing;
        }
        self.chosen = chosen;
        self.rank = 0;
        self.detail = None;
        Effect::Look
    }

    fn step(&mut self, by: isize) -> Effect {
        let place = self.place().unwrap_or_default();
        self.choose(place.saturating_add_signed(by))
    }

    /// What a key does.
    pub(super) fn press(&mut self, key: Key) -> Effect {
        if key == Key::Interrupt {
            return Effect::Quit;
        }
        match self.mode.clone() {
            Mode::List => self.press_in_list(key),
            Mode::Typing => self.press_in_filter(key),
            Mode::Help => {
                self.mode = Mode::List;
                Effect::Nothing
            }
            Mode::Asking(action, run) => {
                self.mode = Mode::List;
                if matches!(key, Key::Char('y' | 'Y')) {
                    return Effect::Act(action, run);
                }
                self.message = Some("nothing was done".into());
                Effect::Nothing
            }
        }
    }

    fn press_in_list(&mut self, key: Key) -> Effect {
        self.message = None;
        match key {
            Key::Char('q') => return Effect::Quit,
            Key::Up | Key::Char('k') => return self.step(-1),
            Key::Down | Key::Char('j') => return self.step(1),
            Key::PageUp => return self.step(-10),
            Key::PageDown => return self.step(10),
            Key::Home | Key::Char('g') => return self.choose(0),
            Key::End | Key::Char('G') => return self.choose(usize::MAX),
            Key::Char('/') => self.mode = Mode::Typing,
            Key::Char('?' | 'h') => self.mode = Mode::Help,
            Key::Escape if !self.filter.is_empty() => {
                self.filter.clear();
                return self.arrange();
            }
            Key::Char('a') => {
                self.only_active = !self.only_active;
                return self.arrange();
            }
            Key::Char('s') => {
                let at = Sort::ALL.iter().position(|sort| *sort == self.sort);
                self.sort = Sort::ALL[(at.unwrap_or_default() + 1) % Sort::ALL.len()];
                return self.arrange();
            }
            Key::Char('S') => {
                self.reversed = !self.reversed;
                return self.arrange();
            }
            Key::Char('m') => self.metric = self.metric.wrapping_add(1),
            Key::Char('M') => self.metric = self.metric.wrapping_sub(1),
            Key::Char('r') => return self.look_at_rank(1),
            Key::Char('R') => return self.look_at_rank(-1),
            Key::Tab => {
                self.pane = match self.pane {
                    Pane::All => Pane::Curves,
                    Pane::Curves => Pane::Ranks,
                    Pane::Ranks => Pane::Log,
                    Pane::Log => Pane::All,
                };
            }
            Key::Char('c') => self.ask(Action::Cancel),
            Key::Char('u') => self.ask(Action::Resume),
            _ => {}
        }
        Effect::Nothing
    }

    fn press_in_filter(&mut self, key: Key) -> Effect {
        match key {
            Key::Enter => self.mode = Mode::List,
            Key::Escape => {
                self.mode = Mode::List;
                self.filter.clear();
            }
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Char(c) => self.filter.push(c),
            _ => {}
        }
        self.arrange()
    }

    fn look_at_rank(&mut self, by: i64) -> Effect {
        let ranks = self.view().and_then(|view| view.world_size).unwrap_or(1);
        let ranks = i64::from(ranks.max(1));
        let rank = (i64::from(self.rank) + by).rem_euclid(ranks);
        self.rank = u32::try_from(rank).unwrap_or_default();
        self.detail = None;
        Effect::Look
    }

    fn ask(&mut self, action: Action) {
        let Some(view) = self.view() else {
            return;
        };
        let (run, status) = (view.run.clone(), view.status);
        match action.refusal(status) {
            Some(why) => self.message = Some(format!("{run} is {status}: {why}")),
            None => self.mode = Mode::Asking(action, run),
        }
    }
}

/// Whether every word of a filter is in the run's id, its sweep or its state.
fn matches(view: &RunView, filter: &str) -> bool {
    filter.split_whitespace().all(|word| {
        view.run.contains(word)
            || view.state_cell().contains(word)
            || view
                .sweep
                .as_ref()
                .is_some_and(|sweep| sweep.contains(word))
    })
}
