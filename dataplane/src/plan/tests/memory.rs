//! The kernel's tables in memory, read as the programs read them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use pintle_ebpf_common::{
    Address, Endpoint, Frontend, FrontendKey, Scope, Slot, SlotRun, node_address,
};

use crate::Limits;
use crate::plan::{
    Inventory, MapOp, PortName, ServiceName, SourceCidr, Weights, endpoint, maglev, socket_addr,
};

/// The maps, and every record that was ever in them.
pub(crate) struct MemoryTables {
    limits: Limits,
    frontends: BTreeMap<FrontendKey, Frontend>,
    slots: Vec<Slot>,
    ranges: BTreeMap<u32, BTreeSet<SourceCidr>>,
    services: BTreeMap<u32, Arc<PortName>>,
    node_addresses: BTreeMap<Address, u32>,
    /// Datagram flows: where to, and the backend.
    pub(super) flows: BTreeSet<(FrontendKey, Endpoint)>,
    /// What a program may still hold in its registers: the run, its table, and the backends promised.
    history: Vec<(u64, SlotRun, BTreeSet<SocketAddr>)>,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Client {
    /// A process in the node's own network namespace.
    Node,
    /// A pod on this node.
    Pod,
    /// From outside the node.
    Elsewhere,
}

pub(crate) const CLIENTS: [Client; 3] = [Client::Node, Client::Pod, Client::Elsewhere];

impl Client {
    pub(crate) fn scope(self) -> Scope {
        if self == Self::Elsewhere { Scope::External } else { Scope::Internal }
    }
}

/// What the tables say of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// One of these, each with an equal chance.
    Backends(BTreeSet<SocketAddr>),
    Drop,
    NotService,
    Refuse,
}

/// What else they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) affinity_seconds: u32,
    /// The places of the ring of those who answer.
    pub(crate) ring: u32,
    /// `None`: everyone may.
    pub(crate) ranges: Option<BTreeSet<SourceCidr>>,
    /// Bits of [`pintle_ebpf_common::flag`] but for those that say what happens where nobody answers.
    pub(crate) flags: u32,
}

impl MemoryTables {
    pub(crate) fn new(limits: Limits) -> Self {
        let slots = vec![Slot::default(); limits.slots_max as usize];
        Self {
            limits,
            frontends: BTreeMap::new(),
            slots,
            ranges: BTreeMap::new(),
            services: BTreeMap::new(),
            node_addresses: BTreeMap::new(),
            flows: BTreeSet::new(),
            history: Vec::new(),
        }
    }

    /// The maps are larger from now on.
    pub(crate) fn grow(&mut self, limits: Limits) {
        self.slots.resize(limits.slots_max as usize, Slot::default());
        self.limits = limits;
    }

    /// Carry out one operation; panics where the kernel would refuse.
    pub(crate) fn apply(&mut self, op: &MapOp) {
        match op {
            MapOp::PutService { service, port } => {
                assert!(*service <= self.limits.frontends_max);
                self.services.insert(*service, Arc::clone(port));
            }
            MapOp::RemoveService { service } => {
                self.services.remove(service);
                let used = self.frontends.values().any(|frontend| frontend.service == *service);
                assert!(!used, "number {service} is still used");
            }
            MapOp::WriteSlots { base, table, backends } => {
                for (index, backend) in backends.iter().enumerate() {
                    self.slots[*base as usize + index] = Slot::new(*backend, *table);
                }
            }
            MapOp::WriteRing { base, table, places } => {
                for (index, some) in places.chunks(Slot::PLACES as usize).enumerate() {
                    let places = std::array::from_fn(|at| some.get(at).copied().unwrap_or(0));
                    self.slots[*base as usize + index] = Slot::of_ring(places, *table);
                }
            }
            MapOp::EndFlows { key, serving } => {
                let frontends = &self.frontends;
                self.flows.retain(|(to, backend)| {
                    let is_for = to == key || to.node_port() == *key && !frontends.contains_key(to);
                    !is_for || serving.contains(backend)
                });
            }
            MapOp::PutSourceRange { ranges, cidr } => {
                self.ranges.entry(*ranges).or_default().insert(*cidr);
                let count: usize = self.ranges.values().map(BTreeSet::len).sum();
                assert!(count <= self.limits.source_ranges_max as usize);
            }
            MapOp::RemoveSourceRange { ranges, cidr } => {
                let set = self.ranges.get_mut(ranges).expect("a known set");
                assert!(set.remove(cidr));
                if set.is_empty() {
                    self.ranges.remove(ranges);
                }
            }
            MapOp::PutFrontend { key, frontend } => self.put(*key, *frontend),
            MapOp::RemoveFrontend { key } => {
                self.frontends.remove(key);
            }
            MapOp::PutNodeAddress { address, flags } => {
                self.node_addresses.insert(*address, *flags);
            }
            MapOp::RemoveNodeAddress { address } => {
                self.node_addresses.remove(address);
            }
        }
    }

