//! What a bench found, in the one shape that all benches share.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::host::{self, Host};

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// What was done, as `what/parameters`.
    pub case: String,
    /// In which way, for example `embedded` or `hollow`.
    pub mode: String,
    /// What was measured, for example `throughput` or `latency_p99`.
    pub metric: String,
    /// The unit of `value`.
    pub unit: String,
    /// The figure.
    pub value: f64,
}

impl Outcome {
    /// A figure of one case and mode.
    pub fn new(case: &str, mode: &str, metric: &str, unit: &str, value: f64) -> Self {
        let [case, mode, metric, unit] = [case, mode, metric, unit].map(str::to_owned);
        Self { case, mode, metric, unit, value }
    }
}

/// All figures of one bench, and where they were measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    bench: String,
    host: Host,
    commit: String,
    results: Vec<Outcome>,
}

impl Report {
    /// The figures with this machine and commit.
    #[must_use]
    pub fn new(bench: &str, results: Vec<Outcome>) -> Self {
        Self { bench: bench.to_owned(), host: Host::read(), commit: host::commit(), results }
    }

    /// The bench's name.
    #[must_use]
    pub fn bench(&self) -> &str {
        &self.bench
    }

    /// The machine and the commit.
    pub(crate) fn about(&self) -> serde_json::Value {
        serde_json::json!({ "host": self.host, "commit": self.commit })
    }

    /// The figures.
    pub(crate) fn results(&self) -> &[Outcome] {
        &self.results
    }

    /// A row for each figure.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table
            .load_style(UTF8_HORIZONTAL_ONLY)
            .set_header(["CASE", "MODE", "METRIC", "VALUE", "UNIT"]);
        for outcome in &self.results {
            let Outcome { case, mode, metric, unit, value } = outcome;
            table.add_row([case, mode, metric, &format_value(*value), unit]);
        }
        if let Some(column) = table.column_mut(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

/// Three significant digits or all before the point, whichever is more.
fn format_value(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_shape_is_the_documented_one() {
        let outcome = Outcome::new("put/64-writers", "embedded", "throughput", "ops/s", 1.5);
        let json = serde_json::to_value(Report::new("store", vec![outcome])).unwrap();
        let keys = |value: &serde_json::Value| {
            value.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(keys(&json), ["bench", "host", "commit", "results"]);
        assert_eq!(keys(&json["host"]), ["cpu", "cores", "kernel", "memory_bytes"]);
        assert_eq!(keys(&json["results"][0]), ["case", "mode", "metric", "unit", "value"]);
        assert_eq!(json["results"][0]["value"], 1.5);
    }

    #[test]
    fn values_keep_three_digits() {
        let shown = [0.0, 0.123_45, 1.234, 12.34, 123.4, 12_345.6].map(format_value);
        assert_eq!(shown, ["0", "0.123", "1.23", "12.3", "123", "12346"]);
    }
}
