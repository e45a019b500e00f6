//! A workload in a process of its own, so that its memory is its own and its end nobody else's.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};

use super::figures::Figures;
use super::options::Options;
use super::pulse::{Progress, Pulse};

/// Start this program for one workload and wait for what it finds.
pub(super) async fn run(
    options: &Options,
    name: &str,
    stopped: &Arc<AtomicBool>,
    progress: Arc<Progress>,
) -> anyhow::Result<Figures> {
    let mut child = command(options, name)?.spawn().context("start the workload's process")?;
    let mut output = child.stdout.take().context("the process has no output")?;
    let errors = child.stderr.take().context("the process has no output for errors")?;
    let mut json = String::new();
    let (read, said, status) = tokio::join!(
        output.read_to_string(&mut json),
        listen(errors, progress),
        end(&mut child, Duration::from_secs(options.limit) + GRACE, stopped),
    );
    read.context("read what the workload found")?;
    let status = status?;
    if !status.success() {
        bail!("{}", if said.is_empty() { status.to_string() } else { said });
    }
    serde_json::from_str(&json).context("read what the workload found")
}

/// Tells of progress to the process that waits.
pub(super) fn say(step: &str, done: usize, of: usize) {
    eprintln!("{PROGRESS}{step}\t{done}\t{of}");
}

fn command(options: &Options, name: &str) -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("find the running binary")?;
    let mut command = Command::new(&program);
    // The example of this crate has no other subcommands above.
    if program.file_stem().is_none_or(|stem| stem != "bench") {
        command.arg("bench");
    }
    command.args(["scheduler", "--alone", name, "--config"]).arg(&options.config);
    for (flag, value) in
        [("--seed", options.seed), ("--patience", options.patience), ("--limit", options.limit)]
    {
        command.arg(flag).arg(value.to_string());
    }
    command.arg("--workers").arg(options.workers.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    Ok(command)
}

/// Hands on the progress; returns the rest, on one line.
async fn listen(errors: ChildStderr, progress: Arc<Progress>) -> String {
    let mut lines = BufReader::new(errors).lines();
    let mut rest: Vec<String> = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        let Some(told) = line.strip_prefix(PROGRESS) else {
            rest.push(line);
            continue;
        };
        let mut fields = told.split('\t');
        let step = fields.next().unwrap_or_default();
        let mut number = || fields.next().and_then(|field| field.parse().ok()).unwrap_or(0);
        progress(step, number(), number());
    }
    rest.join(" ")
}

/// Waits for the process; SIGINT is handed on, and one that does not end is killed.
async fn end(
    child: &mut Child,
    limit: Duration,
    stopped: &AtomicBool,
) -> anyhow::Result<std::process::ExitStatus> {
    let deadline = tokio::time::Instant::now() + limit;
    let mut is_told = false;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status?),
            () = tokio::time::sleep(Pulse::INTERVAL) => {}
        }
        if stopped.load(Ordering::Relaxed) && !is_told {
            is_told = true;
            if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
                // A terminal has told it already, with SIGINT.
                let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
            }
        }
        if tokio::time::Instant::now() > deadline {
            child.kill().await.context("kill the workload's process")?;
            bail!("killed after {} s", limit.as_secs());
        }
    }
}

/// How a line of progress begins.
const PROGRESS: &str = "\u{1}progress\t";

/// How much longer than its limit a process may take: preparation is not cut short.
const GRACE: Duration = Duration::from_secs(120);
