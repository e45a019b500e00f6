//! KubeProxyConfiguration v1alpha1, read as kube-proxy 1.35 reads it.
//!
//! Bytes → [`v1alpha1`] (what is written, then with its defaults) → [`check`]ed. Messages are
//! upstream's; each names the field by its path in the file. Stricter than upstream in one point:
//! kube-proxy reads a file with unknown or duplicate fields all the same and logs them, here they
//! stop the start.
//!
//! [`check`]: KubeProxyConfiguration::check

use std::net::{IpAddr, SocketAddr};
use std::path::Path as FilePath;
use std::time::Duration;

use ipnet::IpNet;
use pintle_api::decode::{self, Syntax};
use pintle_api::duration::GoDuration;
use pintle_api::field::{Errors, Path};
use pintle_component::{ConfigurationError, read_configuration};
use serde_json::Value;

use crate::kernel::{Express, PodLinks};
use crate::plan::NodePortAddress;

mod feature_gates;
#[cfg(test)]
mod tests;
mod v1alpha1;

pub use feature_gates::parse as parse_feature_gates;
pub use v1alpha1::{
    ClientConnectionConfiguration, DetectLocalConfiguration, KubeProxyConfiguration,
    KubeProxyConntrackConfiguration, KubeProxyIPTablesConfiguration, KubeProxyIPVSConfiguration,
    KubeProxyNFTablesConfiguration, KubeProxyWinkernelConfiguration, LoggingConfiguration,
};

use v1alpha1::{API_VERSION, KIND};

/// A configuration that may be used.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedConfiguration {
    configuration: KubeProxyConfiguration,
    node_port_addresses: Vec<NodePortAddress>,
    local_detection: LocalDetection,
    healthz_address: Option<SocketAddr>,
    metrics_address: Option<SocketAddr>,
}

/// `detectLocalMode` with what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalDetection {
    /// `BridgeInterface`.
    Bridge(String),
    /// `ClusterCIDR`; without a range it cannot be told.
    ClusterCidr(Vec<IpNet>),
    /// `InterfaceNamePrefix`.
    InterfacePrefix(String),
    /// `NodeCIDR`: the ranges are the Node's, which has to be asked for them.
    NodeCidr,
}

impl KubeProxyConfiguration {
    /// Reads a file, in YAML or JSON, and fills in what it leaves out.
    pub fn read(path: &FilePath) -> Result<Self, ConfigurationError> {
        read_configuration(path, Self::parse)
    }

    /// Reads a configuration, in YAML or JSON, and fills in what it leaves out.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut document = decode::parse(bytes, Syntax::Yaml).map_err(|error| error.to_string())?;
        check_kind(&document.value)?;
        let (mut read, unknown): (Self, _) = decode::read(&mut document.value)?;
        let mut findings = document.duplicates;
        findings.extend(unknown);
        if !findings.is_empty() {
            return Err(format!("strict decoding error: {}", findings.join(", ")));
        }
        read.set_defaults();
        Ok(read)
    }

    /// The configuration of no file at all.
    #[must_use]
    pub fn defaulted() -> Self {
        let mut configuration = Self::default();
        configuration.set_defaults();
        configuration
    }

    /// Fill in what is not said. What is said already stays.
    #[must_use]
    pub fn completed(mut self) -> Self {
        self.set_defaults();
        self
    }

    /// Checks what the file and the flags say together.
    pub fn check(self) -> Result<CheckedConfiguration, Errors> {
        let mut errors = Errors::new();
        check_sections(&self, &mut errors);
        check_conntrack(&self, &mut errors);
        check_scalars(&self, &mut errors);
        let path = Path::new("healthzBindAddress");
        let healthz_address = check_address(&self.healthz_bind_address, &path, &mut errors);
        let path = Path::new("metricsBindAddress");
        let metrics_address = check_address(&self.metrics_bind_address, &path, &mut errors);
        let node_port_addresses = check_node_port_addresses(&self, &mut errors);
        let local_detection = check_detection(&self, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(CheckedConfiguration {
            configuration: self,
            node_port_addresses,
            local_detection,
            healthz_address,
            metrics_address,
        })
    }

    /// The periods of the section that the mode chooses.
    fn periods(&self) -> (&'static str, GoDuration, GoDuration) {
        match self.mode.as_str() {
            "ipvs" => ("ipvs", self.ipvs.sync_period, self.ipvs.min_sync_period),
            "nftables" => ("nftables", self.nftables.sync_period, self.nftables.min_sync_period),
            _ => ("iptables", self.iptables.sync_period, self.iptables.min_sync_period),
        }
    }
}

