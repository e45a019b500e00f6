//! The flags of `pintle proxy`: kube-proxy 1.35's, and the commands that look into the tables.
//!
//! Flags that have nothing to change here, such as those of iptables and IPVS, are taken and named in
//! one line, so that a command line written for kube-proxy starts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use pintle_api::duration::GoDuration;
use pintle_dataplane::configuration::parse_feature_gates;
use pintle_dataplane::inspect::Place;
use pintle_dataplane::plan::Protocol;

use super::ignored::{IgnoredArgs, IgnoredFlag, IgnoredFlags, go_bool};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ProxyArgs {
    #[command(flatten)]
    pub(crate) run: ProxyRunArgs,
    #[command(subcommand)]
    pub(crate) command: Option<ProxyCommand>,
}

/// To run it, or to clean up after it.
#[derive(Debug, Args)]
pub(crate) struct ProxyRunArgs {
    /// A KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1); the flags that it has fields for
    /// have no effect then
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Kubeconfig of the API server, unless the configuration names one; else $KUBECONFIG,
    /// ~/.kube/config or the pod's service account
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Address of the API server, in place of the kubeconfig's
    #[arg(long, value_name = "URL")]
    pub(crate) master: Option<String>,
    /// The node's name; else the machine's host name
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname_override: Option<String>,
    /// The cgroup v2 directory whose processes see the Services; else the root of the hierarchy
    #[arg(long, value_name = "DIR")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Remove all that an earlier run left in the kernel, and exit
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set,
        hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pub(crate) cleanup: bool,
    /// Remove kube-proxy's iptables and nftables rules: with --cleanup too, else before the start
    #[arg(long)]
    pub(crate) clear_kube_proxy_rules: bool,
    #[command(flatten)]
    pub(crate) fields: ProxyFieldArgs,
    /// Verbosity of the logs: 4 is debug, 6 trace; --log says it better
    #[arg(long, short = 'v', value_name = "LEVEL")]
    pub(crate) v: Option<u32>,
    #[command(flatten)]
    pub(crate) ignored: IgnoredArgs<KubeProxyFlags>,
}

/// What a configuration file says in its place.
#[derive(Debug, Default, Args)]
pub(crate) struct ProxyFieldArgs {
    /// The ranges of the cluster's pods, one a family: clients outside them are masqueraded
    #[arg(long, value_name = "CIDRS")]
    pub(crate) cluster_cidr: Option<String>,
    /// How pods are told from other clients: ClusterCIDR, NodeCIDR, BridgeInterface or
    /// InterfaceNamePrefix [default: ClusterCIDR]
    #[arg(long, value_name = "MODE")]
    pub(crate) detect_local_mode: Option<String>,
    /// The pods' bridge, for BridgeInterface
    #[arg(long, value_name = "LINK")]
    pub(crate) pod_bridge_interface: Option<String>,
    /// How the names of the pods' links begin, for InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX")]
    pub(crate) pod_interface_name_prefix: Option<String>,
    /// Which of the node's addresses node ports answer at: CIDRs, primary, localhost or all; else all
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    pub(crate) nodeport_addresses: Vec<String>,
    /// Whether node ports answer at 127.0.0.1 [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = go_bool, value_name = "BOOL")]
    pub(crate) iptables_localhost_nodeports: Option<bool>,
    /// Masquerade all packets to cluster IPs that come from outside the node
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = go_bool, value_name = "BOOL")]
    pub(crate) masquerade_all: Option<bool>,
    /// The node's primary address, in place of the API's; nothing is bound to it
    #[arg(long, value_name = "IP")]
    pub(crate) bind_address: Option<String>,
    /// Address of /healthz and /livez; empty: none [default: 0.0.0.0:10256]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) healthz_bind_address: Option<String>,
    /// Address of /metrics; empty: none [default: 127.0.0.1:10249]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics_bind_address: Option<String>,
    /// The port alone of --healthz-bind-address; 0: none
    #[arg(long, value_name = "PORT", hide = true)]
    pub(crate) healthz_port: Option<u16>,
    /// The port alone of --metrics-bind-address; 0: none
    #[arg(long, value_name = "PORT", hide = true)]
    pub(crate) metrics_port: Option<u16>,
    /// End if one of the two addresses cannot be had
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = go_bool, value_name = "BOOL")]
    pub(crate) bind_address_hard_fail: Option<bool>,
    /// kube-proxy's mode, whose defaults and section of the configuration count: iptables, ipvs or
    /// nftables. The programs are the same
    #[arg(long, value_name = "MODE")]
    pub(crate) proxy_mode: Option<String>,
    /// Half the time after which an update that waits is too late, for /healthz [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) iptables_sync_period: Option<GoDuration>,
    /// The least time between two updates of the tables [default: 0s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) iptables_min_sync_period: Option<GoDuration>,
    /// As --iptables-sync-period, in the mode ipvs
    #[arg(long, value_name = "DURATION", hide = true)]
    pub(crate) ipvs_sync_period: Option<GoDuration>,
    /// As --iptables-min-sync-period, in the mode ipvs
    #[arg(long, value_name = "DURATION", hide = true)]
    pub(crate) ipvs_min_sync_period: Option<GoDuration>,
    /// Feature gates of Kubernetes, of which none has an effect: NAME=true,...
    #[arg(long, value_name = "GATES", value_parser = parse_feature_gates, hide = true)]
    pub(crate) feature_gates: Vec<BTreeMap<String, bool>>,
    /// The process's oom_score_adj [default: -999]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) oom_score_adj: Option<i32>,
    /// Requests a second to the API server; unlimited unless given
    #[arg(long, value_name = "N")]
    pub(crate) kube_api_qps: Option<f64>,
    /// Requests at once to the API server, if --kube-api-qps limits them
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) kube_api_burst: Option<i32>,
}

