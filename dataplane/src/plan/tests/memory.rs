//! The kernel's tables in memory, read as the programs read them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;

use pintle_ebpf_common::{Endpoint, Frontend, FrontendKey, Slot, flag};

use crate::Limits;
use crate::plan::MapOp;

/// The maps, and every record that was ever in them.
pub(crate) struct MemoryTables {
    limits: Limits,
    frontends: BTreeMap<FrontendKey, Frontend>,
    slots: Vec<Slot>,
    /// What a program may still hold in its registers: the record, and the backends it promised.
    history: Vec<(Frontend, BTreeSet<SocketAddrV4>)>,
}

/// What the tables say of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// One of these, each with an equal chance.
    Backends(BTreeSet<SocketAddrV4>),
    Drop,
    NotService,
    Refuse,
}

impl MemoryTables {
    pub(crate) fn new(limits: Limits) -> Self {
        let slots = vec![Slot::default(); limits.slots_max as usize];
        Self { limits, frontends: BTreeMap::new(), slots, history: Vec::new() }
    }

    /// Carry out one operation; panics where the kernel would refuse.
    pub(crate) fn apply(&mut self, op: &MapOp) {
        match op {
            MapOp::ResetCounter { counter } => assert!(*counter < self.limits.frontends_max),
            MapOp::WriteSlots { base, table, backends } => {
                for (index, backend) in backends.iter().enumerate() {
                    self.slots[*base as usize + index] = Slot::new(*backend, *table);
                }
            }
            MapOp::PutFrontend { key, frontend } => {
                assert!(frontend.is_sealed_for(*key));
                self.frontends.insert(*key, *frontend);
                assert!(self.frontends.len() <= self.limits.frontends_max as usize);
                if let Answer::Backends(backends) = self.lookup(*key) {
                    self.history.push((*frontend, backends));
                }
            }
            MapOp::RemoveFrontend { key } => {
                self.frontends.remove(key);
            }
        }
    }

    /// What a program would find. Panics if a slot of a published table would not open: programs look
    /// again then, but there would be nothing better to find.
    pub(crate) fn lookup(&self, key: FrontendKey) -> Answer {
        match self.frontends.get(&key) {
            None => Answer::NotService,
            Some(frontend) if frontend.count == 0 && frontend.flags & flag::DROP != 0 => {
                Answer::Drop
            }
            Some(frontend) if frontend.count == 0 => Answer::Refuse,
            Some(frontend) => {
                let opened: BTreeSet<_> =
                    self.open(frontend).map(|slot| slot.expect("its own table")).collect();
                assert_eq!(opened.len(), frontend.count as usize, "a backend stands twice");
                Answer::Backends(opened)
            }
        }
    }

    /// A program that looked its frontend up at any time before now either finds a backend of that
    /// time or sees that it must look again.
    pub(crate) fn check_readers_of_the_past(&self) {
        for (frontend, promised) in &self.history {
            for backend in self.open(frontend).flatten() {
                assert!(promised.contains(&backend), "{backend} of {promised:?}");
            }
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = FrontendKey> {
        self.frontends.keys().copied()
    }

    /// The counters of all frontends differ.
    pub(crate) fn check_counters(&self) {
        let counters: BTreeSet<u32> = self.frontends.values().map(|f| f.counter).collect();
        assert_eq!(counters.len(), self.frontends.len());
    }

    fn open(&self, frontend: &Frontend) -> impl Iterator<Item = Option<SocketAddrV4>> {
        let (base, count) = (frontend.slot_base as usize, frontend.count as usize);
        let run = self.slots[base..base + count].iter();
        run.map(|slot| slot.open(frontend.table).map(socket_addr))
    }
}

fn socket_addr(endpoint: Endpoint) -> SocketAddrV4 {
    let port = u16::from_be(endpoint.port_be);
    SocketAddrV4::new(endpoint.addr_be.to_ne_bytes().into(), port)
}
