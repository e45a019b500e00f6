//! What the kernel's tables say, for people: rows of Services, backends and connections, and the way
//! of one connection through the tables. Pure: maps' contents in, values out.
//!
//! [`crate::PinnedMaps`] reads the maps.

mod connection;
mod drops;
mod service;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::{BTreeMap, HashMap};

use pintle_ebpf_common::{
    Address, Affinity, AffinityKey, Counters, Device, Endpoint, Flow, Frontend, FrontendKey,
    ServiceLabel, Settings, Slot, SlotRun, Tracked, Translation, Tuple,
};

pub use connection::{ConnectionRow, Sockets, connections};
pub use drops::{DropRow, drops};
pub use service::{BackendRow, FrontendKind, ServiceRow, backends, services};
pub use trace::{Place, Step, Trace, TraceRequest, Verdict, trace};

/// What is published.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Addresses and their records.
    pub frontends: BTreeMap<FrontendKey, Frontend>,
    /// The slots that the records name.
    pub slots: BTreeMap<u32, Slot>,
    /// Whose the numbers are.
    pub services: BTreeMap<u32, ServiceLabel>,
    /// What went through each number.
    pub counters: BTreeMap<u32, Counters>,
    /// Where node ports answer.
    pub node_addresses: BTreeMap<Address, u32>,
    /// The programs' settings.
    pub settings: Settings,
    /// Who may.
    pub source_ranges: Vec<SourceRangeEntry>,
    /// The links whose packets are translated.
    pub devices: BTreeMap<u32, Device>,
}

/// One range of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRangeEntry {
    /// Of which ranges; [`pintle_ebpf_common::SourceRange::LOCAL`] are the cluster's own.
    pub ranges: u32,
    /// The first address.
    pub address: Address,
    /// How many of its 128 bits count.
    pub bits: u32,
}

/// The connections that are known of.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    /// Packets' translations.
    pub tracked: HashMap<Tuple, Tracked>,
    /// TCP sockets' translations, by their cookie.
    pub tcp: BTreeMap<u64, Translation>,
    /// Connected UDP sockets' translations, likewise.
    pub connected: BTreeMap<u64, Translation>,
    /// Older translations of datagram sockets.
    pub datagrams: HashMap<Flow, Endpoint>,
    /// Which backends clients come back to.
    pub affinity: HashMap<AffinityKey, Affinity>,
}

impl Tables {
    /// The backends of a run, as many as are whole.
    fn backends(&self, table: u64, run: SlotRun) -> Vec<Endpoint> {
        let numbers = run.base..run.base.saturating_add(run.count);
        numbers.filter_map(|number| self.slots.get(&number)?.open(table)).collect()
    }

    /// Whether an address is in some ranges.
    fn is_in(&self, ranges: u32, address: Address) -> bool {
        let mut of_these = self.source_ranges.iter().filter(|range| range.ranges == ranges);
        of_these.any(|range| range.contains(address))
    }
}

impl SourceRangeEntry {
    fn contains(&self, address: Address) -> bool {
        let number = |address: Address| {
            let words = address.words().map(u32::from_be);
            words.iter().fold(0_u128, |number, word| number << 32 | u128::from(*word))
        };
        let differing = number(self.address) ^ number(address);
        differing.leading_zeros() >= self.bits
    }
}

/// A label's text, up to its first zero byte.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A protocol's name in the API.
fn protocol_name(number: u8) -> &'static str {
    use pintle_ebpf_common::protocol;
    match number {
        protocol::SCTP => "SCTP",
        protocol::TCP => "TCP",
        protocol::UDP => "UDP",
        _ => "?",
    }
}
