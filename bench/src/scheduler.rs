//! Workloads of scheduler_perf, Kubernetes' own benchmark of kube-scheduler, against pintle's
//! scheduler.
//!
//! Configuration files are upstream's `performance-config.yaml`, unchanged. `engine` mode runs the
//! scheduler's core alone: the very code that the daemon runs, every default plugin on, state in
//! memory, from a decoded pod in the queue to a reserved node.

mod config;
mod engine;
mod figures;
mod template;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use indicatif::ProgressBar;

use crate::outcome::Outcome;

/// What schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// The core alone, state in memory
    Engine,
}

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// A file in the format of scheduler_perf; templates are found beside it
    #[arg(long, default_value = "bench/workloads/performance-config.yaml", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Which workloads, as NAME/SIZE or NAME for all its sizes; may be repeated
    #[arg(long, value_name = "NAME/SIZE")]
    pub(crate) workload: Vec<String>,
    /// Only workloads with this label
    #[arg(long, value_name = "LABEL")]
    pub(crate) label: Option<String>,
    /// What schedules
    #[arg(long, default_value = "engine", value_name = "MODE")]
    pub(crate) mode: Mode,
    /// Where the choice among equal nodes starts; the same seed gives the same placements
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// Give up on a workload in which nothing was scheduled for so long
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub(crate) patience: u64,
}

/// Run the workloads that the options name, one after the other.
pub(crate) fn run(options: &Options, progress: &ProgressBar) -> anyhow::Result<Vec<Outcome>> {
    let cases = config::read(&options.config)?;
    let directory = options.config.parent().unwrap_or(Path::new("."));
    let mut outcomes = Vec::new();
    for case in &cases {
        for workload in case.workloads.iter().filter(|w| options.wants(case, w)) {
            let name = format!("{}/{}", case.name, workload.name);
            progress.set_message(name.clone());
            let run = engine::Run::new(directory, case, workload, options.seed, options.patience);
            let figures = run.execute(progress).with_context(|| name.clone())?;
            outcomes.extend(figures.outcomes(&name, "engine"));
        }
    }
    let file = options.config.display();
    ensure!(!outcomes.is_empty(), "{file}: no workload is called {:?}", options.workload);
    Ok(outcomes)
}

impl Options {
    fn wants(&self, case: &config::Case, workload: &config::Workload) -> bool {
        let full = format!("{}/{}", case.name, workload.name);
        let is_named = |wanted: &String| *wanted == full || *wanted == case.name;
        (self.workload.is_empty() || self.workload.iter().any(is_named))
            && self.label.as_ref().is_none_or(|label| workload.labels.contains(label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every short workload of our own set, to its end.
    #[test]
    fn the_short_workloads_run() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads");
        let cases = config::read(&directory.join("performance-config.yaml")).unwrap();
        for case in &cases {
            for workload in case.workloads.iter().filter(|w| w.labels[0] == "short") {
                let run = engine::Run::new(&directory, case, workload, 1, 60);
                let figures = run.execute(&ProgressBar::hidden());
                let figures = figures.unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
                assert_eq!(figures.overcommitted, 0, "{}", case.name);
                assert_eq!(figures.pending, 0, "{}", case.name);
            }
        }
    }
}
