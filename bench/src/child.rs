//! A `pintle standalone` of the bench's own.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
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
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
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

/// SIGTERM, and SIGKILL where that does not help.
fn stop(child: &mut Child) {
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

const READY_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
