//! A `pintle scheduler` of the test's own beside the server's, killed on drop.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::server::{Server, free_address, pintle};

/// A running scheduler.
pub(crate) struct Scheduler {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Scheduler {
    /// Start one for a server, with the text of a KubeSchedulerConfiguration; its files are the
    /// caller's.
    pub(crate) fn start(server: &Server, dir: &Path, name: &str, configuration: &str) -> Self {
        let config = dir.join(format!("{name}.yaml"));
        std::fs::write(&config, configuration).unwrap();
        let log = dir.join(format!("{name}.log"));
        let port = free_address().port();
        let child = pintle()
            .arg("scheduler")
            .arg("--config")
            .arg(&config)
            .arg("--kubeconfig")
            .arg(server.kubeconfig())
            .args(["--bind-address=127.0.0.1", &format!("--secure-port={port}"), "--v=2"])
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, port, log }
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its port for health and metrics over TLS.
    pub(crate) fn secure_port(&self) -> u16 {
        self.port
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Wait for something; print the schedulers' logs if it does not come.
pub(crate) async fn until(what: &str, logs: &[&Scheduler], mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        let logs: Vec<String> = logs.iter().map(|scheduler| scheduler.log()).collect();
        assert!(Instant::now() < deadline, "{what}:\n{}", logs.join("\n---\n"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const PATIENCE: Duration = Duration::from_secs(300);
