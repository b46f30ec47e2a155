//! Curves as a PNG or an SVG.

use std::path::Path;
use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use serde::Serialize;

use super::Axis;
use super::ticks;

/// Size of a panel in pixels.
const PANEL: (u32, u32) = (800, 600);
/// Ubuntu Light, from the crate `epaint_default_fonts` (Ubuntu Font Licence 1.0).
const FONT: &str = "rocket";
/// What an SVG asks for in its place: text stays text there.
const SVG_FONT: &str = "Ubuntu, 'DejaVu Sans', Verdana, sans-serif";
/// A PNG is drawn so many times larger and made small again, for smooth edges.
const FINE: u32 = 2;

/// Distinguishable with the common kinds of colour blindness (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(106, 81, 163),
    RGBColor(77, 77, 77),
];
/// Titles.
pub(super) const INK: RGBColor = RGBColor(38, 44, 54);
/// Numbers along the axes.
pub(super) const SOFT: RGBColor = RGBColor(84, 95, 112);
/// Lines behind the curves.
pub(super) const GRID: RGBColor = RGBColor(230, 233, 238);
/// The axis itself.
pub(super) const AXIS: RGBColor = RGBColor(160, 168, 180);

/// What is drawn.
#[derive(Debug, Serialize)]
pub(crate) struct Picture {
    /// Above all; may be empty.
    pub(crate) title: String,
    /// Below each panel.
    #[serde(skip)]
    pub(crate) axis: Axis,
    /// Values on a logarithmic axis.
    pub(crate) log: bool,
    /// Two side by side.
    pub(crate) panels: Vec<Panel>,
}

/// One system of axes.
#[derive(Debug, Serialize)]
pub(crate) struct Panel {
    /// Of its values.
    pub(crate) title: String,
    /// Its curves.
    pub(crate) lines: Vec<Line>,
}

/// A curve.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    /// In the legend.
    pub(crate) label: String,
    /// Number of its colour.
    #[serde(skip)]
    pub(crate) colour: usize,
    /// What is drawn strongly.
    pub(crate) points: Vec<(f64, f64)>,
    /// What is drawn faintly behind it.
    pub(crate) faint: Vec<(f64, f64)>,
    /// Place, lower and upper edge.
    pub(crate) band: Vec<(f64, f64, f64)>,
    /// Points are marked.
    #[serde(skip)]
    pub(crate) dots: bool,
}

/// The form of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Pixels.
    Png,
    /// Paths and text.
    Svg,
}

impl Form {
    /// By a file's ending.
    ///
    /// # Errors
    /// Another ending.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        match ending.to_lowercase().as_str() {
            "png" => Ok(Self::Png),
            "svg" => Ok(Self::Svg),
            _ => Err(Error::new(
                ExitKind::Usage,
                format!("'{}' ends neither in .png nor in .svg", path.display()),
            )
            .hint("name the picture for example curves.png")),
        }
    }
}

