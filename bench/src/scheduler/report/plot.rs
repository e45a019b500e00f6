//! The plots, as SVG.

use std::ops::Range;
use std::time::Duration;

use anyhow::anyhow;
use plotters::prelude::*;

type Canvas<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Pods per second over time.
pub(super) fn throughput(window: Duration, values: &[f64]) -> anyhow::Result<String> {
    let seconds = |at: usize| at as f64 * window.as_secs_f64();
    let most = values.iter().copied().fold(1.0, f64::max);
    let end = seconds(values.len()).max(1e-6);
    draw(|canvas| {
        let axes =
            Axes { title: "Throughput, pods/s", x: "seconds", columns: 0.0..end, rows: 0.0..most };
        bars(
            canvas,
            &axes,
            values.iter().enumerate().map(|(at, value)| (seconds(at), seconds(at + 1), *value)),
        )
    })
}

/// How many attempts took how long; every column is twice as wide as the one before.
pub(super) fn latencies(attempts_ns: &[u64]) -> anyhow::Result<String> {
    let mut counts = [0_u32; u64::BITS as usize];
    for took in attempts_ns {
        counts[took.max(&1).ilog2() as usize] += 1;
    }
    let first = counts.iter().position(|count| *count > 0).unwrap_or(0);
    let last = counts.iter().rposition(|count| *count > 0).unwrap_or(0);
    let most = f64::from(counts.iter().copied().max().unwrap_or(0).max(1));
    let title = "Attempts by how long they took";
    draw(|canvas| {
        let columns = first as f64..(last + 1) as f64;
        let axes = Axes { title, x: "log2 of nanoseconds", columns, rows: 0.0..most };
        let bars_of = counts.iter().enumerate();
        bars(
            canvas,
            &axes,
            bars_of.map(|(at, count)| (at as f64, at as f64 + 1.0, f64::from(*count))),
        )
    })
}

/// A field for each node, or for a few neighbours by name; the darker, the fuller.
pub(super) fn heat(title: &str, shares: &[f32]) -> anyhow::Result<String> {
    let per_field = shares.len().div_ceil(FIELDS_MAX).max(1);
    let fields: Vec<f32> = shares
        .chunks(per_field)
        .map(|chunk| chunk.iter().sum::<f32>() / chunk.len() as f32)
        .collect();
    let columns = (fields.len() as f64).sqrt().ceil().max(1.0) as usize;
    let lines = fields.len().div_ceil(columns).max(1);
    let title = match per_field {
        1 => title.to_owned(),
        _ => format!("{title} (each field the mean of {per_field} nodes)"),
    };
    draw(|canvas| {
        let canvas = canvas.titled(&title, ("sans-serif", 18)).map_err(failed)?;
        let (width, height) = canvas.dim_in_pixel();
        for (at, share) in fields.iter().enumerate() {
            let (column, line) = (at % columns, at / columns);
            let x = |column: usize| (column * width as usize / columns) as i32;
            let y = |line: usize| (line * height as usize / lines) as i32;
            let corners = [(x(column), y(line)), (x(column + 1), y(line + 1))];
            canvas.draw(&Rectangle::new(corners, shade(*share).filled())).map_err(failed)?;
        }
        Ok(())
    })
}

/// White for nothing, over yellow and red, to black for a node that is more than full.
fn shade(share: f32) -> RGBColor {
    let share = share.clamp(0.0, 1.0);
    let byte = |value: f32| (value.clamp(0.0, 1.0) * 255.0) as u8;
    RGBColor(byte(1.8 - share), byte(1.0 - share), byte(0.9 - 2.0 * share))
}

struct Axes<'a> {
    title: &'a str,
    x: &'a str,
    columns: Range<f64>,
    rows: Range<f64>,
}

fn bars(
    canvas: &Canvas<'_>,
    axes: &Axes<'_>,
    bars: impl Iterator<Item = (f64, f64, f64)>,
) -> anyhow::Result<()> {
    let rows = axes.rows.start..axes.rows.end * 1.05;
    let mut chart = ChartBuilder::on(canvas)
        .caption(axes.title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(axes.columns.clone(), rows)
        .map_err(failed)?;
    chart.configure_mesh().x_desc(axes.x).draw().map_err(failed)?;
    let bars = bars.filter(|(_, _, height)| *height > 0.0);
    let shapes = bars.map(|(from, to, height)| {
        Rectangle::new([(from, 0.0), (to, height)], RGBColor(70, 110, 160).filled())
    });
    chart.draw_series(shapes).map_err(failed)?;
    Ok(())
}

fn draw(paint: impl FnOnce(&Canvas<'_>) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, (600, 320)).into_drawing_area();
        canvas.fill(&WHITE).map_err(failed)?;
        paint(&canvas)?;
        canvas.present().map_err(failed)?;
    }
    Ok(svg)
}

fn failed(error: impl std::error::Error) -> anyhow::Error {
    anyhow!("draw a plot: {error}")
}

/// Fields of a heat map: more are smaller than can be seen.
const FIELDS_MAX: usize = 2_500;
