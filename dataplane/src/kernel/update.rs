//! Carrying out a plan's operations.

use aya::maps::lpm_trie::Key;
use aya::maps::{MapError, PerCpuValues};
use pintle_ebpf_common::{
    Counters, Endpoint, FrontendKey, ServiceLabel, SourceRange, flag, setting,
};

use super::error::ApplyError;
use super::load::Dataplane;
use crate::plan::{Family, MapOp, PortName, SourceCidr};

impl Dataplane {
    /// Carry out operations in their order. On an error those before the failed one are done, and
    /// those from it on can be tried again.
    pub fn apply(&mut self, ops: &[MapOp]) -> Result<(), ApplyError> {
        for (applied, op) in ops.iter().enumerate() {
            if matches!(op, MapOp::EndFlows { .. }) {
                continue;
            }
            self.apply_one(op).map_err(|(map, source)| ApplyError {
                applied,
                total: ops.len(),
                map,
                source,
            })?;
        }
        self.end_all_flows(ops)
    }

    /// All at once, since each walks through all flows. If that fails all operations are tried again,
    /// which does no harm.
    fn end_all_flows(&self, ops: &[MapOp]) -> Result<(), ApplyError> {
        if !ops.iter().any(|op| flows_end(op).is_some()) {
            return Ok(());
        }
        let ended = self.end_flows(ops.iter().filter_map(flows_end));
        let total = ops.len();
        ended.map_err(|source| ApplyError { applied: 0, total, map: "TRACKED", source })
    }

    fn apply_one(&mut self, op: &MapOp) -> Result<(), (&'static str, MapError)> {
        let of = |map| move |source| (map, source);
        match op {
            MapOp::PutService { service, port } => {
                self.reset_counters(*service).map_err(of("COUNTERS"))?;
                self.services.insert(service, label(port), 0).map_err(of("SERVICES"))
            }
            MapOp::RemoveService { service } => {
                absent_is_fine(self.services.remove(service)).map_err(of("SERVICES"))
            }
            MapOp::WriteSlots { base, table, backends } => {
                let written = self.slots.write(*base, *table, backends);
                written.map_err(MapError::IoError).map_err(of("SLOTS"))
            }
            MapOp::WriteRing { base, table, places } => {
                let written = self.slots.write_ring(*base, *table, places);
                written.map_err(MapError::IoError).map_err(of("SLOTS"))
            }
            MapOp::PutSourceRange { ranges, cidr } => {
                let put = self.source_ranges.insert(&range_key(*ranges, *cidr), 1, 0);
                put.map_err(of("SOURCE_RANGES"))
            }
            MapOp::RemoveSourceRange { ranges, cidr } => {
                let removed = self.source_ranges.remove(&range_key(*ranges, *cidr));
                absent_is_fine(removed).map_err(of("SOURCE_RANGES"))
            }
            MapOp::PutFrontend { key, frontend } => {
                if frontend.flags & flag::NODE_PORT != 0 {
                    self.look_for_node_ports().map_err(of("SETTINGS"))?;
                }
                self.prepare_pod_links(key, frontend);
                self.filter.add_frontend(key, frontend);
                self.frontends.insert(key, frontend, 0).map_err(of("FRONTENDS"))
            }
            MapOp::RemoveFrontend { key } => {
                absent_is_fine(self.frontends.remove(key)).map_err(of("FRONTENDS"))
            }
            // With the others of its kind.
            MapOp::EndFlows { .. } => Ok(()),
            MapOp::PutNodeAddress { address, flags } => {
                self.filter.add_node_address(*address);
                self.node_addresses.insert(address, flags, 0).map_err(of("NODE_ADDRESSES"))
            }
            MapOp::RemoveNodeAddress { address } => {
                let removed = self.node_addresses.remove(address);
                absent_is_fine(removed).map_err(of("NODE_ADDRESSES"))
            }
        }
    }

    fn reset_counters(&mut self, service: u32) -> Result<(), MapError> {
        let zeros = PerCpuValues::try_from(vec![Counters::default(); self.cpus])?;
        self.counters.set(service, zeros, 0)
    }

    /// From the first node port on, every address that is no frontend's is looked up once more.
    fn look_for_node_ports(&mut self) -> Result<(), MapError> {
        if self.current.flags & setting::NODE_PORTS == 0 {
            self.current.flags |= setting::NODE_PORTS;
            self.settings.set(0, self.current, 0)?;
        }
        Ok(())
    }
}

fn flows_end(op: &MapOp) -> Option<(FrontendKey, &[Endpoint])> {
    match op {
        MapOp::EndFlows { key, serving } => Some((*key, serving)),
        _ => None,
    }
}

/// Removed by an earlier try of the same operations.
fn absent_is_fine(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == NOT_FOUND => Ok(()),
        other => other,
    }
}

fn range_key(ranges: u32, cidr: SourceCidr) -> Key<SourceRange> {
    let SourceCidr { address, bits } = cidr;
    let range = SourceRange { ranges_be: ranges.to_be(), address_be: address.words() };
    Key::new(SourceRange::BITS + u32::from(bits), range)
}

fn label(port: &PortName) -> ServiceLabel {
    ServiceLabel {
        namespace: text(&port.service.namespace),
        name: text(&port.service.name),
        port: text(&port.port.name),
        protocol: port.port.protocol.number(),
        family: if port.port.family == Family::V4 { 4 } else { 6 },
        padding: [0; 6],
    }
}

/// Names are of at most 63 bytes.
fn text(name: &str) -> [u8; 64] {
    let mut bytes = [0; 64];
    let length = name.len().min(63);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

const NOT_FOUND: std::io::ErrorKind = std::io::ErrorKind::NotFound;
