//! The chosen run as a picture.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Color;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph, Wrap};

use super::app::{App, Pane};
use super::detail::{Curve, Detail, Rank};
use super::draw::Theme;
use super::gpu::Use;
use crate::view::{RunView, cut, cut_line, number};

/// Least width of a curve beside others.
const CURVE: u16 = 36;
/// From this width on ranks and log stand side by side.
const WIDE: u16 = 124;
/// Width of a table of ranks with all that is known of their GPUs.
const RANKS: u16 = 62;

pub(super) fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let Some(view) = app.view() else {
        return;
    };
    let block = Block::bordered()
        .title(format!(
            " {} ",
            cut(&view.run, area.width.saturating_sub(4).into())
        ))
        .border_style(theme.faint());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let summary = summary(view, inner.width);
    let height = u16::try_from(summary.len()).unwrap_or_default();
    let [head, rest] = Layout::vertical([
        Constraint::Length(height.min(inner.height)),
        Constraint::Min(0),
    ])
    .areas(inner);
    frame.render_widget(Paragraph::new(summary), head);
    let Some(detail) = &app.detail else {
        frame.render_widget(Line::styled("reading ...", theme.faint()), rest);
        return;
    };
    match app.pane {
        Pane::Curves => draw_curves(frame, app, detail, theme, rest),
        Pane::Ranks => draw_ranks(frame, app, detail, theme, rest),
        Pane::Log => draw_log(frame, app, detail, theme, rest),
        Pane::All if rest.height < 8 => draw_curves(frame, app, detail, theme, rest),
        Pane::All => {
            let [curves, below] =
                Layout::vertical([Constraint::Percentage(52), Constraint::Percentage(48)])
                    .areas(rest);
            draw_curves(frame, app, detail, theme, curves);
            if below.width >= WIDE {
                let [ranks, log] =
                    Layout::horizontal([Constraint::Length(RANKS), Constraint::Min(0)])
                        .spacing(2)
                        .areas(below);
                draw_ranks(frame, app, detail, theme, ranks);
                draw_log(frame, app, detail, theme, log);
            } else if below.height >= 8 {
                let wanted = u16::try_from(detail.ranks.len()).unwrap_or(u16::MAX);
                let ranks = wanted.saturating_add(2).clamp(3, below.height / 2);
                let [ranks, log] =
                    Layout::vertical([Constraint::Length(ranks), Constraint::Min(0)]).areas(below);
                draw_ranks(frame, app, detail, theme, ranks);
                draw_log(frame, app, detail, theme, log);
            } else {
                draw_log(frame, app, detail, theme, below);
            }
        }
    }
}

/// Where the run stands, in a line, and why.
fn summary(view: &RunView, width: u16) -> Vec<Line<'static>> {
    let width = usize::from(width);
    let mut parts = vec![view.state_cell().to_owned()];
    let mut part = |label: &str, text: Option<String>| {
        if let Some(text) = text {
            parts.push(format!("{label} {text}"));
        }
    };
    part("step", view.step_cell());
    part("epoch", view.epoch_cell());
    part("samples/s", view.rate_cell());
    part("left", view.eta_cell());
    part("attempt", view.attempt.map(|number| number.to_string()));
    part("checkpoint", view.checkpoint.map(|step| step.to_string()));
    part("", view.score_cell().map(|score| score.trim().to_owned()));
    let line = parts
        .iter()
        .map(|part| part.trim())
        .collect::<Vec<_>>()
        .join("  ");
    let mut lines = vec![Line::raw(cut_line(&line, width))];
    lines.extend(view.why().map(|why| Line::raw(cut(&why, width))));
    let hint = view.hint.as_ref().map(|hint| format!("hint: {hint}"));
    lines.extend(hint.map(|hint| Line::raw(cut(&hint, width))));
    lines
}

fn draw_curves(frame: &mut Frame<'_>, app: &App, detail: &Detail, theme: Theme, area: Rect) {
    let curves = &detail.curves;
    if curves.is_empty() {
        let words = detail.trouble.clone();
        let words = words.unwrap_or_else(|| "no metrics yet".into());
        frame.render_widget(Line::styled(words, theme.faint()), area);
        return;
    }
    let fit = usize::from((area.width / CURVE).clamp(1, 3)).min(curves.len());
    let first = (app.metric as isize).rem_euclid(curves.len() as isize) as usize;
    let places = Layout::horizontal(vec![Constraint::Fill(1); fit])
        .spacing(2)
        .split(area);
    for (slot, place) in places.iter().enumerate() {
        let index = (first + slot) % curves.len();
        draw_curve(
            frame,
            &curves[index],
            [Color::Cyan, Color::Green, Color::Yellow][slot],
            theme,
            *place,
        );
    }
}

