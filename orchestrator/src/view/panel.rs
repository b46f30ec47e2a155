//! One system of axes with its curves and legend, laid out by the size of its texts.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::plot::{
    AXIS, GRID, INK, Line, Panel, Picture, SOFT, across, axis_name, colour, fitting, text,
};
use super::ticks;

type Done = Result<(), Box<dyn std::error::Error>>;
type Area<DB> = DrawingArea<DB, Shift>;

/// More curves than this are not named one by one.
const NAMED: usize = 16;

/// Where values lie on the area.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    log: bool,
}

impl Scale {
    fn x(&self, value: f64) -> i32 {
        let share = (value - self.x.0) / (self.x.1 - self.x.0);
        self.left + (share * f64::from(self.right - self.left)).round() as i32
    }

    /// Of a place on the axis: its logarithm where that is logarithmic.
    fn y_at(&self, place: f64) -> i32 {
        let share = ((place - self.y.0) / (self.y.1 - self.y.0)).clamp(-0.1, 1.1);
        self.bottom - (share * f64::from(self.bottom - self.top)).round() as i32
    }

    fn y(&self, value: f64) -> i32 {
        if self.log {
            self.y_at(value.max(f64::MIN_POSITIVE).log10())
        } else {
            self.y_at(value)
        }
    }
}

pub(super) fn draw<DB: DrawingBackend>(
    panel: &Panel,
    picture: &Picture,
    area: &Area<DB>,
    scale: f64,
) -> Done
where
    DB::ErrorType: 'static,
{
    let px = |length: f64| (length * scale).round() as i32;
    let (width, height) = area.dim_in_pixel();
    let (width, height) = (width as i32, height as i32);
    let title = text(22.0 * scale, &INK);
    area.draw(&Text::new(
        fitting(area, &panel.title, &title, width - px(60.0))?,
        (px(24.0), px(12.0)),
        title,
    ))?;
    let Some((x, y)) = ranges(panel, picture.log) else {
        let style = text(20.0 * scale, &SOFT).pos(Pos::new(HPos::Center, VPos::Center));
        area.draw(&Text::new(
            "nothing recorded yet",
            (width / 2, height / 2),
            style,
        ))?;
        return Ok(());
    };
    let top = legend(panel, area, scale, width)?;
    let small = text(17.0 * scale, &SOFT);
    let values: Vec<(f64, String)> = if picture.log {
        let places = ticks::logarithmic(y.0, y.1);
        places
            .into_iter()
            .map(|place| (place, ticks::label(10_f64.powf(place))))
            .collect()
    } else {
        let places = ticks::linear(y.0, y.1, 6.0);
        places
            .into_iter()
            .map(|place| (place, ticks::label(place)))
            .collect()
    };
    let mut widest = 0;
    for (_, name) in &values {
        widest = widest.max(area.estimate_text_size(name, &small)?.0 as i32);
    }
    let scaled = Scale {
        x,
        y,
        left: px(24.0) + widest + px(10.0),
        right: width - px(28.0),
        top: top + px(8.0),
        bottom: height - px(66.0),
        log: picture.log,
    };
    grid(picture, &scaled, &values, area, scale)?;
    for line in &panel.lines {
        curve(line, &scaled, area, scale)?;
    }
    Ok(())
}

/// What all values lie in, with a little room; `None` if there are none.
fn ranges(panel: &Panel, log: bool) -> Option<((f64, f64), (f64, f64))> {
    let place = |value: f64| if log { value.log10() } else { value };
    let mut x = (f64::MAX, f64::MIN);
    let mut y = (f64::MAX, f64::MIN);
    let mut lowest = f64::MAX;
    for line in &panel.lines {
        let edges = line
            .band
            .iter()
            .flat_map(|(x, low, high)| [(*x, *low), (*x, *high)]);
        let points = line.points.iter().chain(&line.faint).copied().chain(edges);
        for (at, value) in points.filter(|(_, value)| value.is_finite() && !(log && *value <= 0.0))
        {
            x = (x.0.min(at), x.1.max(at));
            y = (y.0.min(place(value)), y.1.max(place(value)));
            lowest = lowest.min(value);
        }
    }
    if x.0 > x.1 {
        return None;
    }
    if x.0 == x.1 {
        x = (x.0 - 0.5, x.1 + 0.5);
    }
    let room = match (y.1 - y.0) * 0.06 {
        room if room > 0.0 => room,
        _ => (y.1.abs() * 0.05).max(0.05),
    };
    y = (y.0 - room, y.1 + room);
    if !log && lowest >= 0.0 {
        y.0 = y.0.max(0.0);
    }
    Some((x, y))
}

