//! How containers are run: what a pod worker asks of a runtime.

pub mod process;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::pod::Exit;

/// Which pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// It shares the node's own network.
    pub host_network: bool,
}

/// One run of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRun {
    /// The container's name.
    pub name: String,
    /// Which run, from 0.
    pub restart: u32,
    /// The command and its arguments; not empty.
    pub command: Vec<String>,
    /// The whole environment but `PATH` and `HOSTNAME`, which the runtime adds to.
    pub env: BTreeMap<String, String>,
    /// Where to start; `None`: the root directory.
    pub working_dir: Option<String>,
    /// The most memory, in bytes.
    pub memory_max_bytes: Option<u64>,
    /// The most CPU time, in thousandths of a CPU.
    pub cpu_max_milli: Option<u64>,
    /// The CPU asked for, in thousandths of a CPU; its share when CPU is short.
    pub cpu_request_milli: u64,
}

/// A container that was started.
#[derive(Debug)]
pub struct Started {
    /// `process://...`
    pub id: String,
    /// Tells it to end.
    pub signals: mpsc::Sender<ContainerSignal>,
    /// Its end; an error means that the runtime lost it.
    pub exit: oneshot::Receiver<Exit>,
}

/// What a running container can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerSignal {
    /// SIGKILL to all its processes.
    Kill,
    /// SIGTERM to its first process.
    Terminate,
}

/// What a command that ran inside a container left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// 0: success.
    pub code: i32,
    /// The beginning of what it printed.
    pub output: String,
}

/// Why a runtime could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeError {
    /// What was tried, and every cause.
    pub message: String,
}

impl RuntimeError {
    /// An error and its causes in one line.
    #[must_use]
    pub fn new(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self { message }
    }
}

/// Runs the containers of one node's pods.
pub trait ContainerRuntime: Send + Sync + 'static {
    /// Make a pod's network and cgroup; the pod's address. Remains of an earlier try are removed.
    fn create_sandbox(
        &self,
        pod: &PodRef,
    ) -> impl Future<Output = Result<Ipv4Addr, RuntimeError>> + Send;

    /// Start a container in its pod's sandbox.
    fn start(
        &self,
        pod: &PodRef,
        run: &ContainerRun,
    ) -> impl Future<Output = Result<Started, RuntimeError>> + Send;

    /// Run a command inside a container, and kill it after `timeout`.
    fn exec(
        &self,
        pod: &PodRef,
        run: &ContainerRun,
        command: &[String],
        timeout: Duration,
    ) -> impl Future<Output = Result<ExecOutput, RuntimeError>> + Send;

    /// Connect from inside the pod's network and, for `http`, send a request; what was answered.
    fn connect(
        &self,
        pod: &PodRef,
        address: SocketAddr,
        http: Option<String>,
        timeout: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, RuntimeError>> + Send;

    /// Remove a pod's network and cgroup, and its logs if `logs`. A pod that is not there is fine.
    fn remove_sandbox(
        &self,
        pod: &PodRef,
        logs: bool,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;
}