impl CheckedConfiguration {
    /// What was checked.
    #[must_use]
    pub fn configuration(&self) -> &KubeProxyConfiguration {
        &self.configuration
    }

    /// At which of the node's addresses node ports answer.
    #[must_use]
    pub fn node_port_addresses(&self) -> &[NodePortAddress] {
        &self.node_port_addresses
    }

    /// Whether node ports answer at 127.0.0.1, if the list has it: in the mode `iptables` unless that is
    /// switched off, in the others if it is asked for by name.
    #[must_use]
    pub fn localhost_node_ports(&self) -> bool {
        match self.configuration.mode.as_str() {
            "iptables" => self.configuration.iptables.localhost_node_ports != Some(false),
            _ => self.node_port_addresses.contains(&NodePortAddress::Localhost),
        }
    }

    /// How the cluster's pods are told from others.
    #[must_use]
    pub fn local_detection(&self) -> &LocalDetection {
        &self.local_detection
    }

    /// Where `/healthz` and `/livez` are answered, if anywhere.
    #[must_use]
    pub fn healthz_address(&self) -> Option<SocketAddr> {
        self.healthz_address
    }

    /// Where `/metrics` is answered, if anywhere.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The node's primary address, if it is not to be the one in the API.
    #[must_use]
    pub fn node_ip(&self) -> Option<IpAddr> {
        self.configuration.bind_address.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified())
    }

    /// Whether all packets to cluster IPs from outside the node are masqueraded.
    #[must_use]
    pub fn masquerade_all(&self) -> bool {
        match self.configuration.mode.as_str() {
            "nftables" => self.configuration.nftables.masquerade_all,
            _ => self.configuration.iptables.masquerade_all,
        }
    }

    /// Whether packets that turn back may do so before the kernel makes anything of them.
    #[must_use]
    pub fn express(&self) -> Express {
        match self.configuration.pintle.node_port_acceleration.as_str() {
            "Native" => Express::Native,
            "BestEffort" => Express::Generic,
            _ => Express::Off,
        }
    }

    /// Whether pods' links have the programs for packets from the start.
    #[must_use]
    pub fn pod_links(&self) -> PodLinks {
        match self.configuration.pintle.pod_links.as_str() {
            "Always" => PodLinks::Always,
            _ => PodLinks::WhenNeeded,
        }
    }

    /// Whether clients from outside are answered by the node that their backend is on.
    #[must_use]
    pub fn direct_return(&self) -> bool {
        self.configuration.pintle.load_balancer_mode == "DSR"
    }

    /// The least time between two updates of the tables.
    #[must_use]
    pub fn min_sync_period(&self) -> Duration {
        self.configuration.periods().2.to_std()
    }

    /// When an update that waits is too late: after two sync periods.
    #[must_use]
    pub fn health_timeout(&self) -> Duration {
        self.configuration.periods().1.to_std() * 2
    }

    /// The fields that say something other than their default and mean nothing here.
    #[must_use]
    pub fn without_effect(&self) -> Vec<String> {
        let shown = |it: &KubeProxyConfiguration| serde_json::to_value(it).unwrap_or_default();
        let mut plain =
            KubeProxyConfiguration { mode: self.configuration.mode.clone(), ..Default::default() };
        plain.set_defaults();
        let (ours, plain) = (shown(&self.configuration), shown(&plain));
        let said =
            NO_EFFECT.iter().filter(|pointer| ours.pointer(pointer) != plain.pointer(pointer));
        said.map(|pointer| pointer[1..].replace('/', ".")).collect()
    }
}

