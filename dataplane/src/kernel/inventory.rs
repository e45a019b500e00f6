//! Reading the maps back: what an earlier process has published.

use std::collections::BTreeSet;
use std::sync::Arc;

use aya::maps::MapError;
use aya::maps::lpm_trie::Key;
use pintle_ebpf_common::{
    Address, Endpoint, Frontend, ServiceLabel, Slot, SlotRun, SourceRange, protocol,
};

use super::load::Dataplane;
use crate::plan::{Family, Inventory, PortId, PortName, Protocol, ServiceName, SourceCidr, maglev};

/// All that the maps hold and that is whole.
pub(super) fn read(dataplane: &mut Dataplane) -> Result<Inventory, MapError> {
    let mut found = Inventory::default();
    for entry in &dataplane.frontends {
        let (key, frontend) = entry?;
        if frontend.is_sealed_for(key) {
            found.frontends.push((key, frontend));
        }
    }
    let mut seen = BTreeSet::new();
    for (_, frontend) in &found.frontends {
        for run in [frontend.internal, frontend.external] {
            if run.count > 0
                && seen.insert((frontend.table, run.base, run.count))
                && let Some(backends) = backends(dataplane, frontend, run)
            {
                found.tables.push((frontend.table, run, backends));
            }
        }
    }
    let mut seen = BTreeSet::new();
    for (_, frontend) in &found.frontends {
        let of = [
            (frontend.internal, frontend.internal_ring),
            (frontend.external, frontend.external_ring),
        ];
        for (run, ring) in of {
            if ring.count > 0
                && seen.insert((frontend.table, run.base))
                && let Some(content) = ring_content(dataplane, frontend.table, ring)
            {
                found.rings.push((frontend.table, run.base, ring, content));
            }
        }
    }
    for entry in &dataplane.services {
        let (number, label) = entry?;
        if let Some(name) = port_name(&label) {
            found.services.push((number, name));
        }
    }
    for entry in &dataplane.source_ranges {
        let (ranges, cidr) = source_range(entry?.0);
        found.ranges.entry(ranges).or_default().push(cidr);
    }
    // The cluster's own, which are no Service's.
    found.ranges.remove(&SourceRange::LOCAL);
    found.ranges.values_mut().for_each(|cidrs| cidrs.sort_unstable());
    for entry in &dataplane.node_addresses {
        let (address, flags) = entry?;
        found.node_addresses.insert(address, flags);
    }
    Ok(found)
}

/// The ranges of the cluster's own clients.
pub(super) fn local_ranges(dataplane: &Dataplane) -> Result<Vec<SourceCidr>, MapError> {
    let mut found = Vec::new();
    for entry in &dataplane.source_ranges {
        let (ranges, cidr) = source_range(entry?.0);
        if ranges == SourceRange::LOCAL {
            found.push(cidr);
        }
    }
    Ok(found)
}

fn source_range(key: Key<SourceRange>) -> (u32, SourceCidr) {
    let SourceRange { ranges_be, address_be } = key.data();
    let bits = key.prefix_len().saturating_sub(SourceRange::BITS);
    let address = Address::from_words(address_be);
    (u32::from_be(ranges_be), SourceCidr { address, bits: bits.try_into().unwrap_or(128) })
}

fn backends(
    dataplane: &mut Dataplane,
    frontend: &Frontend,
    run: SlotRun,
) -> Option<Arc<[Endpoint]>> {
    let slots = dataplane.slots.read(run)?;
    slots.into_iter().map(|slot| slot.open(frontend.table)).collect()
}

/// What a ring holds, if it is whole.
fn ring_content(dataplane: &mut Dataplane, table: u64, ring: SlotRun) -> Option<u64> {
    let slots = SlotRun { base: ring.base, count: ring.count.div_ceil(Slot::PLACES) };
    let slots = dataplane.slots.read(slots)?;
    let place = |number: u32| {
        let slot = slots.get((number / Slot::PLACES) as usize)?;
        slot.place(table, number % Slot::PLACES)
    };
    let places: Option<Vec<u16>> = (0..ring.count).map(place).collect();
    places.map(maglev::content)
}

fn port_name(label: &ServiceLabel) -> Option<PortName> {
    let protocol = match label.protocol {
        protocol::SCTP => Protocol::Sctp,
        protocol::TCP => Protocol::Tcp,
        protocol::UDP => Protocol::Udp,
        _ => return None,
    };
    let family = if label.family == 4 { Family::V4 } else { Family::V6 };
    let service = ServiceName::new(text(&label.namespace)?, text(&label.name)?);
    Some(PortName { service, port: PortId { name: text(&label.port)?.into(), protocol, family } })
}

fn text(bytes: &[u8]) -> Option<&str> {
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..length]).ok()
}
