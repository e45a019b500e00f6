//! The task beside each running container: it copies its output to the log, passes signals on, and
//! reports its end.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use k8s_openapi::jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pintle_node::cgroup::Cgroup;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};

use super::super::{ContainerSignal, Started};
use super::log::LogFile;
use crate::pod::Exit;

/// Watch over a container's first process. It alone waits for the process, so a signal never meets
/// another process that took over its number.
pub(super) fn supervise(id: String, child: Child, cgroup: Cgroup, log: LogFile) -> Started {
    let (signals, receiver) = mpsc::channel(SIGNALS_MAX);
    let (sender, exit) = oneshot::channel();
    tokio::spawn(watch(child, cgroup, log, receiver, sender));
    Started { id, signals, exit }
}

async fn watch(
    mut child: Child,
    cgroup: Cgroup,
    mut log: LogFile,
    mut signals: mpsc::Receiver<ContainerSignal>,
    exit: oneshot::Sender<Exit>,
) {
    let mut stdout = child.stdout.take().map(|it| Lines::new("stdout", it));
    let mut stderr = child.stderr.take().map(|it| Lines::new("stderr", it));
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            Some(signal) = signals.recv() => pass_on(signal, &child, &cgroup),
            line = next(&mut stdout) => write(&mut log, &mut stdout, line).await,
            line = next(&mut stderr) => write(&mut log, &mut stderr, line).await,
        }
    };
    let out_of_memory = cgroup.oom_kills() > 0;
    // A container ends with its first process.
    if let Err(error) = cgroup.remove_tree().await {
        tracing::warn!(%error, "processes of a container are left");
    }
    let (code, signal) = status.map_or((EXIT_UNKNOWN, None), exit_code);
    let _ = exit.send(Exit { code, signal, out_of_memory });
    // The rest of what it printed; every writer is gone, so this ends.
    while stdout.is_some() || stderr.is_some() {
        tokio::select! {
            line = next(&mut stdout) => write(&mut log, &mut stdout, line).await,
            line = next(&mut stderr) => write(&mut log, &mut stderr, line).await,
        }
    }
}

fn pass_on(signal: ContainerSignal, child: &Child, cgroup: &Cgroup) {
    match (signal, child.id().and_then(|pid| i32::try_from(pid).ok())) {
        (ContainerSignal::Terminate, Some(pid)) => {
            // ESRCH cannot be: the process is not waited for yet.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        (ContainerSignal::Terminate, None) => {}
        (ContainerSignal::Kill, _) => {
            if let Err(error) = cgroup.kill() {
                tracing::warn!(%error, "a container is not killed");
            }
        }
    }
}

/// The code and signal of a process's end, as a shell and containerd number them.
pub(super) fn exit_code(status: ExitStatus) -> (i32, Option<i32>) {
    match (status.code(), status.signal()) {
        (Some(code), _) => (code, None),
        (None, Some(signal)) => (128 + signal, Some(signal)),
        (None, None) => (EXIT_UNKNOWN, None),
    }
}

/// One output stream, line by line.
struct Lines<R> {
    stream: &'static str,
    reader: BufReader<R>,
    line: Vec<u8>,
}

/// A line in `Lines::line`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Ended,
    Part,
    Whole,
}

impl<R: tokio::io::AsyncRead + Unpin> Lines<R> {
    fn new(stream: &'static str, reader: R) -> Self {
        let reader = BufReader::with_capacity(LINE_BYTES_MAX, reader);
        Self { stream, reader, line: Vec::new() }
    }

    /// Read on until a line is whole, too long, or the stream ended. Cancellation loses nothing:
    /// what was read is kept in `line`.
    async fn next(&mut self) -> io::Result<Line> {
        loop {
            let buffered = self.reader.fill_buf().await?;
            if buffered.is_empty() {
                return Ok(if self.line.is_empty() { Line::Ended } else { Line::Part });
            }
            let room = LINE_BYTES_MAX - self.line.len();
            let end = buffered.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(buffered.len()).min(room);
            self.line.extend_from_slice(&buffered[..taken]);
            let whole = end == Some(taken);
            self.reader.consume(taken + usize::from(whole));
            if whole {
                return Ok(Line::Whole);
            }
            if self.line.len() == LINE_BYTES_MAX {
                return Ok(Line::Part);
            }
        }
    }
}

/// The next line of a stream that is still open; never, if it is not.
async fn next<R: tokio::io::AsyncRead + Unpin>(lines: &mut Option<Lines<R>>) -> io::Result<Line> {
    match lines {
        Some(lines) => lines.next().await,
        None => std::future::pending().await,
    }
}

/// Log a line; a stream that ended or failed is closed.
async fn write<R: tokio::io::AsyncRead + Unpin>(
    log: &mut LogFile,
    lines: &mut Option<Lines<R>>,
    line: io::Result<Line>,
) {
    let Some(open) = lines else { return };
    let whole = match line {
        Ok(Line::Ended) | Err(_) => {
            *lines = None;
            return;
        }
        Ok(line) => line == Line::Whole,
    };
    if let Err(error) = log.line(Timestamp::now(), open.stream, whole, &open.line).await {
        // A full disk must not stop the container: its output is lost instead.
        tracing::debug!(%error, "a line of a container's log is lost");
    }
    open.line.clear();
}

/// Upstream cuts log lines at this length too.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// SIGTERM and SIGKILL, with room for repeats.
const SIGNALS_MAX: usize = 4;
/// The runtime could not learn how it ended.
const EXIT_UNKNOWN: i32 = 255;