/// Fields that have nothing to change here. Those of the sections that the mode does not choose count
/// for nothing in kube-proxy either.
const NO_EFFECT: &[&str] = &[
    "/clientConnection/acceptContentTypes",
    "/clientConnection/contentType",
    "/configSyncPeriod",
    "/conntrack/maxPerCore",
    "/conntrack/min",
    "/conntrack/tcpBeLiberal",
    "/conntrack/tcpCloseWaitTimeout",
    "/conntrack/tcpEstablishedTimeout",
    "/conntrack/udpStreamTimeout",
    "/conntrack/udpTimeout",
    "/enableProfiling",
    "/featureGates",
    "/iptables/masqueradeBit",
    "/ipvs/excludeCIDRs",
    "/ipvs/scheduler",
    "/ipvs/strictARP",
    "/ipvs/tcpFinTimeout",
    "/ipvs/tcpTimeout",
    "/ipvs/udpTimeout",
    "/logging/flushFrequency",
    "/logging/options",
    "/logging/vmodule",
    "/nftables/masqueradeBit",
    "/portRange",
    "/showHiddenMetricsForVersion",
    "/windowsRunAsService",
    "/winkernel",
];

/// The type must be stated and be this one.
fn check_kind(value: &Value) -> Result<(), String> {
    let stated = |field: &str| match &value[field] {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text.as_str()),
        other => Err(format!("json: cannot unmarshal {other} into {field} of type string")),
    };
    match (stated("apiVersion")?, stated("kind")?) {
        (_, "") => Err("Object 'Kind' is missing".to_owned()),
        ("", _) => Err("Object 'apiVersion' is missing".to_owned()),
        (API_VERSION, KIND) => Ok(()),
        (version, kind) => Err(format!(
            "no kind {kind:?} is registered for version {version:?}; write apiVersion: \
             {API_VERSION} and kind: {KIND}"
        )),
    }
}

fn check_sections(it: &KubeProxyConfiguration, errors: &mut Errors) {
    let modes = ["iptables", "ipvs", "nftables"];
    if !modes.contains(&it.mode.as_str()) {
        let detail = "must be iptables, ipvs, nftables or blank (all mean the same programs here)";
        errors.invalid(&Path::new("mode"), it.mode.as_str(), detail);
    }
    for (name, detail) in feature_gates::unrecognized(&it.feature_gates) {
        errors.invalid(&Path::new("featureGates"), name, detail);
    }
    check_pintle(it, errors);
    let (section, sync, min_sync) = it.periods();
    let section = Path::new(section);
    if sync.is_zero_or_less() {
        errors.invalid(&section.child("syncPeriod"), sync.to_string(), "must be greater than 0");
    }
    if min_sync.is_negative() {
        let path = section.child("minSyncPeriod");
        errors.invalid(&path, min_sync.to_string(), "must be greater than or equal to 0");
    }
    if min_sync > sync {
        let detail = format!("must be greater than or equal to {}", section.child("minSyncPeriod"));
        errors.invalid(&section.child("syncPeriod"), sync.to_string(), detail);
    }
    for (section, bit) in
        [("iptables", it.iptables.masquerade_bit), ("nftables", it.nftables.masquerade_bit)]
    {
        if let Some(bit) = bit.filter(|bit| !(0..=31).contains(bit)) {
            let path = Path::new(section);
            errors.invalid(&path.child("masqueradeBit"), bit, "must be within the range [0, 31]");
        }
    }
    if it.mode == "ipvs" {
        check_ipvs(&it.ipvs, errors);
    }
}

