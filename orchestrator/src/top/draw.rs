//! The dashboard as a picture: from what is shown to cells, nothing else.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, Wrap};
use rocket_common::events::Status;

use super::app::{App, Mode, Pane, progress};
use super::draw_detail;
use crate::view::{RunView, cut};

/// Below this there is room for one sentence.
const LEAST: (u16, u16) = (24, 5);
/// From this height on the chosen run is shown, too.
const DETAIL: u16 = 15;

/// Colours, where they are wanted; weight and reversal say the same without them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    pub(super) colour: bool,
}

impl Theme {
    pub(super) fn of(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    pub(super) fn faint(self) -> Style {
        if self.colour {
            Style::new().fg(Color::DarkGray)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        }
    }

    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn state(self, view: &RunView) -> Style {
        match view.status {
            _ if view.held => self.of(Color::Yellow),
            Status::Running => self.of(Color::Green).add_modifier(Modifier::BOLD),
            Status::Pending => self.of(Color::Yellow),
            Status::Stopping | Status::Stopped => self.of(Color::Magenta),
            Status::Lost | Status::Failed => self.of(Color::Red).add_modifier(Modifier::BOLD),
            Status::Finished => self.of(Color::Blue),
            Status::Cancelled => self.faint(),
        }
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let theme = Theme { colour: app.colour };
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let words = Paragraph::new("rocket top needs a larger window").wrap(Wrap { trim: true });
        frame.render_widget(words, area);
        return;
    }
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_head(frame, app, theme, head);
    if body.height < DETAIL {
        draw_list(frame, app, theme, body);
    } else {
        let list = match app.pane {
            Pane::All => (body.height * 2 / 5).clamp(6, 30),
            _ => 6,
        };
        // No more than there are runs, the headings and the frame.
        let wanted = u16::try_from(app.shown.len())
            .unwrap_or(u16::MAX)
            .saturating_add(3);
        let [list, rest] = Layout::vertical([
            Constraint::Length(list.min(wanted.max(4))),
            Constraint::Min(1),
        ])
        .areas(body);
        draw_list(frame, app, theme, list);
        draw_detail::draw(frame, app, theme, rest);
    }
    draw_foot(frame, app, theme, foot);
    match &app.mode {
        Mode::Help => draw_help(frame, theme, area),
        Mode::Asking(action, run) => {
            let question = format!("{}\n\ny: yes   any other key: no", action.question(run));
            draw_box(frame, theme, area, " sure? ", &question, 64);
        }
        Mode::List | Mode::Typing => {}
    }
}

fn draw_head(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let mut counts: Vec<(Status, usize)> = Status::ALL.iter().map(|state| (*state, 0)).collect();
    for view in &app.all {
        if let Some((_, count)) = counts.iter_mut().find(|(state, _)| *state == view.status) {
            *count += 1;
        }
    }
    let mut words = vec![match app.all.len() {
        1 => "1 run".to_owned(),
        many => format!("{many} runs"),
    }];
    let some = counts.iter().filter(|(_, count)| *count > 0);
    words.extend(some.map(|(state, count)| format!("{count} {state}")));
    if app.damaged > 0 {
        words.push(format!("{} unreadable", app.damaged));
    }
    let text = if app.loaded {
        words.join(", ")
    } else {
        format!("reading {} ...", app.root.display())
    };
    let line = Line::from(vec![
        Span::styled("rocket top", theme.strong()),
        Span::raw("  "),
        Span::raw(text),
    ]);
    let width = u16::try_from(app.now.chars().count()).unwrap_or_default();
    let has_room = line.width() + usize::from(width) + 2 <= usize::from(area.width);
    frame.render_widget(line, area);
    if has_room {
        let at = Rect::new(area.right() - width, area.y, width, 1);
        frame.render_widget(Span::styled(app.now.clone(), theme.faint()), at);
    }
}

fn draw_foot(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let line = match (&app.mode, &app.message) {
        (Mode::Typing, _) => Line::from(vec![
            Span::styled("filter: ", theme.strong()),
            Span::raw(app.filter.clone()),
            Span::styled(" ", Style::new().add_modifier(Modifier::REVERSED)),
            Span::styled("  Enter keeps it, Esc drops it", theme.faint()),
        ]),
        (_, Some(message)) => Line::styled(cut(message, area.width.into()), theme.strong()),
        _ => {
            let keys = [
                ("q", "quit"),
                ("?", "help"),
                ("/", "filter"),
                ("s", "sort"),
                ("a", "active"),
                ("Tab", "pane"),
                ("m", "metric"),
                ("r", "rank"),
                ("c", "cancel"),
                ("u", "resume"),
            ];
            let mut spans = Vec::new();
            for (key, what) in keys {
                spans.push(Span::styled(key, theme.strong()));
                spans.push(Span::styled(format!(" {what}  "), theme.faint()));
            }
            Line::from(spans)
        }
    };
    frame.render_widget(line, area);
}

/// A column of the list: heading, width, from which width of the window on it is shown.
struct Column {
    heading: &'static str,
    width: u16,
    from: u16,
    right: bool,
    cell: fn(&RunView) -> Option<String>,
}

const COLUMNS: [Column; 8] = [
    Column {
        heading: "STATE",
        width: 9,
        from: 0,
        right: false,
        cell: |view| Some(view.state_cell().to_owned()),
    },
    Column {
        heading: "DONE",
        width: 4,
        from: 40,
        right: true,
        cell: |view| {
            Some(progress(view))
                .filter(|of| *of >= 0.0)
                .map(|of| format!("{:.0}%", (of * 100.0).floor()))
        },
    },
    Column {
        heading: "STEP",
        width: 15,
        from: 84,
        right: true,
        cell: RunView::step_cell,
    },
    Column {
        heading: "EPOCH",
        width: 7,
        from: 100,
        right: true,
        cell: RunView::epoch_cell,
    },
    Column {
        heading: "TRY",
        width: 3,
        from: 72,
        right: true,
        cell: |view| view.attempt.map(|number| number.to_string()),
    },
    Column {
        heading: "SAMPLES/S",
        width: 9,
        from: 60,
        right: true,
        cell: RunView::rate_cell,
    },
    Column {
        heading: "ETA",
        width: 7,
        from: 50,
        right: true,
        cell: RunView::eta_cell,
    },
    Column {
        heading: "SCORE OR REASON",
        width: 0,
        from: 76,
        right: false,
        cell: |view| match view.status {
            Status::Finished => view.score_cell(),
            _ => view.why().or_else(|| view.score_cell()),
        },
    },
];

fn draw_list(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let mut title = format!(" runs, {}", app.sort.name());
    if app.reversed {
        title.push_str(", reversed");
    }
    if app.only_active {
        title.push_str(", active only");
    }
    if !app.filter.is_empty() {
        title.push_str(&format!(", '{}'", app.filter));
    }
    let place = app.place();
    if let Some(place) = place {
        title.push_str(&format!(" ({}/{})", place + 1, app.shown.len()));
    }
    title.push(' ');
    let block = Block::bordered().title(title).border_style(theme.faint());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    if app.shown.is_empty() {
        let words = match (app.loaded, app.all.is_empty()) {
            (false, _) => "",
            (true, true) => "no runs yet; start one with: rocket submit exp.yaml",
            (true, false) => {
                "no run passes the filter: Esc drops it, 'a' shows those that are over"
            }
        };
        frame.render_widget(Paragraph::new(words).wrap(Wrap { trim: true }), inner);
        return;
    }
    let columns: Vec<&Column> = COLUMNS
        .iter()
        .filter(|column| area.width >= column.from)
        .collect();
    let longest = app.shown.iter().map(|view| view.run.chars().count()).max();
    let taken: u16 = columns.iter().map(|column| column.width + 1).sum();
    let has_last = columns.iter().any(|column| column.width == 0);
    let room = inner
        .width
        .saturating_sub(taken + if has_last { 16 } else { 0 });
    let run = u16::try_from(longest.unwrap_or_default())
        .unwrap_or(u16::MAX)
        .clamp(4, room.max(8));
    // The chosen one is kept in the middle, where the list is long enough.
    let rows = usize::from(inner.height.saturating_sub(1)).max(1);
    let last = app.shown.len().saturating_sub(rows);
    let first = place.unwrap_or_default().saturating_sub(rows / 2).min(last);
    let row = |view: &RunView| {
        let mut cells = vec![Cell::from(cut(&view.run, run.into()))];
        cells.extend(columns.iter().map(|column| {
            let text = (column.cell)(view).unwrap_or_else(|| "-".into());
            let text = aligned(&text, column);
            if column.heading == "STATE" {
                Cell::from(Span::styled(text, theme.state(view)))
            } else {
                Cell::from(text)
            }
        }));
        let style = if app.chosen.as_ref() == Some(&view.run) {
            Style::new().add_modifier(Modifier::REVERSED)
        } else {
            Style::new()
        };
        Row::new(cells).style(style)
    };
    let mut headings = vec![Cell::from("RUN")];
    headings.extend(
        columns
            .iter()
            .map(|column| Cell::from(aligned(column.heading, column))),
    );
    let mut widths = vec![Constraint::Length(run)];
    widths.extend(columns.iter().map(|column| match column.width {
        0 => Constraint::Fill(1),
        width => Constraint::Length(width),
    }));
    let table = Table::new(app.shown.iter().skip(first).take(rows).map(row), widths)
        .header(Row::new(headings).style(theme.strong()));
    frame.render_widget(table, inner);
}

/// A cell flush right, where its column is one of numbers.
fn aligned(text: &str, column: &Column) -> String {
    let width = usize::from(column.width);
    match column {
        Column { right: true, .. } => format!("{text:>width$}"),
        _ => text.to_owned(),
    }
}

const HELP: &str = "\
↑ ↓ j k          another run; PgUp PgDn Home End
/                filter by words of id, sweep or state
a                only what may still go on by itself
s  S             another order; reversed
Tab              curves, ranks or log alone, or all
m  M             the next or previous metric
r  R             the next or previous rank
c                cancel the run (asks first)
u                go on with the run (asks first)
q  Ctrl-C        quit

any key closes this";

fn draw_help(frame: &mut Frame<'_>, theme: Theme, area: Rect) {
    draw_box(frame, theme, area, " keys ", HELP, 62);
}

fn draw_box(frame: &mut Frame<'_>, theme: Theme, area: Rect, title: &str, text: &str, width: u16) {
    let width = width.min(area.width);
    let inner = usize::from(width.saturating_sub(2)).max(1);
    let lines: usize = text
        .lines()
        .map(|line| line.chars().count().div_ceil(inner).max(1))
        .sum();
    let height = u16::try_from(lines)
        .unwrap_or(u16::MAX)
        .saturating_add(2)
        .min(area.height);
    let at = Rect::new(
        area.x + (area.width - width) / 2,
        area.y + (area.height - height) / 2,
        width,
        height,
    );
    frame.render_widget(Clear, at);
    let block = Block::bordered()
        .title(title.to_owned())
        .border_style(theme.strong());
    frame.render_widget(
        Paragraph::new(text).block(block).wrap(Wrap { trim: false }),
        at,
    );
}