/// Draws a picture.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn plot(picture: &Picture, form: Form, path: &Path) -> Result<()> {
    static FONTS: Once = Once::new();
    FONTS.call_once(|| {
        // The bytes are a font: drawing would fail, not this.
        let _ = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
    let drawn = match form {
        Form::Png => png(picture, path),
        Form::Svg => svg(picture, path),
    };
    drawn.map_err(|error| {
        Error::new(
            ExitKind::Internal,
            format!("cannot draw '{}': {error}", path.display()),
        )
    })
}

type Done = Result<(), Box<dyn std::error::Error>>;
type Area<DB> = DrawingArea<DB, Shift>;

fn png(picture: &Picture, path: &Path) -> Done {
    let (width, height) = picture.size();
    let large = (width * FINE, height * FINE);
    let mut pixels = vec![255_u8; large.0 as usize * large.1 as usize * 3];
    draw(
        picture,
        &BitMapBackend::with_buffer(&mut pixels, large).into_drawing_area(),
        f64::from(FINE),
    )?;
    let image = image::RgbImage::from_raw(large.0, large.1, pixels).ok_or("too large")?;
    let small = image::imageops::thumbnail(&image, width, height);
    small.save_with_format(path, image::ImageFormat::Png)?;
    Ok(())
}

fn svg(picture: &Picture, path: &Path) -> Done {
    let mut text = String::new();
    draw(
        picture,
        &SVGBackend::with_string(&mut text, picture.size()).into_drawing_area(),
        1.0,
    )?;
    let font = format!("font-family=\"{FONT}\"");
    std::fs::write(
        path,
        text.replace(&font, &format!("font-family=\"{SVG_FONT}\"")),
    )?;
    Ok(())
}

impl Picture {
    fn columns(&self) -> u32 {
        if self.panels.len() < 2 { 1 } else { 2 }
    }

    fn size(&self) -> (u32, u32) {
        let rows = (self.panels.len() as u32).div_ceil(self.columns()).max(1);
        let title = if self.title.is_empty() { 20 } else { 64 };
        (PANEL.0 * self.columns(), PANEL.1 * rows + title)
    }
}

fn draw<DB: DrawingBackend>(picture: &Picture, root: &Area<DB>, scale: f64) -> Done
where
    DB::ErrorType: 'static,
{
    root.fill(&WHITE)?;
    let px = |length: u32| (f64::from(length) * scale) as i32;
    let (width, height) = root.dim_in_pixel();
    if !picture.title.is_empty() {
        let style = text(26.0 * scale, &INK).pos(Pos::new(HPos::Center, VPos::Center));
        let title = fitting(root, &picture.title, &style, width as i32 - px(40))?;
        root.draw(&Text::new(title, (width as i32 / 2, px(36)), style))?;
    }
    let top = height as i32 - px(picture.size().1 - if picture.title.is_empty() { 20 } else { 64 });
    for (index, panel) in picture.panels.iter().enumerate() {
        let column = index as i32 % picture.columns() as i32;
        let row = index as i32 / picture.columns() as i32;
        let (x, y) = (column * px(PANEL.0), top + row * px(PANEL.1));
        let area = root.clone().shrink((x, y), (px(PANEL.0), px(PANEL.1)));
        super::panel::draw(panel, picture, &area, scale)?;
    }
    root.present()?;
    Ok(())
}

/// A style of text.
pub(super) fn text(size: f64, colour: &'static RGBColor) -> TextStyle<'static> {
    TextStyle::from((FONT, size).into_font()).color(colour)
}

/// A text cut to a width in its middle, where names of runs differ least.
pub(super) fn fitting<DB: DrawingBackend>(
    area: &Area<DB>,
    words: &str,
    style: &TextStyle<'_>,
    width: i32,
) -> Result<String, Box<dyn std::error::Error>>
where
    DB::ErrorType: 'static,
{
    let chars: Vec<char> = words.chars().collect();
    let mut kept = chars.len();
    loop {
        let shown = if kept == chars.len() {
            words.to_owned()
        } else {
            let (head, tail) = (kept / 2, kept - kept / 2);
            let start: String = chars[..head].iter().collect();
            let end: String = chars[chars.len() - tail..].iter().collect();
            format!("{start}…{end}")
        };
        let (wide, _) = area.estimate_text_size(&shown, style)?;
        if wide as i32 <= width || kept <= 4 {
            return Ok(shown);
        }
        kept -= 1;
    }
}

/// The colour of a number.
pub(super) fn colour(number: usize) -> RGBColor {
    COLOURS[number % COLOURS.len()]
}

/// Ticks and their names along the horizontal axis.
pub(super) fn across(axis: Axis, low: f64, high: f64, count: f64) -> Vec<(f64, String)> {
    let (places, name): (Vec<f64>, fn(f64) -> String) = match axis {
        Axis::Time => (ticks::seconds(low, high, count), ticks::time_label),
        _ => (ticks::linear(low, high, count), ticks::label),
    };
    places
        .into_iter()
        .map(|place| (place, name(place)))
        .collect()
}

/// The name of an axis.
pub(super) fn axis_name(axis: Axis) -> &'static str {
    match axis {
        Axis::Step => "step",
        Axis::Epoch => "epoch",
        Axis::Time => "training time",
        Axis::Samples => "samples",
    }
}