/// Names the curves above the axes, in as many rows as they need, and gives where these end.
fn legend<DB: DrawingBackend>(
    panel: &Panel,
    area: &Area<DB>,
    scale: f64,
    width: i32,
) -> Result<i32, Box<dyn std::error::Error>>
where
    DB::ErrorType: 'static,
{
    let px = |length: f64| (length * scale).round() as i32;
    let style = text(17.0 * scale, &INK).pos(Pos::new(HPos::Left, VPos::Center));
    let row = px(24.0);
    let (mut x, mut y) = (px(24.0), px(56.0));
    if panel.lines.len() == 1 && panel.lines[0].label == panel.title {
        return Ok(px(44.0));
    }
    for line in panel.lines.iter().take(NAMED) {
        let label = fitting(area, &line.label, &style, width - px(110.0))?;
        let own = px(34.0) + area.estimate_text_size(&label, &style)?.0 as i32 + px(22.0);
        if x + own > width - px(20.0) && x > px(24.0) {
            (x, y) = (px(24.0), y + row);
        }
        let stroke = colour(line.colour).stroke_width(px(3.0) as u32);
        area.draw(&PathElement::new([(x, y), (x + px(26.0), y)], stroke))?;
        area.draw(&Text::new(label, (x + px(34.0), y), style.clone()))?;
        x += own;
    }
    if panel.lines.len() > NAMED {
        let more = format!("and {} more", panel.lines.len() - NAMED);
        y += row;
        area.draw(&Text::new(more, (px(24.0), y), style))?;
    }
    Ok(y + row / 2)
}

fn grid<DB: DrawingBackend>(
    picture: &Picture,
    scaled: &Scale,
    values: &[(f64, String)],
    area: &Area<DB>,
    scale: f64,
) -> Done
where
    DB::ErrorType: 'static,
{
    let px = |length: f64| (length * scale).round() as i32;
    let small = text(17.0 * scale, &SOFT);
    let hair = |colour: RGBColor| colour.stroke_width(px(1.0).max(1) as u32);
    for (place, name) in values {
        let y = scaled.y_at(*place);
        area.draw(&PathElement::new(
            [(scaled.left, y), (scaled.right, y)],
            hair(GRID),
        ))?;
        let style = small.pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(name.clone(), (scaled.left - px(8.0), y), style))?;
    }
    let room = f64::from(scaled.right - scaled.left) / scale / 95.0;
    for (place, name) in across(picture.axis, scaled.x.0, scaled.x.1, room) {
        let x = scaled.x(place);
        let tick = [(x, scaled.bottom), (x, scaled.bottom + px(5.0))];
        area.draw(&PathElement::new(tick, hair(AXIS)))?;
        let style = small.pos(Pos::new(HPos::Center, VPos::Top));
        area.draw(&Text::new(name, (x, scaled.bottom + px(9.0)), style))?;
    }
    let base = [(scaled.left, scaled.bottom), (scaled.right, scaled.bottom)];
    area.draw(&PathElement::new(base, hair(AXIS)))?;
    let style = text(18.0 * scale, &INK).pos(Pos::new(HPos::Center, VPos::Top));
    let middle = ((scaled.left + scaled.right) / 2, scaled.bottom + px(34.0));
    area.draw(&Text::new(axis_name(picture.axis), middle, style))?;
    Ok(())
}

fn curve<DB: DrawingBackend>(line: &Line, scaled: &Scale, area: &Area<DB>, scale: f64) -> Done
where
    DB::ErrorType: 'static,
{
    let colour = colour(line.colour);
    let at = |(x, y): &(f64, f64)| (scaled.x(*x), scaled.y(*y));
    if !line.band.is_empty() {
        let upper = line
            .band
            .iter()
            .map(|(x, _, high)| (scaled.x(*x), scaled.y(*high)));
        let lower = line
            .band
            .iter()
            .rev()
            .map(|(x, low, _)| (scaled.x(*x), scaled.y(*low)));
        let outline: Vec<(i32, i32)> = upper.chain(lower).collect();
        area.draw(&Polygon::new(outline, colour.mix(0.2).filled()))?;
    }
    let stroke = |width: f64| (width * scale).round().max(1.0) as u32;
    if line.faint.len() > 1 {
        let points: Vec<(i32, i32)> = line.faint.iter().map(at).collect();
        area.draw(&PathElement::new(
            points,
            colour.mix(0.25).stroke_width(stroke(1.0)),
        ))?;
    }
    let points: Vec<(i32, i32)> = line.points.iter().map(at).collect();
    if line.dots {
        for point in &points {
            area.draw(&Circle::new(*point, stroke(4.0), colour.filled()))?;
        }
    }
    if points.len() > 1 {
        area.draw(&PathElement::new(points, colour.stroke_width(stroke(2.0))))?;
    }
    Ok(())
}
