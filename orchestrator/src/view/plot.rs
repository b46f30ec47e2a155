//! Curves as a PNG.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use super::{Point, Series};

/// Size of the picture in pixels: two panels side by side.
const SIZE: (u32, u32) = (1600, 700);
/// Ubuntu Light, from the crate `epaint_default_fonts` (Ubuntu Font Licence 1.0).
const FONT: &str = "rocket";

/// Distinguishable with the common kinds of colour blindness (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// Draws loss (left) and scores in per cent (right) over the optimiser steps.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn plot(title: &str, series: &Series, path: &Path) -> Result<()> {
    static FONTS: Once = Once::new();
    FONTS.call_once(|| {
        // The bytes are a font: drawing would fail, not this.
        let _ = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
    draw(title, series, path).map_err(|error| {
        Error::new(
            ExitKind::Internal,
            format!("cannot draw '{}': {error}", path.display()),
        )
    })
}

fn draw(title: &str, series: &Series, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut pixels = vec![255_u8; SIZE.0 as usize * SIZE.1 as usize * 3];
    {
        let root = BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let root = root.margin(12, 0, 0, 0).titled(title, (FONT, 30))?;
        let (left, right) = root.split_horizontally(SIZE.0 / 2);
        panel(&left, "loss", &losses(series), false)?;
        panel(&right, "zero-shot score (%)", &scores(series), true)?;
        root.present()?;
    }
    write_png(path, &pixels)
}

/// The loss. Its terms are in `metrics.jsonl`; eleven curves on one panel show none.
fn losses(series: &Series) -> BTreeMap<String, Vec<Point>> {
    series
        .train
        .iter()
        .filter(|(name, _)| *name == "loss")
        .map(|(name, curve)| (name.clone(), curve.clone()))
        .collect()
}

/// Accuracies of the two heads in per cent, as `metrics.jsonl` has them. The mixtures of the heads
/// lie between and are left out.
fn scores(series: &Series) -> BTreeMap<String, Vec<Point>> {
    series
        .eval
        .iter()
        .filter(|(name, _)| name.contains("top1") || name.contains("top5"))
        .filter(|(name, _)| !name.contains("zh_"))
        .map(|(name, curve)| (name.clone(), curve.clone()))
        .collect()
}

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

fn panel(
    area: &Area<'_>,
    label: &str,
    curves: &BTreeMap<String, Vec<Point>>,
    from_zero: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || {
        curves
            .values()
            .flatten()
            .filter(|(_, value)| value.is_finite())
    };
    if points().next().is_none() {
        let middle = (SIZE.0 as i32 / 4 - 60, SIZE.1 as i32 / 2);
        area.draw(&Text::new(format!("no {label} yet"), middle, (FONT, 22)))?;
        return Ok(());
    }
    let last = points().map(|(step, _)| *step).max().unwrap_or(1);
    let mut chart = ChartBuilder::on(area)
        .margin(20)
        .x_label_area_size(50)
        .y_label_area_size(75)
        .build_cartesian_2d(
            0..last.max(1),
            range(points().map(|(_, value)| *value), from_zero),
        )?;
    chart
        .configure_mesh()
        .light_line_style(RGBColor(244, 244, 244))
        .bold_line_style(RGBColor(225, 225, 225))
        .x_desc("step")
        .y_desc(label)
        .x_labels(8)
        .y_labels(8)
        .label_style((FONT, 20))
        .axis_desc_style((FONT, 22))
        .draw()?;
    for ((name, curve), colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<Point> = curve
            .iter()
            .copied()
            .filter(|(_, v)| v.is_finite())
            .collect();
        if points.len() <= 60 {
            let dots = points
                .iter()
                .map(|point| Circle::new(*point, 4, colour.filled()));
            chart.draw_series(dots)?;
        }
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .label_font((FONT, 20))
        .position(if from_zero {
            SeriesLabelPosition::LowerRight
        } else {
            SeriesLabelPosition::UpperRight
        })
        .draw()?;
    Ok(())
}

/// From least to greatest with a little room, never empty.
fn range(values: impl Iterator<Item = f64>, from_zero: bool) -> Range<f64> {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let room = ((high - low) * 0.05).max(high.abs() * 0.02).max(1e-6);
    (if from_zero {
        0.0_f64.min(low)
    } else {
        low - room
    })..high + room
}

fn write_png(path: &Path, pixels: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    image::save_buffer_with_format(
        path,
        pixels,
        SIZE.0,
        SIZE.1,
        image::ExtendedColorType::Rgb8,
        image::ImageFormat::Png,
    )?;
    Ok(())
}
