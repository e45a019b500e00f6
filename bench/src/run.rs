//! Runs what the command line asks for, and prints and keeps the results.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use indicatif::ProgressBar;

use crate::args::{Args, Bench, Format};
use crate::host::Host;
use crate::outcome::Report;
use crate::{connect, pods, scheduler, startup, store};

/// Run a bench to its end.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let progress = ProgressBar::new_spinner();
    progress.enable_steady_tick(std::time::Duration::from_millis(100));
    match &args.bench {
        Bench::All { out } => {
            let dir = out.join(format!("{}-{}", today(), Host::name()));
            for bench in short_set(&progress) {
                let report = measure(&bench, &progress).await?;
                keep(&dir, &report)?;
                progress.suspend(|| print(&report, args.output))?;
            }
        }
        bench => {
            let report = measure(bench, &progress).await?;
            progress.finish_and_clear();
            print(&report, args.output)?;
        }
    }
    progress.finish_and_clear();
    Ok(())
}

async fn measure(bench: &Bench, progress: &ProgressBar) -> anyhow::Result<Report> {
    let (name, results) = match bench {
        Bench::All { .. } => anyhow::bail!("`all` is not one bench"),
        Bench::Connect { pairs } => ("connect", connect::run(*pairs, progress).await?),
        Bench::Pods { pods, nodes } => {
            let mut results = pods::run(pods::Mode::Hollow, *pods, *nodes, progress).await?;
            if nix::unistd::geteuid().is_root() {
                results.extend(pods::run(pods::Mode::Process, *pods, *nodes, progress).await?);
            } else {
                progress.println("pods: --runtime process is left out, it needs root");
            }
            ("pods", results)
        }
        Bench::Scheduler(options) => ("scheduler", scheduler::run(options, progress)?),
        Bench::Startup { runs } => ("startup", startup::run(*runs, progress).await?),
        Bench::Store { dir, seconds } => ("store", store::run(dir, *seconds, progress).await?),
    };
    Ok(Report::new(name, results))
}

fn print(report: &Report, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => println!("{}", serde_json::to_string(report)?),
        Format::Table => println!("{}\n{}\n", report.bench(), report.table()),
    }
    Ok(())
}

fn keep(dir: &Path, report: &Report) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let json = dir.join(format!("{}.json", report.bench()));
    let text = serde_json::to_string_pretty(report)? + "\n";
    fs::write(&json, text).with_context(|| format!("write {}", json.display()))?;
    let table = dir.join(format!("{}.txt", report.bench()));
    fs::write(&table, format!("{}\n", report.table()))
        .with_context(|| format!("write {}", table.display()))
}

fn today() -> String {
    jiff::Zoned::now().date().to_string()
}

/// Those that can be measured here, each short.
fn short_set(progress: &ProgressBar) -> Vec<Bench> {
    let mut set = vec![
        Bench::Startup { runs: 10 },
        Bench::Store { dir: PathBuf::from("/var/tmp"), seconds: 2.0 },
        Bench::Pods { pods: 500, nodes: 5 },
    ];
    if nix::unistd::geteuid().is_root() {
        set.push(Bench::Connect { pairs: 20_000 });
    } else {
        progress.println("connect is left out, it needs root");
    }
    set
}
