//! Connections as rows: those of packets that are translated, and those of sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use pintle_ebpf_common::{
    Endpoint, FrontendKey, Tracked, Translation, Tuple, hook, protocol, tracked,
};
use serde::Serialize;

use super::service::names;
use super::{Flows, Tables, protocol_name};
use crate::plan::socket_addr;

/// The local addresses of TCP sockets by their cookie, as far as they are known.
pub type Sockets = BTreeMap<u64, SocketAddr>;

/// A connection through a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRow {
    /// TCP, UDP or SCTP.
    pub protocol: &'static str,
    /// Where it is translated: `packet` or `socket`.
    pub translated: &'static str,
    /// The client; of a socket in a network namespace that was not looked into it is not known.
    pub client: Option<SocketAddr>,
    /// The kernel's number of the client's socket.
    pub socket: Option<u64>,
    /// The address that the client named.
    pub service_address: SocketAddr,
    /// The backend that its packets go to.
    pub backend: SocketAddr,
    /// What the backend takes for the client, if that is another.
    pub masqueraded_as: Option<SocketAddr>,
    /// The Service's namespace, if the address is still published.
    pub namespace: String,
    /// The Service.
    pub name: String,
    /// The port's name.
    pub port_name: String,
}

/// One row a connection. Datagram sockets that are not connected keep their translation with themselves;
/// of those the ones are seen here that have used more than one backend.
#[must_use]
pub fn connections(tables: &Tables, flows: &Flows, sockets: &Sockets) -> Vec<ConnectionRow> {
    let packets = flows.tracked.iter().filter_map(|entry| packet(tables, flows, entry));
    let tcp = flows
        .tcp
        .iter()
        .map(|(cookie, translation)| socket(tables, sockets, *cookie, *translation, protocol::TCP));
    let connected = flows
        .connected
        .iter()
        .map(|(cookie, translation)| socket(tables, sockets, *cookie, *translation, protocol::UDP));
    let datagrams = flows.datagrams.iter().map(|(flow, service)| {
        let translation = Translation { backend: flow.backend, service: *service };
        socket(tables, sockets, flow.socket, translation, protocol::UDP)
    });
    let mut rows: Vec<ConnectionRow> =
        packets.chain(tcp).chain(connected).chain(datagrams).collect();
    rows.sort_unstable();
    rows
}

/// Of a connection's four entries the one for the client's packets where they come in.
fn packet(
    tables: &Tables,
    flows: &Flows,
    (key, entry): (&Tuple, &Tracked),
) -> Option<ConnectionRow> {
    if key.hook != hook::INGRESS || entry.flags & tracked::REPLY != 0 {
        return None;
    }
    let leaving = Tuple { hook: hook::EGRESS, ..entry.to };
    let seen_as = flows.tracked.get(&leaving).filter(|it| it.flags & tracked::PENDING == 0);
    let client = source(key);
    let seen_as = seen_as.map(|leaving| source(&leaving.to)).filter(|seen| *seen != client);
    let [namespace, name, port_name] = names(tables.services.get(&entry.service));
    Some(ConnectionRow {
        protocol: protocol_name(key.protocol),
        translated: "packet",
        client: Some(client),
        socket: None,
        service_address: destination(key),
        backend: destination(&entry.to),
        masqueraded_as: seen_as,
        namespace,
        name,
        port_name,
    })
}

fn socket(
    tables: &Tables,
    sockets: &Sockets,
    cookie: u64,
    Translation { backend, service }: Translation,
    protocol: u8,
) -> ConnectionRow {
    let key = FrontendKey::new(service.address, service.port_be, protocol);
    let frontend = tables.frontends.get(&key).or_else(|| tables.frontends.get(&key.node_port()));
    let label = frontend.and_then(|frontend| tables.services.get(&frontend.service));
    let [namespace, name, port_name] = names(label);
    ConnectionRow {
        protocol: protocol_name(protocol),
        translated: "socket",
        client: sockets.get(&cookie).copied(),
        socket: Some(cookie),
        service_address: socket_addr(service),
        backend: socket_addr(backend),
        masqueraded_as: None,
        namespace,
        name,
        port_name,
    }
}

fn source(tuple: &Tuple) -> SocketAddr {
    socket_addr(Endpoint::new(tuple.source, tuple.source_port_be))
}

fn destination(tuple: &Tuple) -> SocketAddr {
    socket_addr(Endpoint::new(tuple.destination, tuple.destination_port_be))
}