/// Flags of kube-proxy 1.35 alone without a counterpart.
#[derive(Debug, Default)]
pub(crate) struct KubeProxyFlags;

impl IgnoredFlags for KubeProxyFlags {
    const FLAGS: &'static [IgnoredFlag] = &[
        ("config-sync-period", true),
        ("conntrack-max-per-core", true),
        ("conntrack-min", true),
        ("conntrack-tcp-be-liberal", false),
        ("conntrack-tcp-timeout-close-wait", true),
        ("conntrack-tcp-timeout-established", true),
        ("conntrack-udp-timeout", true),
        ("conntrack-udp-timeout-stream", true),
        ("iptables-masquerade-bit", true),
        ("ipvs-exclude-cidrs", true),
        ("ipvs-scheduler", true),
        ("ipvs-strict-arp", false),
        ("ipvs-tcp-timeout", true),
        ("ipvs-tcpfin-timeout", true),
        ("ipvs-udp-timeout", true),
        ("logtostderr", false),
        ("proxy-port-range", true),
    ];
}

/// What the tables say. They are in the kernel: they can be read whether or not the proxy runs.
#[derive(Debug, Subcommand)]
pub(crate) enum ProxyCommand {
    /// The addresses of Services
    Services(InspectArgs),
    /// The backends of each Service's port
    Backends(InspectArgs),
    /// The connections through Services
    Connections(InspectArgs),
    /// The latest packets dropped and calls refused, and why
    Drops(InspectArgs),
    /// The way of one connection through the tables, and the rule that decides
    Trace(TraceArgs),
}

/// Whose tables, and how they are printed.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Only Services of this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Only this Service
    #[arg(value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = ProxyOutput::Table, value_name = "FORMAT")]
    pub(crate) output: ProxyOutput,
}

/// Which of the nodes that have tables on this machine.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Only of this node, where there are several on this machine
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProxyOutput {
    /// For people
    Table,
    /// A table with more columns
    Wide,
    /// A list of objects
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// tcp, udp or sctp
    #[arg(value_name = "PROTOCOL", value_parser = protocol)]
    pub(crate) protocol: Protocol,
    /// The client
    #[arg(value_name = "IP:PORT")]
    pub(crate) source: SocketAddr,
    /// What it asks for
    #[arg(value_name = "IP:PORT")]
    pub(crate) destination: SocketAddr,
    /// Where the client is; else its address tells
    #[arg(long, value_enum, value_name = "PLACE")]
    pub(crate) from: Option<ClientPlace>,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = ProxyOutput::Table, value_name = "FORMAT")]
    pub(crate) output: ProxyOutput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientPlace {
    /// A process of the node itself
    Node,
    /// A process in a pod of the node
    Pod,
    /// Elsewhere; its packets come in by a link
    Outside,
}

impl From<ClientPlace> for Place {
    fn from(place: ClientPlace) -> Self {
        match place {
            ClientPlace::Node => Self::Node,
            ClientPlace::Pod => Self::Pod,
            ClientPlace::Outside => Self::Outside,
        }
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "sctp" => Ok(Protocol::Sctp),
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err("must be tcp, udp or sctp".to_owned()),
    }
}
