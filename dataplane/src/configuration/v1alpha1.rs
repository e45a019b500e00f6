//! `kubeproxy.config.k8s.io/v1alpha1` as it is written, and its defaults.
//!
//! Mirrors `k8s.io/kube-proxy/config/v1alpha1/types.go`, `pkg/proxy/apis/config/v1alpha1/defaults.go`
//! and what of `k8s.io/component-base` they contain. The structs bear Go's names, which messages about
//! fields of a wrong type show.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pintle_api::duration::GoDuration;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The file. What is absent is absent, until [`KubeProxyConfiguration::set_defaults`].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeProxyConfiguration {
    /// `kubeproxy.config.k8s.io/v1alpha1`.
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    /// `KubeProxyConfiguration`.
    pub kind: String,
    /// Read, with names that Kubernetes knows, and without effect.
    pub feature_gates: BTreeMap<String, bool>,
    /// How the API server is reached.
    pub client_connection: ClientConnectionConfiguration,
    /// How much is logged.
    pub logging: LoggingConfiguration,
    /// The node's name; else the machine's host name.
    pub hostname_override: String,
    /// The node's primary address, if it is not 0.0.0.0 or ::. Nothing is bound to it.
    pub bind_address: String,
    /// Where `/healthz` and `/livez` are answered.
    pub healthz_bind_address: String,
    /// Where `/metrics` is answered.
    pub metrics_bind_address: String,
    /// Whether an address that cannot be bound ends the process.
    pub bind_address_hard_fail: bool,
    /// Read; there are no profiling endpoints.
    pub enable_profiling: bool,
    /// Read; there are no hidden metrics.
    pub show_hidden_metrics_for_version: String,
    /// kube-proxy's mode: it decides which of the following sections counts.
    pub mode: String,
    /// Of the modes `iptables` and, for the mark, `ipvs`.
    #[serde(rename = "iptables")]
    pub iptables: KubeProxyIPTablesConfiguration,
    /// Of the mode `ipvs`.
    pub ipvs: KubeProxyIPVSConfiguration,
    /// Of the mode `nftables`.
    pub nftables: KubeProxyNFTablesConfiguration,
    /// Of Windows.
    pub winkernel: KubeProxyWinkernelConfiguration,
    /// How it is told which clients are the cluster's pods.
    pub detect_local_mode: String,
    /// What [`Self::detect_local_mode`] needs to know.
    pub detect_local: DetectLocalConfiguration,
    /// The ranges of the cluster's pods, one a family, joined by a comma.
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    /// Which of the node's addresses node ports answer at.
    pub node_port_addresses: Vec<String>,
    /// The process's `oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// Read; connections are not tracked by netfilter.
    pub conntrack: KubeProxyConntrackConfiguration,
    /// Read; watches need no refreshing.
    pub config_sync_period: GoDuration,
    /// Read; unused by kube-proxy too.
    pub port_range: String,
    /// Of Windows.
    pub windows_run_as_service: bool,
    /// What kube-proxy has not.
    pub pintle: PintleConfiguration,
}

/// `pintle`, which kube-proxy's type does not have.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PintleConfiguration {
    /// Who answers clients from outside whose backend is on another node: `SNAT`, the default, this node,
    /// in whose name their packets go there; `DSR`, the backend's, to which they go as they are.
    pub load_balancer_mode: String,
    /// Whether packets that turn back on the link that they came in by do so before the kernel makes
    /// anything of them: `Disabled`, the default; `Native`, where the link's driver can; `BestEffort`,
    /// elsewhere by the kernel's imitation of a driver.
    pub node_port_acceleration: String,
    /// Whether the programs for packets are on pods' links: `WhenNeeded`, the default, from the first
    /// connection or Service on that needs them there; `Always`, from the start.
    pub pod_links: String,
}

/// `clientConnection`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnectionConfiguration {
    /// A kubeconfig; else the pod's service account.
    pub kubeconfig: String,
    /// Read; bodies are JSON.
    pub accept_content_types: String,
    /// Read; bodies are JSON.
    pub content_type: String,
    /// Requests a second, if the file limits them.
    pub qps: f64,
    /// Requests at once, if the file limits them.
    pub burst: i32,
}

/// `logging`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoggingConfiguration {
    /// `text` or `json`.
    pub format: String,
    /// Read; lines are written at once. Nanoseconds or a duration's text.
    pub flush_frequency: Value,
    /// As kube-proxy's `-v`.
    pub verbosity: u32,
    /// Read, and without effect.
    pub vmodule: Vec<Value>,
    /// Read, and without effect.
    pub options: Value,
}

/// `iptables`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeProxyIPTablesConfiguration {
    /// Read; packets are not marked.
    pub masquerade_bit: Option<i32>,
    /// Whether all packets to cluster IPs from outside the node are masqueraded.
    pub masquerade_all: bool,
    /// Whether node ports answer at 127.0.0.1.
    pub localhost_node_ports: Option<bool>,
    /// Twice this is the time after which an update that waits is too late.
    pub sync_period: GoDuration,
    /// The least time between two updates.
    pub min_sync_period: GoDuration,
}

