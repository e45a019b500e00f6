//! From what Services are to be to the map operations that make them so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pintle_ebpf_common::{Address, Endpoint, Frontend, FrontendKey, protocol};
use rustc_hash::FxHashMap;

use super::desired::{DesiredPort, DesiredService};
use super::inventory::Inventory;
use super::numbers::{RangeSets, ServiceNumbers};
use super::op::{MapOp, Plan, PortName, Rejected, Rejection};
use super::service::{Protocol, ServiceName};
use super::table::Tables;
use crate::Limits;

/// What is published, and what could be. Its answers depend on what it was given alone: no clock,
/// no randomness.
///
/// A planner belongs to one set of maps: every plan of it must be carried out, whole and in order.
#[derive(Debug)]
pub struct Planner {
    pub(super) limits: Limits,
    /// What each Service claims.
    services: FxHashMap<ServiceName, Vec<FrontendKey>>,
    /// Who claims each address; the first has it.
    pub(super) claims: FxHashMap<FrontendKey, Vec<Claim>>,
    published: FxHashMap<FrontendKey, Published>,
    /// The ports that have published addresses.
    ports: FxHashMap<Arc<PortName>, Port>,
    /// The addresses that could not be published as they should, for want of room.
    waiting: BTreeSet<FrontendKey>,
    pub(super) rejected: BTreeMap<(FrontendKey, ServiceName), Rejection>,
    pub(super) tables: Tables,
    pub(super) ranges: RangeSets,
    numbers: ServiceNumbers,
    node_addresses: BTreeMap<Address, u32>,
}

#[derive(Clone, Debug)]
pub(super) struct Claim {
    created_ms: i64,
    service: ServiceName,
    pub(super) port: Arc<DesiredPort>,
    /// Of the port's frontends.
    pub(super) index: usize,
}

#[derive(Debug)]
struct Published {
    port: Arc<PortName>,
    record: Frontend,
    /// Of datagrams, the backends whose flows were left alone so far; `None` if that is not known.
    serving: Option<Arc<[Endpoint]>>,
}

/// What the frontends of a port share.
#[derive(Debug)]
struct Port {
    number: u32,
    /// The latest table, if a frontend names it.
    table: Option<u64>,
    /// The latest source ranges, likewise.
    ranges: Option<u32>,
    /// Published ones.
    frontends: u32,
}

