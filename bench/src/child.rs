//! A `pintle standalone` of the bench's own.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// The process and its data directory. Dropping it stops the process and removes the directory.
pub(crate) struct Standalone {
    child: Child,
    data: TempDir,
    /// From the start of the process to the first good answer of /readyz.
    pub(crate) ready_after: Duration,
    pub(crate) client: kube::Client,
}

impl Standalone {
    /// Start with these further arguments and wait until /readyz answers 200.
    pub(crate) async fn start(args: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::Builder::new().prefix("pintle-bench-").tempdir()?;
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let log = File::create(data.path().join("pintle.log"))?;
        let exe = std::env::current_exe().context("find the running binary")?;
        let start = Instant::now();
        let mut child = Command::new(exe)
            .args(["--log", "warn", "standalone", "--listen", &listen, "--data-dir"])
            .arg(data.path().join("data"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start pintle standalone")?;
        let kubeconfig = data.path().join("data/admin.kubeconfig");
        match wait_ready(&mut child, kubeconfig, start).await {
            Ok(client) => Ok(Self { child, data, ready_after: start.elapsed(), client }),
            Err(error) => {
                stop(&mut child);
                let log = std::fs::read_to_string(data.path().join("pintle.log"))?;
                Err(error.context(log))
            }
        }
    }

    /// The resident memory of the process now, bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        resident_bytes(self.id())
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its data is; removed when it stops.
    pub(crate) fn directory(&self) -> &Path {
        self.data.path()
    }

    /// Of a user who may do everything.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.data.path().join("data/admin.kubeconfig")
    }

    /// Stop the process and remove its data.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        stop(&mut self.child);
        let data = std::mem::replace(&mut self.data, tempfile::tempdir()?);
        data.close().context("remove the data directory")
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

async fn wait_ready(
    child: &mut Child,
    kubeconfig: PathBuf,
    start: Instant,
) -> anyhow::Result<kube::Client> {
    let mut client = None;
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("pintle standalone ended with {status}");
        }
        if start.elapsed() > READY_TIMEOUT {
            bail!("pintle standalone was not ready in {READY_TIMEOUT:?}");
        }
        if client.is_none() && kubeconfig.exists() {
            client = pintle_client::connect(Some(&kubeconfig)).await.ok();
        }
        if let Some(client) = &client {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            if client.request_text(request).await.is_ok() {
                return Ok(client.clone());
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The resident memory of a process now, bytes; 0 if it is gone.
pub(crate) fn resident_bytes(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// How long a process computed so far, in user space and in the kernel.
pub(crate) fn cpu_time(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // After the command's name, which may hold anything: utime and stime are fields 14 and 15.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// SIGTERM, and SIGKILL where that does not help.
pub(crate) fn stop(child: &mut Child) {
    let Ok(pid) = i32::try_from(child.id()) else { return };
    if child.try_wait().is_ok_and(|status| status.is_some()) {
        return;
    }
    // The process may have ended in between; then there is nothing to stop.
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    let deadline = Instant::now() + STOP_TIMEOUT;
    while child.try_wait().is_ok_and(|status| status.is_none()) {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `USER_HZ`, the same on every architecture that Linux has today.
const TICKS_PER_SECOND: u64 = 100;
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
