//! The `process` runtime: each container's command is a process of this machine, in the pod's
//! network namespace and a cgroup of its own.
//!
//! There is no image, no file system and no process namespace of the container's own: it sees the
//! machine's files and processes. What is made: the network namespace `pintle-<cluster>-pod-<uid>`,
//! the cgroups `<node>/pod<uid>/<container>`, and logs in
//! `<root_dir>/pods/<namespace>_<name>_<uid>/<container>/<restart>.log`.

mod connect;
mod log;
pub mod shim;
mod supervise;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pintle_node::NetNs;
use pintle_node::cgroup::{Cgroup, CgroupError};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::{ContainerRun, ContainerRuntime, ExecOutput, PodRef, RuntimeError, Started};
use crate::ProcessConfig;
use shim::Invocation;

/// The `process` runtime of one node.
#[derive(Debug)]
pub struct ProcessRuntime {
    config: ProcessConfig,
    warned: AtomicBool,
}

impl ProcessRuntime {
    /// A runtime in the network and cgroup that `config` names, which are there already.
    #[must_use]
    pub fn new(config: ProcessConfig) -> Self {
        Self { config, warned: AtomicBool::new(false) }
    }

    fn pod_cgroup(&self, pod: &PodRef) -> Cgroup {
        self.config.cgroup.child(&format!("pod{}", pod.uid))
    }

    fn pod_logs(&self, pod: &PodRef) -> PathBuf {
        let name = format!("{}_{}_{}", pod.namespace, pod.name, pod.uid);
        self.config.root_dir.join("pods").join(name)
    }

    fn namespace(&self, pod: &PodRef) -> Option<NetNs> {
        if pod.host_network {
            self.config.network.namespace().cloned()
        } else {
            Some(self.config.network.pod_namespace(&pod.uid))
        }
    }

    fn command(&self, pod: &PodRef, run: &ContainerRun, command: &[String]) -> Command {
        let invocation = Invocation {
            cgroup: self.pod_cgroup(pod).child(&run.name).path().to_owned(),
            netns: self.namespace(pod).map(|it| it.path()),
            hostname: (!pod.host_network).then(|| hostname(pod)),
            workdir: Some(run.working_dir.clone().unwrap_or_else(|| "/".to_owned()).into()),
            command: command.iter().map(Into::into).collect(),
        };
        let mut shim = Command::new(&self.config.executable);
        shim.arg(SUBCOMMAND).args(shim::arguments(&invocation));
        shim.env_clear().envs(&run.env).env("PATH", self.path(&run.env));
        if !run.env.contains_key("HOSTNAME") {
            shim.env("HOSTNAME", hostname(pod));
        }
        shim.stdout(Stdio::piped()).stderr(Stdio::piped());
        shim
    }

    /// The container's `PATH`, after the directory of the pintle binary.
    fn path(&self, env: &BTreeMap<String, String>) -> String {
        let own = self.config.executable.parent().unwrap_or_else(|| "/".as_ref());
        let rest = env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
        format!("{}:{rest}", own.display())
    }

    fn limit(&self, cgroup: &Cgroup, run: &ContainerRun) -> Result<(), CgroupError> {
        if let Some(bytes) = run.memory_max_bytes {
            self.applied(cgroup.set_memory_max(bytes))?;
        }
        if let Some(milli_cpu) = run.cpu_max_milli {
            self.applied(cgroup.set_cpu_max(milli_cpu))?;
        }
        // A share matters only against others, so a missing controller is no news here.
        match cgroup.set_cpu_weight(cpu_weight(run.cpu_request_milli)) {
            Err(CgroupError::NoController { .. }) => Ok(()),
            other => other,
        }
    }

    /// A limit that this machine cannot hold is said once, and the container runs without it.
    fn applied(&self, limited: Result<(), CgroupError>) -> Result<(), CgroupError> {
        match limited {
            Err(error @ CgroupError::NoController { .. }) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "containers run without some of their limits");
                }
                Ok(())
            }
            other => other,
        }
    }
}

impl ContainerRuntime for ProcessRuntime {
    async fn create_sandbox(&self, pod: &PodRef) -> Result<Ipv4Addr, RuntimeError> {
        self.remove_sandbox(pod, false).await?;
        let cgroup = self.pod_cgroup(pod);
        cgroup.create().map_err(|error| RuntimeError::new(&error))?;
        cgroup.delegate();
        if pod.host_network {
            return Ok(self.config.network.address());
        }
        let attached = self.config.network.attach_pod(&pod.uid).await;
        attached.map(|it| it.address).map_err(|error| RuntimeError::new(&error))
    }

