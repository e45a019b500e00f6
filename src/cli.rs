//! The command line. Flags carry the names that Kubernetes' own components use.

mod ignored;
mod proxy;
mod scheduler;
mod simulate;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use pintle_api::duration::{DurationError, GoDuration};
use pintle_component::LogFormat;
use pintle_kubelet::RuntimeKind;

pub(crate) use proxy::{
    InspectArgs, NodeArgs, ProxyArgs, ProxyCommand, ProxyFieldArgs, ProxyOutput, ProxyRunArgs,
    TraceArgs,
};
pub(crate) use scheduler::{LeaderElectionArgs, SchedulerArgs, ServingArgs};
pub(crate) use simulate::{
    ClusterArgs, ExplainCommand, ExplainPodArgs, OutputFormat, SimulateArgs,
};

/// A Kubernetes control plane, scheduler and eBPF Service dataplane in one binary.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Logs go to standard error.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// How log lines are written: text or json
    #[arg(
        long,
        global = true,
        alias = "logging-format",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub(crate) log_format: LogFormat,
    /// What is logged, as tracing's directives
    #[arg(long, global = true, default_value = "info", value_name = "FILTER", env = "PINTLE_LOG")]
    pub(crate) log: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A whole cluster in one process: API server, store, controllers, scheduler and nodes
    Standalone(StandaloneArgs),
    /// The API server over the embedded store
    Apiserver(ApiserverArgs),
    /// The controllers: deployments, replica sets, endpoint slices, nodes, namespaces, garbage
    ControllerManager(ControllerManagerArgs),
    /// The scheduler, for any Kubernetes API server
    Scheduler(Box<SchedulerArgs>),
    /// What the scheduler would do with the pending pods of files or of a cluster; changes nothing
    Simulate(SimulateArgs),
    /// Why a pod goes to a node, or to none; changes nothing
    #[command(subcommand)]
    Explain(ExplainCommand),
    /// The node agent
    Kubelet(KubeletArgs),
    /// The Service dataplane of one node: eBPF in place of kube-proxy
    Proxy(Box<ProxyArgs>),
    /// The benchmark harness
    Bench(pintle_bench::Args),
    /// Small servers and clients to try a cluster with, after Kubernetes' test image of this name
    #[command(subcommand)]
    Agnhost(AgnhostCommand),
    /// Start a container's command inside its pod; called by the process runtime
    #[command(hide = true, disable_help_flag = true)]
    RuntimeExec {
        /// As the runtime wrote them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct StandaloneArgs {
    /// How many nodes the cluster has; 0 is a control plane alone
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) nodes: u32,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// What runs the pods: process (commands as processes on this machine, needs root) or hollow
    /// (status alone)
    #[arg(long, default_value = "process", value_name = "RUNTIME")]
    pub(crate) runtime: RuntimeKind,
    /// Without the controllers: others reconcile, or nobody
    #[arg(long)]
    pub(crate) disable_controller_manager: bool,
    /// Without the scheduler: another binds the pods
    #[arg(long)]
    pub(crate) disable_scheduler: bool,
}

/// The API server and its store.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Where the state, the keys and admin.kubeconfig live
    #[arg(long, default_value = "/var/lib/pintle", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Where the API server listens
    #[arg(long, default_value = "127.0.0.1:6443", value_name = "ADDR:PORT")]
    pub(crate) listen: SocketAddr,
    /// Bearer tokens, a line each: token,user,uid,"group1,group2"
    #[arg(long, value_name = "FILE")]
    pub(crate) token_auth_file: Option<PathBuf>,
    /// How long Events are kept
    #[arg(long, default_value = "1h0m0s", value_parser = event_ttl, value_name = "DURATION")]
    pub(crate) event_ttl: GoDuration,
}

fn event_ttl(text: &str) -> Result<GoDuration, String> {
    let ttl: GoDuration = text.parse().map_err(|error: DurationError| error.to_string())?;
    match ttl.is_zero_or_less() {
        true => Err("must be greater than 0".to_owned()),
        false => Ok(ttl),
    }
}

#[derive(Debug, Args)]
pub(crate) struct ApiserverArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Write a kubeconfig for the kubelet of this node to DIR/pki/kubelet-NAME.kubeconfig; may be
    /// given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) kubelet_kubeconfig: Vec<String>,
}

/// How a component finds the API server, and where it answers health checks and metrics.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// Kubeconfig of the API server; else $KUBECONFIG, ~/.kube/config or the pod's service account
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Address of /healthz, /livez, /readyz and /metrics
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "ADDR")]
    pub(crate) bind_address: IpAddr,
}

#[derive(Debug, Args)]
pub(crate) struct ControllerManagerArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Port of the health and metrics endpoints
    #[arg(long, default_value_t = 10257, value_name = "PORT")]
    pub(crate) port: u16,
}

#[derive(Debug, Args)]
pub(crate) struct KubeletArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Port of the health and metrics endpoints
    #[arg(long, default_value_t = 10248, value_name = "PORT")]
    pub(crate) port: u16,
    /// The node's name; else the machine's host name
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname_override: Option<String>,
    /// Where pods' logs and files live
    #[arg(long, default_value = "/var/lib/pintle/kubelet", value_name = "DIR")]
    pub(crate) root_dir: PathBuf,
    /// What runs the pods
    #[arg(long, default_value = "process", value_name = "RUNTIME")]
    pub(crate) runtime: RuntimeKind,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgnhostCommand {
    /// Answer /hostname, /clientip, /echo?msg= and /healthz over HTTP, and the same over UDP
    Netexec(NetexecArgs),
    /// Open connections to an address one after the other and count who answered
    Connect(ConnectArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NetexecArgs {
    /// HTTP port
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    pub(crate) http_port: u16,
    /// UDP port; 0 is none
    #[arg(long, default_value_t = 8081, value_name = "PORT")]
    pub(crate) udp_port: u16,
    /// Seconds to go on answering after SIGTERM
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub(crate) delay_shutdown: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// HOST:PORT of an `agnhost netexec`
    #[arg(value_name = "ADDR:PORT")]
    pub(crate) address: SocketAddr,
    /// How many connections
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) count: u32,
    /// Pause between two connections, milliseconds
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub(crate) interval_ms: u64,
    /// Give up on a connection after so many milliseconds
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    pub(crate) timeout_ms: u64,
}
