//! The results as a page for people: each figure over the number of Services, a line a mode.
//!
//! `index.html` holds its plots inline and loads nothing; `results.json` is the harness's JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use plotters::prelude::*;

use crate::outcome::{Outcome, Report};

/// Write the page and the data into a directory, which is made if there is none.
pub(crate) fn write(dir: &Path, report: &Report) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    keep(dir, "results.json", &(serde_json::to_string_pretty(report)? + "\n"))?;
    keep(dir, "index.html", &page(report)?)
}

fn keep(dir: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = dir.join(name);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

fn page(report: &Report) -> anyhow::Result<String> {
    let mut plots = String::new();
    for (metric, title) in PLOTS {
        let lines = lines(report.results(), metric);
        if !lines.is_empty() {
            plots += &plot(title, &lines)?;
            plots += "\n";
        }
    }
    let about = serde_json::to_string_pretty(&report.about())?;
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>pintle bench \
         dataplane</title>\n<style>body {{ font-family: sans-serif; margin: 2em; }} svg {{ \
         max-width: 100%; height: auto; }}</style></head>\n<body>\n<h1>pintle bench \
         dataplane</h1>\n<pre>{}</pre>\n<div>\n{plots}</div>\n<pre>{}</pre>\n</body></html>\n",
        escape(&about),
        escape(&report.table().to_string())
    ))
}

/// Of each mode, the figure by number of Services.
fn lines<'a>(outcomes: &'a [Outcome], metric: &str) -> BTreeMap<&'a str, Vec<(f64, f64)>> {
    let mut lines = BTreeMap::<_, Vec<_>>::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.metric == metric) {
        let services = outcome.case.strip_prefix("services/").and_then(|text| text.parse().ok());
        if let Some(services) = services {
            lines.entry(outcome.mode.as_str()).or_default().push((services, outcome.value));
        }
    }
    lines
}

fn plot(title: &str, lines: &BTreeMap<&str, Vec<(f64, f64)>>) -> anyhow::Result<String> {
    let points = || lines.values().flatten();
    let most = points().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max);
    let sizes: BTreeSet<u64> = points().map(|point| point.0 as u64).collect();
    let first = sizes.first().map_or(1.0, |size| *size as f64) / 1.5;
    let last = sizes.last().map_or(1.0, |size| *size as f64) * 1.5;
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, (600, 320)).into_drawing_area();
        canvas.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&canvas)
            .caption(title, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d((first..last).log_scale(), 0.0..most * 1.1)
            .map_err(failed)?;
        chart.configure_mesh().x_desc("Services").draw().map_err(failed)?;
        for (index, (mode, points)) in lines.iter().enumerate() {
            let color = Palette99::pick(index).to_rgba();
            let line = PathElement::new(points.clone(), color.stroke_width(2));
            chart
                .draw_series([line])
                .map_err(failed)?
                .label(*mode)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
            let dots = points.iter().map(|point| Circle::new(*point, 3, color.filled()));
            chart.draw_series(dots).map_err(failed)?;
        }
        let mut labels = chart.configure_series_labels();
        labels.background_style(WHITE.mix(0.8)).border_style(BLACK).draw().map_err(failed)?;
        canvas.present().map_err(failed)?;
    }
    Ok(svg)
}

/// The plotting library's errors are of a type for each back end.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("draw a plot: {error}")
}

const PLOTS: [(&str, &str); 10] = [
    ("connect_p50", "connect(), median, us"),
    ("connect_p99", "connect(), 99th percentile, us"),
    ("connect_last_p50", "connect() to the last Service, median, us"),
    ("connections_per_second", "Connections with a request, 1/s"),
    ("keepalive_rps", "Requests on kept connections, 1/s"),
    ("node_port_connect_p50", "connect() to a node port from outside, median, us"),
    ("node_port_connections_per_second", "Connections to node ports, 1/s"),
    ("program_all_seconds", "From no Service to all, s"),
    ("endpoint_change_p99", "A changed endpoint, 99th percentile, ms"),
    ("memory_user", "Memory of the daemon, MiB"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let of = |services: u32, mode: &str, metric: &str| {
            Outcome::new(&format!("services/{services}"), mode, metric, "us", f64::from(services))
        };
        let outcomes = vec![
            of(10, "direct", "connect_p50"),
            of(1000, "direct", "connect_p50"),
            of(10, "pintle", "connect_p50"),
            of(10, "pintle/direct", "connect_p50_ratio"),
            of(10, "pintle", "program_all_seconds"),
        ];
        write(dir.path(), &Report::new("dataplane", outcomes)).unwrap();
        let page = fs::read_to_string(dir.path().join("index.html")).unwrap();
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(page.contains("pintle/direct"), "the table has what no plot shows");
        let outside = ["src=", "url(", "@import", "<script", "<link"];
        assert!(outside.iter().all(|part| !page.contains(part)));
    }
}