impl Planner {
    /// Nothing is published.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            services: FxHashMap::default(),
            claims: FxHashMap::default(),
            published: FxHashMap::default(),
            ports: FxHashMap::default(),
            waiting: BTreeSet::new(),
            rejected: BTreeMap::new(),
            tables: Tables::new(limits.slots_max),
            ranges: RangeSets::new(limits.source_ranges_max),
            numbers: ServiceNumbers::default(),
            node_addresses: BTreeMap::new(),
        }
    }

    /// What an earlier process left in the maps is published, and what of it the next plan's Services
    /// do not claim is taken away by that plan: so make it when all of them are known.
    ///
    /// What is as it should be is left as it is, without an operation.
    #[must_use]
    pub fn restore(limits: Limits, found: Inventory) -> Self {
        let mut planner = Self::new(limits);
        for (id, run, backends) in found.tables {
            planner.tables.restore_set(id, run, backends);
        }
        for (id, base, ring, content) in found.rings {
            planner.tables.restore_ring(id, base, ring, content);
        }
        for (ranges, cidrs) in found.ranges {
            planner.ranges.restore(ranges, cidrs.into());
        }
        let mut names: BTreeMap<u32, _> = BTreeMap::new();
        for (number, name) in found.services {
            names.insert(number, (Arc::new(name), false));
        }
        for (key, record) in found.frontends {
            let number = record.service;
            // Without a name it is nobody's, and whoever claims the address gets a number.
            let nobody = || (Arc::new(PortName::nobody(number)), false);
            let (name, used) = names.entry(number).or_insert_with(nobody);
            *used = true;
            planner.restore_frontend(key, Arc::clone(name), record);
        }
        planner.numbers.restore(names.keys().copied());
        let unused = names.iter().filter(|(_, (_, used))| !used);
        unused.for_each(|(number, _)| planner.numbers.retire(*number));
        planner.node_addresses = found.node_addresses;
        planner
    }

    fn restore_frontend(&mut self, key: FrontendKey, name: Arc<PortName>, record: Frontend) {
        let number = record.service;
        self.tables.restore(record.table);
        self.ports.entry(Arc::clone(&name)).or_insert_with(|| Port {
            number,
            table: None,
            ranges: None,
            frontends: 0,
        });
        self.enter(key, name, record, record.ranges != 0);
        if let Some(published) = self.published.get_mut(&key) {
            published.serving = None;
        }
        self.waiting.insert(key);
    }

    /// The operations after which the given Services are as given. `now_ms` is any clock that does
    /// not go back.
    pub fn plan(
        &mut self,
        now_ms: u64,
        changes: impl IntoIterator<Item = (ServiceName, DesiredService)>,
    ) -> Plan {
        let mut draft = Draft::default();
        self.tables.begin(now_ms, GRACE_MS);
        self.numbers.begin(&mut draft.writes);
        self.ranges.begin(now_ms, GRACE_MS, &mut draft.writes);
        let mut affected = std::mem::take(&mut self.waiting);
        for (service, desired) in changes {
            self.claim(service, desired, &mut affected);
        }
        // What is taken away makes room for what is new, as far as numbers go.
        let (present, absent): (Vec<_>, Vec<_>) =
            affected.into_iter().partition(|key| self.claims.contains_key(key));
        for key in absent {
            self.withdraw(key, &mut draft);
        }
        for key in present {
            self.publish(key, &mut draft);
        }
        self.tables.end(now_ms);
        self.ranges.end(now_ms);
        draft.into_plan()
    }

    /// The operations after which node ports answer at these addresses of the node and no others.
    pub fn plan_node_addresses(&mut self, wanted: BTreeMap<Address, u32>) -> Plan {
        let current = std::mem::replace(&mut self.node_addresses, wanted);
        let wanted = &self.node_addresses;
        let gone = current.keys().filter(|address| !wanted.contains_key(address));
        let mut ops: Vec<MapOp> =
            gone.map(|address| MapOp::RemoveNodeAddress { address: *address }).collect();
        let new = wanted.iter().filter(|(address, flags)| current.get(address) != Some(flags));
        ops.extend(new.map(|(&address, &flags)| MapOp::PutNodeAddress { address, flags }));
        Plan { ops, rejected: Vec::new() }
    }

    /// The claims that are not met.
    pub fn rejected(&self) -> impl Iterator<Item = Rejected> {
        self.rejected.iter().map(|((frontend, service), reason)| Rejected {
            service: service.clone(),
            frontend: *frontend,
            reason: reason.clone(),
        })
    }

    /// Whether a claim could not be met, or not as it should, for want of room.
    #[must_use]
    pub fn lacks_room(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether this rejection still holds.
    #[must_use]
    pub fn rejects(&self, rejected: &Rejected) -> bool {
        let id = (rejected.frontend, rejected.service.clone());
        self.rejected.get(&id) == Some(&rejected.reason)
    }

    /// Whether another plan is worth making after a while, though nothing changed: a claim waits for
    /// room, or something that is no longer used waits to be taken away.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || self.ranges.is_waiting()
    }

    /// Whether a plan of these changes and what it asks for take well below a millisecond: a few
    /// addresses and backends, no ring, nothing that waits, and no datagram flows to look for.
    #[must_use]
    pub fn is_short(&self, changes: &[(ServiceName, DesiredService)]) -> bool {
        let is_datagram = |key: &FrontendKey| key.protocol == protocol::UDP;
        let ends_flows = |name| self.services.get(name).into_iter().flatten().any(is_datagram);
        let weight = |port: &Arc<DesiredPort>| {
            let backends = port.cluster.len() + port.local.len();
            port.frontends.len() + backends + port.source_ranges.len()
        };
        let ports = || changes.iter().flat_map(|(_, service)| &service.ports);
        self.waiting.is_empty()
            && !changes.iter().any(|(name, _)| ends_flows(name))
            && ports().all(|port| port.ring == 0 && port.id.protocol != Protocol::Udp)
            && changes.len() + ports().map(weight).sum::<usize>() <= SHORT_MAX
    }

    /// The addresses that are published, with their Service's port and its number.
    pub fn published(&self) -> impl ExactSizeIterator<Item = (&PortName, FrontendKey, u32)> {
        self.published
            .iter()
            .map(|(key, published)| (&*published.port, *key, published.record.service))
    }

    /// Replace what `service` claims.
    fn claim(
        &mut self,
        service: ServiceName,
        desired: DesiredService,
        affected: &mut BTreeSet<FrontendKey>,
    ) {
        for key in self.services.remove(&service).unwrap_or_default() {
            affected.insert(key);
            if let Some(claims) = self.claims.get_mut(&key) {
                claims.retain(|claim| claim.service != service);
                if claims.is_empty() {
                    self.claims.remove(&key);
                }
            }
        }
        let DesiredService { created_ms, ports } = desired;
        let mut keys = Vec::with_capacity(ports.iter().map(|port| port.frontends.len()).sum());
        for port in ports {
            for (index, frontend) in port.frontends.iter().enumerate() {
                let key = frontend.key;
                // The API refuses a Service that names a port twice; the first counts. So it does of
                // an address that is an external and a load-balancer one at once.
                if keys.contains(&key) {
                    continue;
                }
                keys.push(key);
                affected.insert(key);
                let claims = self.claims.entry(key).or_insert_with(|| Vec::with_capacity(1));
                let (service, port) = (service.clone(), Arc::clone(&port));
                let claim = Claim { created_ms, service, port, index };
                let place = claims.partition_point(|other| other.rank() < claim.rank());
                claims.insert(place, claim);
            }
        }
        if !keys.is_empty() {
            self.services.insert(service, keys);
        }
    }

    fn withdraw(&mut self, key: FrontendKey, draft: &mut Draft) {
        self.reject(key, BTreeMap::new(), draft);
        if let Some(published) = self.published.remove(&key) {
            draft.removals.push(MapOp::RemoveFrontend { key });
            if key.protocol == protocol::UDP {
                draft.ends.push(MapOp::EndFlows { key, serving: Arc::default() });
            }
            self.leave(&published);
        }
    }

    /// Make `key` what the first of its claims says.
    fn publish(&mut self, key: FrontendKey, draft: &mut Draft) {
        let Some((claim, losers)) = self.claims.get(&key).and_then(|claims| claims.split_first())
        else {
            return;
        };
        let claimed =
            |loser: &Claim| (loser.service.clone(), Rejection::Claimed(claim.service.clone()));
        let mut rejections: BTreeMap<_, _> = losers.iter().map(claimed).collect();
        let claim = claim.clone();
        if let Err(reason) = self.switch(key, &claim, draft) {
            self.waiting.insert(key);
            rejections.insert(claim.service, reason);
        } else {
            self.end_flows(key, &claim.port.serving, draft);
        }
        self.reject(key, rejections, draft);
    }

    /// Replace the rejections of `key`; those that were not there before are news.
    fn reject(
        &mut self,
        key: FrontendKey,
        rejections: BTreeMap<ServiceName, Rejection>,
        draft: &mut Draft,
    ) {
        if rejections.is_empty() && self.rejected.is_empty() {
            return;
        }
        let first = (key, ServiceName::new("", ""));
        let of_key = self.rejected.range(first..).take_while(|((other, _), _)| *other == key);
        let old: Vec<_> = of_key.map(|(id, _)| id.clone()).collect();
        let old: BTreeMap<_, _> =
            old.into_iter().filter_map(|id| self.rejected.remove_entry(&id)).collect();
        for (service, reason) in rejections {
            let id = (key, service.clone());
            if old.get(&id) != Some(&reason) {
                draft.rejected.push(Rejected { service, frontend: key, reason: reason.clone() });
            }
            self.rejected.insert(id, reason);
        }
    }

    fn switch(
        &mut self,
        key: FrontendKey,
        claim: &Claim,
        draft: &mut Draft,
    ) -> Result<(), Rejection> {
        let name = PortName { service: claim.service.clone(), port: claim.port.id.clone() };
        let old = self.published.get(&key);
        let frontends_max = self.limits.frontends_max;
        if old.is_none() && self.published.len() >= frontends_max as usize {
            return Err(Rejection::FrontendsFull(frontends_max));
        }
        let known = self.ports.get_key_value(&name);
        let (latest, ranges) = known.map(|(_, port)| (port.table, port.ranges)).unwrap_or_default();
        let frontend = claim.port.frontends[claim.index];
        let own = self.published.get(&key).map(|old| old.record.table);
        let ranges = if frontend.checks_source {
            self.ranges.hold(ranges, &claim.port.source_ranges, &mut draft.writes)?
        } else {
            0
        };
        let table = self.tables.hold([own, latest], &claim.port, &frontend, &mut draft.writes)?;
        let (name, number) = match self.ports.get_key_value(&name) {
            Some((name, port)) => (Arc::clone(name), port.number),
            None => self.number(name, draft),
        };
        let record = Frontend {
            table,
            internal: self.tables.run(table, claim.port.endpoints(frontend.internal)),
            external: self.tables.run(table, claim.port.endpoints(frontend.external)),
            internal_ring: self.tables.ring(table, claim.port.endpoints(frontend.internal)),
            external_ring: self.tables.ring(table, claim.port.endpoints(frontend.external)),
            service: number,
            ranges,
            affinity_seconds: claim.port.affinity_seconds,
            flags: frontend.flags,
            seal: 0,
        };
        let record = record.sealed_for(key);
        if self.published.get(&key).is_some_and(|old| old.port == name && old.record == record) {
            return Ok(());
        }
        draft.puts.push(MapOp::PutFrontend { key, frontend: record });
        self.enter(key, name, record, frontend.checks_source);
        Ok(())
    }

    /// A backend may have gone: its flows to `key`, which is published, end.
    fn end_flows(&mut self, key: FrontendKey, serving: &Arc<[Endpoint]>, draft: &mut Draft) {
        let Some(published) = self.published.get_mut(&key) else { return };
        let before = published.serving.replace(Arc::clone(serving));
        let remains = |one: &Endpoint| serving.binary_search(one).is_ok();
        let all_remain = before.is_some_and(|before| before.iter().all(remains));
        if key.protocol == protocol::UDP && !all_remain {
            draft.ends.push(MapOp::EndFlows { key, serving: Arc::clone(serving) });
        }
    }

    /// A number for a port that has none.
    fn number(&mut self, name: PortName, draft: &mut Draft) -> (Arc<PortName>, u32) {
        let name = Arc::new(name);
        // One more: where an address passes from one port to another, the old one leaves it after.
        let number = self.numbers.allocate(self.limits.frontends_max.saturating_add(1));
        draft.writes.push(MapOp::PutService { service: number, port: Arc::clone(&name) });
        let port = Port { number, table: None, ranges: None, frontends: 0 };
        self.ports.insert(Arc::clone(&name), port);
        (name, number)
    }

    /// `key` is published, in place of what it was.
    fn enter(&mut self, key: FrontendKey, name: Arc<PortName>, record: Frontend, ranged: bool) {
        if let Some(port) = self.ports.get_mut(&name) {
            port.frontends += 1;
            port.table = Some(record.table);
            if ranged {
                port.ranges = Some(record.ranges);
            }
        }
        self.tables.use_table(record.table);
        self.ranges.use_set(record.ranges);
        // Nobody had flows to an address that is new.
        let old = self.published.get_mut(&key);
        let serving = old.map_or(Some(Arc::default()), |old| old.serving.take());
        if let Some(old) = self.published.insert(key, Published { port: name, record, serving }) {
            self.leave(&old);
        }
    }

    /// What was published is so no more.
    fn leave(&mut self, published: &Published) {
        self.tables.leave(published.record.table);
        self.ranges.leave(published.record.ranges);
        let Some(port) = self.ports.get_mut(&published.port) else { return };
        port.frontends -= 1;
        if port.frontends == 0 {
            self.numbers.retire(port.number);
            self.ports.remove(&published.port);
        }
    }
}

impl Claim {
    /// The older Service first.
    fn rank(&self) -> (i64, &ServiceName) {
        (self.created_ms, &self.service)
    }
}

/// The operations of a plan by the stage they belong to.
#[derive(Default)]
struct Draft {
    /// Of what no frontend names yet, or no longer.
    writes: Vec<MapOp>,
    puts: Vec<MapOp>,
    removals: Vec<MapOp>,
    /// Of flows.
    ends: Vec<MapOp>,
    rejected: Vec<Rejected>,
}

impl Draft {
    fn into_plan(self) -> Plan {
        let Self { writes: mut ops, puts, removals, ends, rejected } = self;
        // Removals before additions: a full map has room for what takes their place.
        ops.extend(removals);
        ops.extend(puts);
        ops.extend(ends);
        Plan { ops, rejected }
    }
}

/// So many Services, addresses and backends are a plan of some 0.3 ms at most.
const SHORT_MAX: usize = 1000;

/// How long retired slots and ranges rest: far longer than a program runs that is not put to sleep.
const GRACE_MS: u64 = 1000;