/// `ipvs`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeProxyIPVSConfiguration {
    /// As that of `iptables`.
    pub sync_period: GoDuration,
    /// As that of `iptables`.
    pub min_sync_period: GoDuration,
    /// Read; endpoints are chosen at random.
    pub scheduler: String,
    /// Read; there are no IPVS rules.
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Vec<String>,
    /// Read; no interface has the Services' addresses.
    #[serde(rename = "strictARP")]
    pub strict_arp: bool,
    /// Read.
    pub tcp_timeout: GoDuration,
    /// Read.
    pub tcp_fin_timeout: GoDuration,
    /// Read.
    pub udp_timeout: GoDuration,
}

/// `nftables`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeProxyNFTablesConfiguration {
    /// Read; packets are not marked.
    pub masquerade_bit: Option<i32>,
    /// As that of `iptables`.
    pub masquerade_all: bool,
    /// As that of `iptables`.
    pub sync_period: GoDuration,
    /// As that of `iptables`.
    pub min_sync_period: GoDuration,
}

/// `conntrack`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "netfilter's own settings; all are read and none has an effect")]
pub struct KubeProxyConntrackConfiguration {
    pub max_per_core: Option<i32>,
    pub min: Option<i32>,
    pub tcp_established_timeout: Option<GoDuration>,
    pub tcp_close_wait_timeout: Option<GoDuration>,
    pub tcp_be_liberal: bool,
    pub udp_timeout: GoDuration,
    pub udp_stream_timeout: GoDuration,
}

/// `winkernel`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "Windows' own settings; all are read and none has an effect")]
pub struct KubeProxyWinkernelConfiguration {
    pub network_name: String,
    pub source_vip: String,
    #[serde(rename = "enableDSR")]
    pub enable_dsr: bool,
    pub root_hns_endpoint_name: String,
    pub forward_health_check_vip: bool,
}

/// `detectLocal`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DetectLocalConfiguration {
    /// With `BridgeInterface`: the pods' bridge.
    pub bridge_interface: String,
    /// With `InterfaceNamePrefix`: how the names of the pods' links begin.
    pub interface_name_prefix: String,
}

impl KubeProxyConfiguration {
    /// Fill in what the file left out. The least time between two updates stays zero, where kube-proxy
    /// waits a second: an update here costs microseconds.
    pub(super) fn set_defaults(&mut self) {
        API_VERSION.clone_into(&mut self.api_version);
        KIND.clone_into(&mut self.kind);
        default(&mut self.bind_address, "0.0.0.0");
        let v6 = self.bind_address.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
        let (any, local): (IpAddr, IpAddr) = if v6 {
            (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into())
        } else {
            (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into())
        };
        default_address(&mut self.healthz_bind_address, any, HEALTHZ_PORT);
        default_address(&mut self.metrics_bind_address, local, METRICS_PORT);
        self.oom_score_adj.get_or_insert(-999);
        self.iptables.masquerade_bit.get_or_insert(14);
        self.iptables.localhost_node_ports.get_or_insert(true);
        self.nftables.masquerade_bit.get_or_insert(14);
        let periods = [
            &mut self.iptables.sync_period,
            &mut self.ipvs.sync_period,
            &mut self.nftables.sync_period,
        ];
        for period in periods {
            default_duration(period, 30);
        }
        self.conntrack.max_per_core.get_or_insert(32 * 1024);
        self.conntrack.min.get_or_insert(128 * 1024);
        self.conntrack.tcp_established_timeout.get_or_insert(GoDuration::from_secs(24 * 3600));
        self.conntrack.tcp_close_wait_timeout.get_or_insert(GoDuration::from_secs(3600));
        default_duration(&mut self.config_sync_period, 15 * 60);
        default(&mut self.logging.format, "text");
        default(&mut self.detect_local_mode, "ClusterCIDR");
        default(&mut self.mode, "iptables");
        // kube-proxy's nftables mode is the one with a narrower default.
        if self.mode == "nftables" && self.node_port_addresses.is_empty() {
            self.node_port_addresses.push("primary".to_owned());
        }
    }
}

fn default(field: &mut String, value: &str) {
    if field.is_empty() {
        value.clone_into(field);
    }
}

fn default_duration(field: &mut GoDuration, seconds: u32) {
    if *field == GoDuration::default() {
        *field = GoDuration::from_secs(seconds);
    }
}

/// An address without a port gets the usual one.
fn default_address(field: &mut String, ip: IpAddr, port: u16) {
    if field.is_empty() {
        *field = SocketAddr::new(ip, port).to_string();
    } else if let Ok(ip) = field.parse::<IpAddr>() {
        *field = SocketAddr::new(ip, port).to_string();
    }
}

pub(super) const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
pub(super) const KIND: &str = "KubeProxyConfiguration";
pub(super) const HEALTHZ_PORT: u16 = 10256;
pub(super) const METRICS_PORT: u16 = 10249;