fn check_pintle(it: &KubeProxyConfiguration, errors: &mut Errors) {
    let section = Path::new("pintle");
    let acceleration = it.pintle.node_port_acceleration.as_str();
    if !["", "Disabled", "Native", "BestEffort"].contains(&acceleration) {
        let path = section.child("nodePortAcceleration");
        errors.invalid(&path, acceleration, "must be Disabled, Native or BestEffort");
    }
    let mode = it.pintle.load_balancer_mode.as_str();
    if !["", "SNAT", "DSR"].contains(&mode) {
        errors.invalid(&section.child("loadBalancerMode"), mode, "must be SNAT or DSR");
    }
    let links = it.pintle.pod_links.as_str();
    if !["", "WhenNeeded", "Always"].contains(&links) {
        errors.invalid(&section.child("podLinks"), links, "must be WhenNeeded or Always");
    }
}

fn check_ipvs(it: &KubeProxyIPVSConfiguration, errors: &mut Errors) {
    let section = Path::new("ipvs");
    for (field, time) in [
        ("tcpTimeout", it.tcp_timeout),
        ("tcpFinTimeout", it.tcp_fin_timeout),
        ("udpTimeout", it.udp_timeout),
    ] {
        check_not_negative(&section.child(field), time, errors);
    }
    let list = section.child("excludeCIDRs");
    for (at, cidr) in it.exclude_cidrs.iter().enumerate() {
        if cidr.parse::<IpNet>().is_err() {
            errors.invalid(&list.index(at), cidr.as_str(), "must be a valid CIDR");
        }
    }
}

fn check_conntrack(it: &KubeProxyConfiguration, errors: &mut Errors) {
    let it = &it.conntrack;
    let section = Path::new("conntrack");
    for (field, number) in [("maxPerCore", it.max_per_core), ("min", it.min)] {
        if let Some(number) = number.filter(|number| *number < 0) {
            errors.invalid(&section.child(field), number, "must be greater than or equal to 0");
        }
    }
    for (field, time) in [
        ("tcpEstablishedTimeout", it.tcp_established_timeout.unwrap_or_default()),
        ("tcpCloseWaitTimeout", it.tcp_close_wait_timeout.unwrap_or_default()),
        ("udpTimeout", it.udp_timeout),
        ("udpStreamTimeout", it.udp_stream_timeout),
    ] {
        check_not_negative(&section.child(field), time, errors);
    }
}

fn check_not_negative(path: &Path<'_>, time: GoDuration, errors: &mut Errors) {
    if time.is_negative() {
        errors.invalid(path, time.to_string(), "must be greater than or equal to 0");
    }
}

fn check_scalars(it: &KubeProxyConfiguration, errors: &mut Errors) {
    if let Some(score) = it.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
        let detail = "must be within the range [-1000, 1000]";
        errors.invalid(&Path::new("oomScoreAdj"), score, detail);
    }
    if it.client_connection.burst < 0 {
        let path = Path::new("clientConnection");
        let burst = it.client_connection.burst;
        errors.invalid(&path.child("burst"), burst, "must be greater than or equal to 0");
    }
    if it.config_sync_period.is_zero_or_less() {
        let period = it.config_sync_period.to_string();
        errors.invalid(&Path::new("configSyncPeriod"), period, "must be greater than 0");
    }
    if it.bind_address.parse::<IpAddr>().is_err() {
        let detail = "not a valid textual representation of an IP address";
        errors.invalid(&Path::new("bindAddress"), it.bind_address.as_str(), detail);
    }
    if !is_port_range(&it.port_range) {
        let detail = "must be a valid port range (e.g. 300-2000)";
        errors.invalid(&Path::new("portRange"), it.port_range.as_str(), detail);
    }
    let version = it.show_hidden_metrics_for_version.as_str();
    if !["", PREVIOUS_VERSION].contains(&version) {
        let detail = format!(
            "--show-hidden-metrics-for-version must be omitted or have the value \
             '{PREVIOUS_VERSION}'. Only the previous minor version is allowed"
        );
        errors.invalid(&Path::new("showHiddenMetricsForVersion"), version, detail);
    }
    if !["text", "json"].contains(&it.logging.format.as_str()) {
        let path = Path::new("logging");
        errors.invalid(&path.child("format"), it.logging.format.as_str(), "Unsupported log format");
    }
}

