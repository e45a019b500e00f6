//! Workloads of scheduler_perf, Kubernetes' own benchmark of kube-scheduler, against pintle's
//! scheduler or another.
//!
//! Configuration files are upstream's `performance-config.yaml`, unchanged. `engine` mode runs the
//! scheduler's core alone: the very code that the daemon runs, every default plugin on, state in
//! memory, from a decoded pod in the queue to a reserved node. `api` mode measures the way from POST
//! to bound, `external` mode the same with a scheduler of somebody else's.

mod alone;
mod api;
mod config;
mod devices;
mod engine;
mod figures;
mod objects;
mod options;
mod pulse;
mod report;
mod rows;
mod selection;
mod template;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::interrupt;
use crate::outcome::Outcome;
use figures::Figures;
use pulse::Progress;
use selection::Selected;

pub(crate) use api::{Cluster, collection};
pub(crate) use options::{Mode, Options};
pub(crate) use report::write as write_report;
pub(crate) use rows::Rows;

/// A workload that came to its end, or was cut short with something to show.
pub(crate) struct CaseRun {
    pub(crate) name: String,
    /// As [`Options::mode_name`].
    pub(crate) mode: String,
    pub(crate) figures: Figures,
}

/// What came of all of them.
#[derive(Default)]
pub(crate) struct Finished {
    pub(crate) runs: Vec<CaseRun>,
    failed: Vec<String>,
    interrupted: bool,
}

impl Finished {
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        let outcomes = |run: &CaseRun| run.figures.outcomes(&run.name, &run.mode);
        self.runs.iter().flat_map(outcomes).collect()
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// What another run came to, too.
    pub(crate) fn add(&mut self, other: Self) {
        self.runs.extend(other.runs);
        self.failed.extend(other.failed);
        self.interrupted |= other.interrupted;
    }

    /// An error if not all is well.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.interrupted {
            bail!("interrupted after {} workloads", self.runs.len());
        }
        if !self.failed.is_empty() {
            bail!("{} workloads failed: {}", self.failed.len(), self.failed.join(", "));
        }
        Ok(())
    }
}

/// Run the workloads that the options name, one after the other, and show each as it ends. One that
/// fails does not keep the others from running; SIGINT does.
pub(crate) async fn run(
    options: &Options,
    progress: &ProgressBar,
    mut show: impl FnMut(&str),
) -> anyhow::Result<Finished> {
    let cases = config::read(&options.config)?;
    let selected = selection::select(&cases, options)?;
    let rows = Rows::of(selected.iter().map(Selected::name));
    show(&rows.header(&options.mode_name()));
    let stopped = interrupt::flag()?;
    let mut finished = Finished::default();
    for (number, one) in selected.iter().enumerate() {
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        let name = one.name();
        let place = format!("{name} ({} of {})", number + 1, selected.len());
        let ran = match options.mode {
            Mode::Engine => alone::run(options, &name, &stopped, shown_on(progress, place)).await,
            mode => {
                let directory = options.config.parent().unwrap_or(Path::new("."));
                let shown = shown_on(progress, place);
                let pulse = pulse::Pulse::new(options, Arc::clone(&stopped), shown);
                let command = options.scheduler_command.as_deref();
                api::run(directory, one.case, one.workload, mode, command, pulse).await
            }
        };
        match ran {
            Ok(figures) => {
                let run = CaseRun { name, mode: options.mode_name(), figures };
                progress.suspend(|| show(&rows.row(&run)));
                finished.runs.push(run);
            }
            Err(error) => {
                progress.suspend(|| show(&rows.failure(&name, &error)));
                finished.failed.push(name);
            }
        }
    }
    finished.interrupted = stopped.load(Ordering::Relaxed);
    Ok(finished)
}

/// What there is to run.
pub(crate) fn list(options: &Options) -> anyhow::Result<String> {
    let cases = config::read(&options.config)?;
    Ok(selection::list(&cases))
}

/// The one workload of a process that another started for it; prints what it found.
pub(crate) async fn run_alone(options: &Options, name: &str) -> anyhow::Result<()> {
    use_small_pages()?;
    let cases = config::read(&options.config)?;
    let (case, workload) = selection::find(&cases, name)?;
    let (case, workload) = (case.clone(), workload.clone());
    let pulse = pulse::Pulse::new(options, interrupt::flag()?, Arc::new(alone::say));
    let directory = options.config.parent().unwrap_or(Path::new(".")).to_owned();
    let (seed, workers) = (options.seed, options.workers);
    let figures = tokio::task::spawn_blocking(move || {
        let run = engine::Run::new(&directory, &case, &workload, seed, pulse);
        run.with_workers(workers).execute()
    });
    println!("{}", serde_json::to_string(&figures.await??)?);
    Ok(())
}

/// As pintle's own server and scheduler ask the kernel: their tables lie in many small pieces, and of each
/// huge page a rest would count as theirs.
fn use_small_pages() -> anyhow::Result<()> {
    nix::sys::prctl::set_thp_disable(true).context("ask for no huge pages")
}

fn shown_on(progress: &ProgressBar, place: String) -> Arc<Progress> {
    let bar = progress.clone();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{bar:24}] {pos}/{len}") {
        bar.set_style(style);
    }
    Arc::new(move |step: &str, done: usize, of: usize| {
        bar.set_message(format!("{place}: {step}"));
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every short workload of a file of our own, to its end.
    fn the_short_ones_run(file: &str) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads");
        let cases = config::read(&directory.join(file)).unwrap();
        for case in &cases {
            for workload in
                case.workloads.iter().filter(|w| w.labels.iter().any(|it| it == "short"))
            {
                let stopped = Arc::default();
                let pulse = pulse::Pulse::new(
                    &Options::short(Mode::Engine),
                    stopped,
                    Arc::new(|_, _, _| {}),
                );
                let run = engine::Run::new(&directory, case, workload, 1, pulse);
                let figures = run.execute();
                let figures = figures.unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
                assert_eq!(figures.overcommitted, 0, "{}", case.name);
                assert_eq!(figures.pending, 0, "{}", case.name);
                assert_eq!(figures.cut, None, "{}", case.name);
            }
        }
    }

    #[test]
    fn the_short_workloads_run() {
        the_short_ones_run("performance-config.yaml");
    }

    #[test]
    fn what_is_known_of_devices_and_volumes_runs() {
        the_short_ones_run("devices.yaml");
    }
}