    fn put(&mut self, key: FrontendKey, frontend: Frontend) {
        assert!(frontend.is_sealed_for(key));
        self.frontends.insert(key, frontend);
        assert!(self.frontends.len() <= self.limits.frontends_max as usize);
        assert!(self.services.contains_key(&frontend.service), "a number without a name");
        for run in [frontend.internal, frontend.external].into_iter().filter(|run| run.count > 0) {
            self.history.push((frontend.table, run, self.opened(frontend.table, run)));
        }
    }

    /// What a program would find. Panics if a slot of a published table would not open: programs look
    /// again then, but there would be nothing better to find.
    pub(crate) fn lookup(&self, client: Client, key: FrontendKey) -> Answer {
        let Some(frontend) = self.find(client, key) else { return Answer::NotService };
        let run = frontend.run(client.scope());
        if run.count == 0 {
            let dropped = frontend.drops(client.scope());
            return if dropped { Answer::Drop } else { Answer::Refuse };
        }
        let opened = self.opened(frontend.table, run);
        assert_eq!(opened.len(), run.count as usize, "a backend stands twice");
        let in_order: Vec<Endpoint> = self.open(frontend.table, run).flatten().collect();
        assert!(in_order.is_sorted(), "a client's backend would not be found among them");
        let ring = frontend.ring(client.scope());
        for slot in 0..ring.count.div_ceil(Slot::PLACES) {
            let number = self.slots[(ring.base + slot) as usize].place(frontend.table, 0);
            assert!(number.is_some_and(|number| u32::from(number) < run.count), "{number:?}");
        }
        Answer::Backends(opened)
    }

    /// Every place of every ring has the backend that it has to have.
    pub(super) fn check_rings(&self, weights: impl Fn(&ServiceName) -> Option<Weights>) {
        let of_scopes = self.frontends.values().flat_map(|frontend| {
            [Scope::Internal, Scope::External].map(|scope| {
                let name = &self.services[&frontend.service].service;
                (name, frontend.table, frontend.run(scope), frontend.ring(scope))
            })
        });
        for (name, table, run, ring) in of_scopes.filter(|(.., ring)| ring.count > 0) {
            let backends: Vec<Endpoint> = self.open(table, run).flatten().collect();
            let weights = weights(name);
            let weight = |one: &Endpoint| weights.as_ref().map_or(1, |weights| weights.of(one));
            let expected = maglev::weighted_ring(&backends, weight, ring.count);
            for (place, number) in (0_u32..).zip(&*expected) {
                let slot = self.slots[(ring.base + place / Slot::PLACES) as usize];
                assert_eq!(slot.place(table, place % Slot::PLACES), Some(*number), "{place}");
            }
        }
    }

    /// Every client sends datagrams to every backend that it may get.
    pub(super) fn begin_flows(&mut self, client: Client, key: FrontendKey) {
        if let Answer::Backends(backends) = self.lookup(client, key) {
            let backends = backends.into_iter().map(endpoint);
            self.flows.extend(backends.map(|backend| (key, backend)));
        }
    }