/// The minor version of Kubernetes before the one whose kube-proxy this stands for.
const PREVIOUS_VERSION: &str = "1.34";

/// `300-2000`, `300+100`, `300`, or nothing.
fn is_port_range(text: &str) -> bool {
    let text = text.trim();
    let port = |text: &str| text.parse::<u16>().ok();
    if text.is_empty() {
        return true;
    }
    if let Some((low, high)) = text.split_once('-') {
        return port(low).zip(port(high)).is_some_and(|(low, high)| low <= high);
    }
    if let Some((base, size)) = text.split_once('+') {
        return port(base)
            .zip(port(size))
            .is_some_and(|(base, size)| base.checked_add(size).is_some());
    }
    port(text).is_some()
}

/// An empty one says that there is no such listener.
fn check_address(text: &str, path: &Path<'_>, errors: &mut Errors) -> Option<SocketAddr> {
    if text.is_empty() {
        return None;
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        errors.invalid(path, text, "must be IP:port");
        return None;
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let ip: Option<IpAddr> = match bare {
        Some(v6) => v6.parse().ok(),
        None if host.contains(':') => {
            errors.invalid(path, text, "must be IP:port");
            return None;
        }
        None => host.parse().ok(),
    };
    if ip.is_none() {
        errors.invalid(path, bare.unwrap_or(host), "must be a valid IP");
    }
    let number = port.parse::<u16>().ok().filter(|port| *port > 0);
    if number.is_none() {
        errors.invalid(path, port, "must be a valid port");
    }
    Some(SocketAddr::new(ip?, number?))
}

fn check_node_port_addresses(
    it: &KubeProxyConfiguration,
    errors: &mut Errors,
) -> Vec<NodePortAddress> {
    let list = Path::new("nodePortAddresses");
    let mut addresses = Vec::with_capacity(it.node_port_addresses.len());
    for (at, word) in it.node_port_addresses.iter().enumerate() {
        match word.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => errors.invalid(&list.index(at), word.as_str(), "must be a valid CIDR"),
        }
    }
    addresses
}

fn check_detection(it: &KubeProxyConfiguration, errors: &mut Errors) -> LocalDetection {
    let section = Path::new("detectLocal");
    let mut named = |field: &str, name: &str| {
        if name.is_empty() {
            errors.invalid(&section.child(field), name, "must not be empty");
        }
        name.to_owned()
    };
    match it.detect_local_mode.as_str() {
        "BridgeInterface" => {
            LocalDetection::Bridge(named("bridgeInterface", &it.detect_local.bridge_interface))
        }
        "InterfaceNamePrefix" => LocalDetection::InterfacePrefix(named(
            "interfaceNamePrefix",
            &it.detect_local.interface_name_prefix,
        )),
        "NodeCIDR" => LocalDetection::NodeCidr,
        "ClusterCIDR" => LocalDetection::ClusterCidr(check_cluster_cidr(&it.cluster_cidr, errors)),
        other => {
            let modes = ["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", ""];
            errors.not_supported(&Path::new("detectLocalMode"), other, &modes);
            LocalDetection::NodeCidr
        }
    }
}

fn check_cluster_cidr(text: &str, errors: &mut Errors) -> Vec<IpNet> {
    let path = Path::new("clusterCIDR");
    if text.is_empty() {
        return Vec::new();
    }
    let words: Vec<&str> = text.split(',').collect();
    let cidrs: Vec<IpNet> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if cidrs.len() < words.len() {
        let detail = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)";
        errors.invalid(&path, text, detail);
    }
    let one_a_family = match cidrs.as_slice() {
        [first, second] => first.addr().is_ipv4() != second.addr().is_ipv4(),
        cidrs => cidrs.len() < 2,
    };
    if words.len() > 2 || !one_a_family {
        let detail = "must be a either a single CIDR or dual-stack pair of CIDRs (e.g. \
                      [10.100.0.0/16, fde4:8dba:82e1::/48]";
        errors.invalid(&path, text, detail);
    }
    cidrs
}
