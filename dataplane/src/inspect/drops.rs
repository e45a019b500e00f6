//! The latest packets dropped and calls refused, as rows.

use std::net::SocketAddr;

use pintle_ebpf_common::{Drop, Endpoint, Tuple, event, hook};
use serde::Serialize;

use super::service::names;
use super::{Tables, protocol_name};
use crate::plan::socket_addr;

/// A packet that was dropped, or a socket's call that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DropRow {
    /// When, in nanoseconds on the kernel's clock since boot.
    pub at_ns: u64,
    /// How long ago that was, in milliseconds.
    pub age_ms: u64,
    /// What it was: `packet` or `call`.
    pub what: &'static str,
    /// TCP, UDP or SCTP.
    pub protocol: &'static str,
    /// Where it came from; of a call it is not known.
    pub source: Option<SocketAddr>,
    /// Where it was to go.
    pub destination: SocketAddr,
    /// Why it went no further.
    pub reason: &'static str,
    /// The Service's namespace, if it was one's.
    pub namespace: String,
    /// The Service.
    pub name: String,
    /// The packet's length in bytes.
    pub length_bytes: u32,
}

/// One row a drop, the oldest first. `now_ns` is the kernel's clock since boot.
#[must_use]
pub fn drops(tables: &Tables, drops: &[Drop], now_ns: u64) -> Vec<DropRow> {
    drops.iter().map(|drop| row(tables, drop, now_ns)).collect()
}

fn row(tables: &Tables, drop: &Drop, now_ns: u64) -> DropRow {
    let Tuple { source, destination, source_port_be, destination_port_be, protocol, .. } =
        drop.tuple;
    let is_call = drop.tuple.hook == hook::SOCKET;
    let [namespace, name, _] = names(tables.services.get(&drop.service));
    DropRow {
        at_ns: drop.at_ns,
        age_ms: now_ns.saturating_sub(drop.at_ns) / 1_000_000,
        what: if is_call { "call" } else { "packet" },
        protocol: protocol_name(protocol),
        source: (!is_call).then(|| socket_addr(Endpoint::new(source, source_port_be))),
        destination: socket_addr(Endpoint::new(destination, destination_port_be)),
        reason: reason(drop.reason),
        namespace,
        name,
        length_bytes: drop.length,
    }
}

fn reason(number: u32) -> &'static str {
    match number {
        event::REFUSED => "refused: no backend",
        event::DROPPED_NO_BACKEND => "dropped: no backend",
        event::DROPPED_SOURCE => "dropped: source range",
        event::DROPPED_NO_PORT => "dropped: no port left",
        event::DROPPED_UNFIT => "dropped: malformed",
        _ => "unknown",
    }
}
