//! The table of workloads: a row for each, printed as it ends.

use super::CaseRun;

/// The table's shape.
pub(crate) struct Rows {
    width: usize,
}

impl Rows {
    /// Wide enough for these names.
    pub(crate) fn of(names: impl Iterator<Item = String>) -> Self {
        Self { width: names.map(|name| name.len()).max().unwrap_or(0).max("WORKLOAD".len()) }
    }

    pub(crate) fn header(&self, mode: &str) -> String {
        let width = self.width;
        format!(
            "mode {}; throughput in pods/s, an attempt in us, memory in bytes, balance as the \
             standard deviation of use over nodes\n\
             {:width$} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7} {:>4} {:>13}",
            mode,
            "WORKLOAD",
            "AVERAGE",
            "P50",
            "P90",
            "P95",
            "P99",
            "ATT P50",
            "ATT P99",
            "CPU S",
            "B/POD",
            "B/NODE",
            "PENDING",
            "OVER",
            "BALANCE C/M"
        )
    }

    pub(crate) fn row(&self, run: &CaseRun) -> String {
        let (width, figures) = (self.width, &run.figures);
        let outcomes = figures.outcomes("", "");
        let value = |metric: &str| {
            let found = outcomes.iter().find(|outcome| outcome.metric == metric);
            found.map_or(0.0, |outcome| outcome.value)
        };
        let (cpu, memory) = figures.balance();
        let mut row = format!("{:width$}", run.name);
        for metric in ["average", "p50", "p90", "p95", "p99"] {
            row += &format!(" {:>9.0}", value(&format!("throughput_{metric}")));
        }
        for metric in ["attempt_latency_p50", "attempt_latency_p99"] {
            row += &format!(" {:>8.2}", value(metric));
        }
        row += &format!(
            " {:>7.3} {:>7.0} {:>7.0} {:>7} {:>4} {:>13}",
            figures.cpu.as_secs_f64(),
            figures.bytes_per_pod,
            figures.bytes_per_node,
            figures.pending,
            figures.overcommitted,
            format!("{cpu:.3}/{memory:.3}"),
        );
        if let Some(took) = figures.cold_start {
            let seconds = took.as_secs_f64();
            row +=
                &format!("\n{:width$}   from objects in memory to a decision: {seconds:.2} s", "");
        }
        if let Some(why) = &figures.cut {
            row += &format!("\n{:width$}   {why}", "");
        }
        row
    }

    pub(crate) fn failure(&self, name: &str, error: &anyhow::Error) -> String {
        let width = self.width;
        format!("{name:width$} failed: {error:#}")
    }
}