    pub(crate) fn terms(&self, client: Client, key: FrontendKey) -> Option<Terms> {
        use pintle_ebpf_common::flag::{DROP_EXTERNAL, DROP_INTERNAL};
        let frontend = self.find(client, key)?;
        let ranges = self.ranges.get(&frontend.ranges).cloned();
        assert!(frontend.ranges == 0 || ranges.is_some(), "clients in no range at all");
        Some(Terms {
            affinity_seconds: frontend.affinity_seconds,
            ring: frontend.ring(client.scope()).count,
            ranges: ranges.filter(|_| frontend.ranges != 0),
            flags: frontend.flags & !(DROP_EXTERNAL | DROP_INTERNAL),
        })
    }

    fn find(&self, client: Client, key: FrontendKey) -> Option<&Frontend> {
        self.frontends.get(&key).or_else(|| {
            let flags = self.node_addresses.get(&key.address)?;
            let served = flags & node_address::LOOPBACK == 0 || client == Client::Node;
            self.frontends.get(&key.node_port()).filter(|_| served)
        })
    }

    /// A program that looked its frontend up at any time before now either finds a backend of that
    /// time or sees that it must look again.
    pub(crate) fn check_readers_of_the_past(&self) {
        for (table, run, promised) in &self.history {
            for backend in self.open(*table, *run).flatten() {
                assert!(promised.contains(&socket_addr(backend)), "{backend:?} of {promised:?}");
            }
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = FrontendKey> {
        self.frontends.keys().copied()
    }

    /// Ports of different Services have different numbers, the addresses of one port the same.
    pub(crate) fn check_numbers(&self, published: &BTreeMap<FrontendKey, PortName>) {
        for (key, frontend) in &self.frontends {
            assert_eq!(*self.services[&frontend.service], published[key], "{key:?}");
        }
        let names: BTreeSet<_> = published.values().collect();
        let numbers: BTreeSet<u32> = self.frontends.values().map(|f| f.service).collect();
        assert_eq!(names.len(), numbers.len());
    }

    /// What a process would find that starts now.
    pub(crate) fn inventory(&self) -> Inventory {
        let mut tables = BTreeMap::new();
        for frontend in self.frontends.values() {
            for run in [frontend.internal, frontend.external] {
                let backends: Option<Arc<[Endpoint]>> = self.open(frontend.table, run).collect();
                if run.count > 0
                    && let Some(backends) = backends
                {
                    tables.insert((frontend.table, run.base), (frontend.table, run, backends));
                }
            }
        }
        let services = self.services.iter();
        let ranges = self.ranges.iter();
        let rings = self.frontends.values().flat_map(|frontend| {
            [
                (frontend.table, frontend.internal.base, frontend.internal_ring),
                (frontend.table, frontend.external.base, frontend.external_ring),
            ]
        });
        let rings: BTreeMap<_, _> = rings
            .filter(|(.., ring)| ring.count > 0)
            .map(|(table, base, ring)| {
                let place = |place: u32| {
                    let slot = self.slots[(ring.base + place / Slot::PLACES) as usize];
                    slot.place(table, place % Slot::PLACES).expect("whole")
                };
                let content = maglev::content((0..ring.count).map(place));
                ((table, base), (table, base, ring, content))
            })
            .collect();
        Inventory {
            rings: rings.into_values().collect(),
            frontends: self.frontends.iter().map(|(key, record)| (*key, *record)).collect(),
            tables: tables.into_values().collect(),
            services: services.map(|(number, name)| (*number, (**name).clone())).collect(),
            ranges: ranges.map(|(id, set)| (*id, set.iter().copied().collect())).collect(),
            node_addresses: self.node_addresses.clone(),
        }
    }

    fn opened(&self, table: u64, run: SlotRun) -> BTreeSet<SocketAddr> {
        self.open(table, run).map(|slot| socket_addr(slot.expect("its own table"))).collect()
    }

    fn open(&self, table: u64, run: SlotRun) -> impl Iterator<Item = Option<Endpoint>> {
        let (base, count) = (run.base as usize, run.count as usize);
        self.slots[base..base + count].iter().map(move |slot| slot.open(table))
    }
}
