//! The results as a page for people: plots of each workload, and the raw data beside it.
//!
//! `index.html` holds its plots inline and loads nothing. `results.json` is the harness's JSON; of each
//! workload `*.scheduled.csv`, `*.attempts.csv` and `*.nodes.csv` are what the plots are drawn from.

mod plot;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::{CaseRun, Rows};
use crate::outcome::Report;

/// Write the page and the data into a directory, which is made if there is none.
pub(crate) fn write(dir: &Path, runs: &[CaseRun], report: &Report) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    keep(dir, "results.json", &(serde_json::to_string_pretty(report)? + "\n"))?;
    let mut body = String::new();
    for run in runs {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let name = run.name.replace(|c| !is_plain(c), "_");
        let stem = format!("{name}.{}", run.mode);
        for (name, text) in raw(run) {
            keep(dir, &format!("{stem}.{name}.csv"), &text)?;
        }
        body += &section(run, &stem)?;
    }
    keep(dir, "index.html", &page(runs, report, &body)?)
}

fn keep(dir: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = dir.join(name);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// Of a workload, by the name of the file.
fn raw(run: &CaseRun) -> [(&'static str, String); 3] {
    let figures = &run.figures;
    let column = |head: &str, values: &[u64]| {
        values.iter().fold(format!("{head}\n"), |mut text, value| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{value}");
            text
        })
    };
    let nodes = figures.used.iter().fold("cpu,memory\n".to_owned(), |mut text, (cpu, memory)| {
        let _ = writeln!(text, "{cpu},{memory}");
        text
    });
    [
        ("scheduled", column("scheduled_at_ns", &figures.scheduled_at_ns)),
        ("attempts", column("attempt_ns", &figures.attempts_ns)),
        ("nodes", nodes),
    ]
}

fn section(run: &CaseRun, stem: &str) -> anyhow::Result<String> {
    let figures = &run.figures;
    let (window, throughput) = figures.windows();
    let mut text = format!("<h2>{} ({})</h2>\n", escape(&run.name), run.mode);
    if let Some(why) = &figures.cut {
        let _ = writeln!(text, "<p><strong>{}</strong></p>", escape(why));
    }
    text += "<div class=\"plots\">\n";
    let use_of_cpu: Vec<f32> = figures.used.iter().map(|used| used.0).collect();
    let use_of_memory: Vec<f32> = figures.used.iter().map(|used| used.1).collect();
    for svg in [
        plot::throughput(window, &throughput)?,
        plot::latencies(&figures.attempts_ns)?,
        plot::heat("CPU asked for on each node, share", &use_of_cpu)?,
        plot::heat("Memory asked for on each node, share", &use_of_memory)?,
    ] {
        text += &svg;
        text += "\n";
    }
    text += "</div>\n<p>Raw data:";
    for name in ["scheduled", "attempts", "nodes"] {
        let _ = write!(text, " <a href=\"{stem}.{name}.csv\">{name}</a>");
    }
    text += "</p>\n";
    Ok(text)
}

fn page(runs: &[CaseRun], report: &Report, body: &str) -> anyhow::Result<String> {
    let rows = Rows::of(runs.iter().map(|run| run.name.clone()));
    let mut table = String::new();
    for (at, run) in runs.iter().enumerate() {
        if at == 0 || runs[at - 1].mode != run.mode {
            let _ = writeln!(table, "{}", rows.header(&run.mode));
        }
        let _ = writeln!(table, "{}", rows.row(run));
    }
    let host = serde_json::to_string_pretty(&report.about())?;
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>pintle bench \
         scheduler</title>\n<style>body {{ font-family: sans-serif; margin: 2em; }} pre {{ \
         overflow-x: auto; }} .plots svg {{ max-width: 100%; height: auto; }}</style></head>\n\
         <body>\n<h1>pintle bench scheduler</h1>\n<pre>{}</pre>\n<pre>{}</pre>\n{body}</body></html>\n",
        escape(&host),
        escape(&table)
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Mode;
    use crate::scheduler::figures::Figures;

    fn run(pods: u64) -> CaseRun {
        let figures = Figures {
            scheduled_at_ns: (1..=pods).map(|pod| pod * 1_000_000).collect(),
            attempts_ns: (1..=pods).map(|pod| pod * 1_000).collect(),
            used: (0..pods).map(|pod| (pod as f32 / pods as f32, 0.5)).collect(),
            ..Figures::default()
        };
        CaseRun { name: "A<B/5Nodes".to_owned(), mode: Mode::Engine.name().to_owned(), figures }
    }

    #[test]
    fn the_page_needs_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        // Also of a workload in which nothing happened.
        let runs = [run(5_000), run(1), run(0)];
        write(dir.path(), &runs, &Report::new("scheduler", Vec::new())).unwrap();
        let page = fs::read_to_string(dir.path().join("index.html")).unwrap();
        assert_eq!(page.matches("<svg").count(), 12);
        assert!(page.contains("A&lt;B/5Nodes") && !page.contains("A<B"));
        let outside = ["src=", "url(", "@import", "<script", "<link"];
        assert!(outside.iter().all(|part| !page.contains(part)));
        let raw = fs::read_to_string(dir.path().join("A_B_5Nodes.engine.attempts.csv")).unwrap();
        assert_eq!(raw.lines().next(), Some("attempt_ns"));
    }
}