    async fn start(&self, pod: &PodRef, run: &ContainerRun) -> Result<Started, RuntimeError> {
        let cgroup = self.pod_cgroup(pod).child(&run.name);
        cgroup.create().map_err(|error| RuntimeError::new(&error))?;
        self.limit(&cgroup, run).map_err(|error| RuntimeError::new(&error))?;
        let directory = self.pod_logs(pod).join(&run.name);
        let log = log::LogFile::create(directory, run.restart)
            .await
            .map_err(|error| RuntimeError::new(&error))?;
        let child = spawn(self.command(pod, run, &run.command)).await?;
        let id = format!("process://{}", uuid::Uuid::new_v4().simple());
        Ok(supervise::supervise(id, child, cgroup, log))
    }

    async fn exec(
        &self,
        pod: &PodRef,
        run: &ContainerRun,
        command: &[String],
        timeout: Duration,
    ) -> Result<ExecOutput, RuntimeError> {
        let mut command = self.command(pod, run, command);
        command.kill_on_drop(true);
        let work = async { collect(spawn(command).await?).await };
        match tokio::time::timeout(timeout, work).await {
            Ok(output) => output,
            Err(_) => {
                let message = format!("command timed out after {}s", timeout.as_secs());
                Err(RuntimeError { message })
            }
        }
    }

    async fn connect(
        &self,
        pod: &PodRef,
        address: SocketAddr,
        http: Option<String>,
        timeout: Duration,
    ) -> Result<Vec<u8>, RuntimeError> {
        connect::connect(self.namespace(pod), address, http, timeout).await
    }

    async fn remove_sandbox(&self, pod: &PodRef, logs: bool) -> Result<(), RuntimeError> {
        let removed = self.pod_cgroup(pod).remove_tree().await;
        removed.map_err(|error| RuntimeError::new(&error))?;
        if !pod.host_network {
            let detached = self.config.network.detach_pod(&pod.uid).await;
            detached.map_err(|error| RuntimeError::new(&error))?;
        }
        if logs && let Err(error) = tokio::fs::remove_dir_all(self.pod_logs(pod)).await {
            tracing::debug!(pod = pod.name, %error, "no logs removed");
        }
        Ok(())
    }
}

/// Start the shim, and wait until it has become the command.
async fn spawn(mut command: Command) -> Result<Child, RuntimeError> {
    let failed = |error: std::io::Error| RuntimeError {
        message: format!("start the container's process: {error}"),
    };
    let (report, stdin) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
    command.stdin(Stdio::from(OwnedFd::from(stdin)));
    let mut child = command.spawn().map_err(failed)?;
    // The command holds our end of the socket for the child until it is dropped.
    drop(command);
    report.set_nonblocking(true).map_err(failed)?;
    let report = tokio::net::UnixStream::from_std(report).map_err(failed)?;
    let mut message = String::new();
    let mut limited = report.take(REPORT_BYTES_MAX);
    limited.read_to_string(&mut message).await.map_err(failed)?;
    if message.is_empty() {
        return Ok(child);
    }
    let _ = child.wait().await;
    Err(RuntimeError { message })
}

async fn collect(mut child: Child) -> Result<ExecOutput, RuntimeError> {
    let failed = |error: std::io::Error| RuntimeError { message: format!("exec: {error}") };
    // Both at once: a full pipe that nobody reads would hold the command up.
    let (stdout, stderr) =
        tokio::join!(beginning(child.stdout.take()), beginning(child.stderr.take()));
    let bytes = [stdout.map_err(failed)?, stderr.map_err(failed)?].concat();
    let status = child.wait().await.map_err(failed)?;
    let output = String::from_utf8_lossy(&bytes).into_owned();
    Ok(ExecOutput { code: supervise::exit_code(status).0, output })
}

async fn beginning(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// A pod's host name is its name, cut where the kernel's limit is.
fn hostname(pod: &PodRef) -> String {
    pod.name.chars().take(HOSTNAME_MAX).collect()
}

/// cgroup v2's weight for a CPU request, by the shares of version 1 as the kubelet maps them:
/// shares = 1024 a CPU, at least 2; weight = 1 + (shares - 2) * 9999 / 262142.
fn cpu_weight(milli_cpu: u64) -> u64 {
    let shares = (milli_cpu * 1024 / 1000).clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

/// The hidden subcommand of the pintle binary that becomes a container's command.
pub const SUBCOMMAND: &str = "runtime-exec";
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A DNS label; the kernel takes 64.
const HOSTNAME_MAX: usize = 63;
/// The shim writes one line.
const REPORT_BYTES_MAX: u64 = 4096;
/// As much of a probe's output as upstream keeps for the event.
const OUTPUT_BYTES_MAX: u64 = 10 * 1024;