fn draw_curve(frame: &mut Frame<'_>, curve: &Curve, colour: Color, theme: Theme, area: Rect) {
    let title = |value: Option<&(f64, f64)>| match value {
        Some((_, value)) => format!("{} {}", curve.name, number(*value)),
        None => curve.name.clone(),
    };
    let block = Block::new().title(Line::styled(
        cut(&title(curve.points.last()), area.width.into()),
        theme.strong(),
    ));
    let range = |of: fn(&(f64, f64)) -> f64| {
        let low = curve.points.iter().map(of).fold(f64::MAX, f64::min);
        let high = curve.points.iter().map(of).fold(f64::MIN, f64::max);
        // A flat curve lies in the middle.
        let room = if high > low {
            0.0
        } else {
            low.abs().max(1.0) / 2.0
        };
        [low - room, high + room]
    };
    if curve.points.is_empty() || area.height < 4 {
        frame.render_widget(block, area);
        return;
    }
    let (x, y) = (range(|point| point.0), range(|point| point.1));
    let steps = [curve.points[0].0, curve.points[curve.points.len() - 1].0];
    let dataset = Dataset::default()
        .marker(Marker::Braille)
        .graph_type(GraphType::Line)
        .style(theme.of(colour))
        .data(&curve.points);
    let chart = Chart::new(vec![dataset])
        .block(block)
        .x_axis(
            Axis::default()
                .bounds(x)
                .style(theme.faint())
                .labels(steps.map(|step| format!("{step:.0}"))),
        )
        .y_axis(
            Axis::default()
                .bounds(y)
                .style(theme.faint())
                .labels(y.map(number)),
        );
    frame.render_widget(chart, area);
}

fn draw_ranks(frame: &mut Frame<'_>, app: &App, detail: &Detail, theme: Theme, area: Rect) {
    let heading = "RANK  PHASE          STEP   MEMORY  GPU";
    let mut lines = vec![Line::styled(
        cut_line(heading, area.width.into()),
        theme.strong(),
    )];
    let note = detail.gpus.as_ref().map(|words| format!("GPU: {words}"));
    let width = usize::from(area.width).max(1);
    // Words wrap a little earlier than letters would.
    let notes = note
        .as_ref()
        .map_or(0, |note| (note.chars().count() + 12).div_ceil(width));
    let rows = usize::from(area.height).saturating_sub(1 + notes).max(1);
    // The rank that is looked at is among those shown.
    let chosen = app.rank as usize;
    let last = detail.ranks.len().saturating_sub(rows);
    let first = chosen.saturating_sub(rows / 2).min(last);
    for rank in detail.ranks.iter().skip(first).take(rows) {
        let text = cut_line(&rank_line(rank, detail.gpus.is_none()), area.width.into());
        let style = if rank.rank as usize == chosen {
            theme.strong()
        } else {
            ratatui::style::Style::new()
        };
        lines.push(Line::styled(text, style));
    }
    let height = u16::try_from(lines.len())
        .unwrap_or(u16::MAX)
        .min(area.height);
    let [table, below] =
        Layout::vertical([Constraint::Length(height), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(Text::from(lines)), table);
    if let Some(note) = note {
        let note = Paragraph::new(Span::styled(note, theme.faint())).wrap(Wrap { trim: true });
        frame.render_widget(note, below);
    }
}

fn rank_line(rank: &Rank, with_gpu: bool) -> String {
    let memory = format!("{:.1} GB", rank.resident_bytes as f64 / 1e9);
    let gpu = match &rank.gpu {
        Some(gpu) => gpu_words(gpu),
        None if with_gpu => "unknown".to_owned(),
        None => "-".to_owned(),
    };
    match rank.phase {
        Some(phase) => format!(
            "{:>4}  {phase:<10}  {:>7}  {memory:>7}  {gpu}",
            rank.rank, rank.step
        ),
        None => format!("{:>4}  no sign of life yet", rank.rank),
    }
}

/// `0: 97 %, 61.2 of 143.8 GB`: what is not known is left out.
fn gpu_words(gpu: &Use) -> String {
    let gb = |mib: u64| mib as f64 * 1.048_576e-3;
    let mut words = Vec::new();
    words.extend(gpu.utilisation.map(|percent| format!("{percent} %")));
    if let (Some(used), Some(total)) = (gpu.used_mib, gpu.total_mib) {
        words.push(format!("{:.1} of {:.1} GB", gb(used), gb(total)));
    }
    if words.is_empty() {
        words.push("its driver tells nothing".into());
    }
    format!("{}: {}", gpu.index, words.join(", "))
}

fn draw_log(frame: &mut Frame<'_>, app: &App, detail: &Detail, theme: Theme, area: Rect) {
    let ranks = detail.ranks.len();
    let of = if ranks > 1 {
        format!(" of {ranks} (r: the next)")
    } else {
        String::new()
    };
    let name = if app.rank == detail.rank {
        &detail.log_name
    } else {
        ""
    };
    let mut lines = vec![Line::styled(
        cut(&format!("log: {name}{of}"), area.width.into()),
        theme.strong(),
    )];
    let rows = usize::from(area.height).saturating_sub(1);
    let first = detail.log.len().saturating_sub(rows);
    let width = usize::from(area.width);
    lines.extend(
        detail.log[first..]
            .iter()
            .map(|line| Line::raw(cut_line(line, width))),
    );
    frame.render_widget(Paragraph::new(Text::from(lines)), area);
}
