//! A plot for each row: a group of bars for each point, a bar for each model.

use std::path::Path;

use plotters::prelude::*;
use wasmtime::{Error, Result};

use super::models_and_points;
use crate::measure::Measured;

/// Pixels.
const WIDTH: u32 = 760;
const HEIGHT: u32 = 340;
/// From here on, the largest and the smallest value are too far apart for a linear axis.
const FAR_APART: f64 = 30.0;
/// Told apart also by those who don't see all colours (Okabe and Ito).
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(110, 110, 110),
    RGBColor(240, 228, 66),
    RGBColor(0, 0, 0),
];

/// Draws one row.
pub(super) fn draw(path: &Path, row: &str, all: &[&Measured]) -> Result<()> {
    try_to_draw(path, row, all).map_err(|error| Error::msg(format!("drawing {}: {error}", path.display())))
}

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn try_to_draw(path: &Path, row: &str, all: &[&Measured]) -> Drawn {
    let (models, points) = models_and_points(all);
    let values = || all.iter().map(|measured| measured.median);
    let (lowest, highest) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(0.0, f64::max),
    );
    let is_log = highest / lowest > FAR_APART;
    // A bar has to begin somewhere on an axis that has no zero.
    let (scale, bottom): (fn(f64) -> f64, f64) = match is_log {
        true => (f64::log10, (lowest.log10() - 0.1).floor()),
        false => (|value| value, 0.0),
    };
    // Room for the legend above the bars: a line for each model.
    let legend = (models.len() as f64 * 16.0 + 14.0) / f64::from(HEIGHT - 70);
    let top = bottom + (scale(highest) - bottom) / (1.0 - legend.min(0.8));
    let unit = all.first().map_or("", |measured| measured.unit);

    let area = SVGBackend::new(path, (WIDTH, HEIGHT)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(row, ("sans-serif", 17))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(66)
        .build_cartesian_2d(0.0..points.len() as f64, bottom..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(points.len() * 2 + 1)
        .x_label_formatter(&|x| {
            let is_middle = (x.fract() - 0.5).abs() < 0.01;
            let point = points.get(*x as usize).filter(|_| is_middle);
            point.map_or_else(String::new, |point| (*point).to_owned())
        })
        .y_desc(unit)
        .y_label_formatter(&|y| number(if is_log { 10_f64.powf(*y) } else { *y }))
        .light_line_style(WHITE)
        .draw()?;
    let width = 0.8 / models.len() as f64;
    for (place, model) in models.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let of_model = all.iter().filter(|measured| measured.model == *model);
        let bars = of_model.filter_map(|measured| {
            let group = points.iter().position(|point| *point == measured.at)?;
            let left = group as f64 + 0.1 + place as f64 * width;
            let corners = [(left, bottom), (left + width * 0.92, scale(measured.median))];
            Some(Rectangle::new(corners, colour.filled()))
        });
        chart
            .draw_series(bars)?
            .label(*model)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .draw()?;
    area.present()?;
    Ok(())
}

/// A number on an axis.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1e6 => format!("{:.1}M", value / 1e6),
        large if large >= 1e4 => format!("{:.0}k", value / 1e3),
        large if large >= 10.0 || large == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}
