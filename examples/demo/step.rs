//! Progress on the terminal and how long each step took.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use indicatif::ProgressBar;

/// The steps so far.
pub(crate) struct Steps {
    done: Vec<(&'static str, Duration)>,
    spinner: Option<ProgressBar>,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self { done: Vec::new(), spinner: None }
    }

    /// Wait for a step and remember its duration.
    pub(crate) async fn run<T>(
        &mut self,
        name: &'static str,
        step: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let spinner = ProgressBar::new_spinner().with_message(name);
        spinner.enable_steady_tick(Duration::from_millis(100));
        self.spinner = Some(spinner);
        let start = Instant::now();
        let value = step.await.context(name)?;
        let took = start.elapsed();
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        println!("✔ {name} ({:.2} s)", took.as_secs_f64());
        self.done.push((name, took));
        Ok(value)
    }

    /// Clear the progress of the step that did not end.
    pub(crate) fn fail(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }

    pub(crate) fn print(&self) {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["STEP", "SECONDS"]);
        for (name, took) in &self.done {
            table.add_row([(*name).to_owned(), format!("{:.2}", took.as_secs_f64())]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("\n{table}");
    }
}
