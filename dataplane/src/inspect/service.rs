//! Services and their backends as rows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use pintle_ebpf_common::{Counters, Endpoint, Frontend, FrontendKey, Scope, ServiceLabel, flag};
use serde::Serialize;

use super::{Tables, protocol_name, text};
use crate::plan::{ip_addr, socket_addr};

/// An address at which a port of a Service answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRow {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service.
    pub name: String,
    /// The port's name; empty if it has none.
    pub port_name: String,
    /// What kind of address it is.
    pub kind: FrontendKind,
    /// The address; of a node port the unspecified one, which stands for the node's.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// TCP, UDP or SCTP.
    pub protocol: &'static str,
    /// Backends for clients on this node.
    pub backends: u32,
    /// Backends for clients from elsewhere.
    pub external_backends: u32,
    /// What becomes of the former clients where there are none.
    pub otherwise: &'static str,
    /// What becomes of the latter.
    pub external_otherwise: &'static str,
    /// Seconds of session affinity; 0 is none.
    pub affinity_seconds: u32,
    /// Whether `loadBalancerSourceRanges` are checked.
    pub checks_source: bool,
    /// Whether flows choose their backend by consistent hashing.
    pub consistent: bool,
    /// Connections and datagram flows to the port, at all its addresses.
    pub connections: u64,
    /// Packets of them to backends that were translated on the node's links: those of clients
    /// elsewhere. Sockets of the node name the backend themselves, so their packets are not seen.
    pub packets_to: u64,
    /// Their bytes.
    pub bytes_to: u64,
    /// Packets from backends, likewise.
    pub packets_from: u64,
    /// Their bytes.
    pub bytes_from: u64,
    /// The port's number in the tables.
    pub id: u32,
    /// The backends' table.
    pub table: u64,
    /// Whether the record is whole; one that is just being replaced is not.
    pub whole: bool,
}

/// What kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum FrontendKind {
    /// `spec.clusterIPs`.
    ClusterIP,
    /// `spec.externalIPs`.
    ExternalIP,
    /// `status.loadBalancer`.
    LoadBalancer,
    /// `spec.ports[].nodePort`.
    NodePort,
}

impl FrontendKind {
    pub(super) fn of(key: FrontendKey, frontend: &Frontend) -> Self {
        let has = |bit| frontend.flags & bit != 0;
        if has(flag::NODE_PORT) || key.address == key.node_port().address {
            Self::NodePort
        } else if has(flag::LOAD_BALANCER) {
            Self::LoadBalancer
        } else if has(flag::EXTERNAL_IP) {
            Self::ExternalIP
        } else {
            Self::ClusterIP
        }
    }

    /// The name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::ExternalIP => "ExternalIP",
            Self::LoadBalancer => "LoadBalancer",
            Self::NodePort => "NodePort",
        }
    }
}

/// A backend of a port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendRow {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service.
    pub name: String,
    /// The port's name; empty if it has none.
    pub port_name: String,
    /// TCP, UDP or SCTP.
    pub protocol: &'static str,
    /// The backend's address and port.
    pub backend: std::net::SocketAddr,
    /// Whether clients on this node are sent to it, at some address of the Service.
    pub internal: bool,
    /// Whether clients from elsewhere are.
    pub external: bool,
    /// The share of the clients on this node that are sent to it, a million being all.
    pub share_ppm: u32,
}

/// One row an address, in the order of the Services' names.
#[must_use]
pub fn services(tables: &Tables) -> Vec<ServiceRow> {
    let mut rows: Vec<ServiceRow> =
        tables.frontends.iter().map(|(key, frontend)| row(tables, *key, frontend)).collect();
    rows.sort_unstable();
    rows
}

fn row(tables: &Tables, key: FrontendKey, frontend: &Frontend) -> ServiceRow {
    let label = tables.services.get(&frontend.service);
    let [namespace, name, port_name] = names(label);
    let counters = tables.counters.get(&frontend.service).copied().unwrap_or_default();
    let Counters { connections, packets_to, bytes_to, packets_from, bytes_from } = counters;
    ServiceRow {
        namespace,
        name,
        port_name,
        kind: FrontendKind::of(key, frontend),
        address: ip_addr(key.address),
        port: u16::from_be(key.port_be),
        protocol: protocol_name(key.protocol),
        backends: frontend.internal.count,
        external_backends: frontend.external.count,
        otherwise: otherwise(frontend, Scope::Internal),
        external_otherwise: otherwise(frontend, Scope::External),
        affinity_seconds: frontend.affinity_seconds,
        checks_source: frontend.ranges != 0,
        consistent: frontend.internal_ring.count != 0 || frontend.external_ring.count != 0,
        connections,
        packets_to,
        bytes_to,
        packets_from,
        bytes_from,
        id: frontend.service,
        table: frontend.table,
        whole: frontend.is_sealed_for(key),
    }
}

fn otherwise(frontend: &Frontend, scope: Scope) -> &'static str {
    if frontend.drops(scope) { "drop" } else { "reject" }
}

pub(super) fn names(label: Option<&ServiceLabel>) -> [String; 3] {
    match label {
        Some(label) => [text(&label.namespace), text(&label.name), text(&label.port)],
        None => Default::default(),
    }
}

/// One row a backend and port of a Service, in the order of the Services' names.
#[must_use]
pub fn backends(tables: &Tables) -> Vec<BackendRow> {
    // By number and protocol: which backends either kind of client is sent to.
    let mut ports: BTreeMap<(u32, u8), [BTreeSet<Endpoint>; 2]> = BTreeMap::new();
    for (key, frontend) in &tables.frontends {
        let sets = ports.entry((frontend.service, key.protocol)).or_default();
        for (set, scope) in sets.iter_mut().zip([Scope::Internal, Scope::External]) {
            set.extend(tables.backends(frontend.table, frontend.run(scope)));
        }
    }
    let mut rows = Vec::new();
    for ((number, protocol), [internal, external]) in ports {
        let [namespace, name, port_name] = names(tables.services.get(&number));
        for backend in internal.union(&external) {
            let is_internal = internal.contains(backend);
            let share = 1_000_000 / u32::try_from(internal.len().max(1)).unwrap_or(u32::MAX);
            rows.push(BackendRow {
                namespace: namespace.clone(),
                name: name.clone(),
                port_name: port_name.clone(),
                protocol: protocol_name(protocol),
                backend: socket_addr(*backend),
                internal: is_internal,
                external: external.contains(backend),
                share_ppm: if is_internal { share } else { 0 },
            });
        }
    }
    rows.sort_unstable();
    rows
}
