//! Runs what the command line asks for, and prints and keeps the results.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use indicatif::ProgressBar;

use crate::args::{Args, Bench, Format};
use crate::host::Host;
use crate::outcome::Report;
use crate::scheduler::{Finished, Mode};
use crate::{agreement, dataplane, pods, scheduler, startup, store};

/// Run a bench to its end.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if let Bench::Scheduler(options) = &args.bench {
        if options.list {
            println!("{}", scheduler::list(options)?);
            return Ok(());
        }
        if let Some(name) = &options.alone {
            return scheduler::run_alone(options, name).await;
        }
    }
    if let Bench::DataplaneAgent(agent) = args.bench {
        return dataplane::run_agent(agent).await;
    }
    let progress = ProgressBar::new_spinner();
    progress.enable_steady_tick(std::time::Duration::from_millis(100));
    let done = match &args.bench {
        Bench::All { out, large } => all(&args, out, *large, &progress).await,
        bench => one(&args, bench, &progress).await,
    };
    progress.finish_and_clear();
    done
}

/// The short set, each bench kept as it ends. One that fails does not keep the others from running.
async fn all(args: &Args, out: &Path, large: bool, progress: &ProgressBar) -> anyhow::Result<()> {
    let dir = out.join(format!("{}-{}", today(), Host::name()));
    let mut failed = Vec::new();
    for bench in short_set(progress) {
        match measure(&bench, progress).await {
            Ok(measured) => {
                keep(&dir, &measured)?;
                progress.suspend(|| print(&measured, args.output))?;
            }
            Err(error) => {
                progress.println(format!("{bench:?} failed: {error:#}"));
                failed.push(format!("{error:#}"));
            }
        }
    }
    let mut finished = Finished::default();
    let mut text = String::new();
    let short = [Mode::Engine, Mode::Api].map(scheduler::Options::short);
    for options in short.into_iter().chain(large.then(scheduler::Options::large)) {
        let mut show = show_lines(args.output);
        let some = scheduler::run(&options, progress, |lines| {
            text += lines;
            text += "\n";
            show(lines);
        });
        finished.add(some.await?);
        text += "\n";
        if finished.is_interrupted() {
            break;
        }
    }
    // A part of the set must not pass for the whole one; a workload that failed is not in it.
    if !finished.is_interrupted() {
        keep(&dir, &Measured { report: Report::new("scheduler", finished.outcomes()), text })?;
    }
    finished.check()?;
    anyhow::ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(())
}

async fn one(args: &Args, bench: &Bench, progress: &ProgressBar) -> anyhow::Result<()> {
    let Bench::Scheduler(options) = bench else {
        let measured = measure(bench, progress).await?;
        if let Bench::Dataplane(dataplane::Options { report: Some(dir), .. }) = bench {
            dataplane::write_report(dir, &measured.report)?;
            eprintln!("{}", dir.join("index.html").display());
        }
        progress.suspend(|| print(&measured, args.output))?;
        if matches!(bench, Bench::Agreement(_)) {
            agreement::check(measured.report.results())?;
        }
        return Ok(());
    };
    let finished = scheduler::run(options, progress, show_lines(args.output)).await?;
    let report = Report::new("scheduler", finished.outcomes());
    if args.output == Format::Json {
        println!("{}", serde_json::to_string(&report)?);
    }
    if let Some(dir) = &options.report {
        scheduler::write_report(dir, &finished.runs, &report)?;
        eprintln!("{}", dir.join("index.html").display());
    }
    finished.check()
}

/// Prints a table's lines as they come.
fn show_lines(format: Format) -> impl FnMut(&str) {
    move |lines| match format {
        Format::Table => println!("{lines}"),
        Format::Json => eprintln!("{lines}"),
    }
}

/// What a bench found, and its table.
struct Measured {
    report: Report,
    text: String,
}

async fn measure(bench: &Bench, progress: &ProgressBar) -> anyhow::Result<Measured> {
    let (name, results) = match bench {
        Bench::All { .. } | Bench::DataplaneAgent(_) | Bench::Scheduler(_) => {
            anyhow::bail!("not one bench")
        }
        Bench::Agreement(options) => ("agreement", agreement::run(options, progress).await?),
        Bench::Dataplane(options) => ("dataplane", dataplane::run(options, progress).await?),
        Bench::Pods { pods, nodes } => {
            let mut results = pods::run(pods::Mode::Hollow, *pods, *nodes, progress).await?;
            if nix::unistd::geteuid().is_root() {
                results.extend(pods::run(pods::Mode::Process, *pods, *nodes, progress).await?);
            } else {
                progress.println("pods: --runtime process is left out, it needs root");
            }
            ("pods", results)
        }
        Bench::Startup { runs } => ("startup", startup::run(*runs, progress).await?),
        Bench::Store { dir, seconds } => ("store", store::run(dir, *seconds, progress).await?),
    };
    let report = Report::new(name, results);
    let text = format!("{}\n", report.table());
    Ok(Measured { report, text })
}

fn print(measured: &Measured, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => println!("{}", serde_json::to_string(&measured.report)?),
        Format::Table => println!("{}\n{}", measured.report.bench(), measured.text),
    }
    Ok(())
}

fn keep(dir: &Path, measured: &Measured) -> anyhow::Result<()> {
    let Measured { report, text } = measured;
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let json = dir.join(format!("{}.json", report.bench()));
    let as_json = serde_json::to_string_pretty(report)? + "\n";
    fs::write(&json, as_json).with_context(|| format!("write {}", json.display()))?;
    let table = dir.join(format!("{}.txt", report.bench()));
    fs::write(&table, text).with_context(|| format!("write {}", table.display()))
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
        set.push(Bench::Dataplane(dataplane::Options::short()));
    } else {
        progress.println("dataplane is left out, it needs root");
    }
    set
}
