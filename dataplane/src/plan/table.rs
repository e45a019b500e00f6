//! The tables of backends, and which slots they take.

use std::sync::Arc;

use pintle_ebpf_common::{Endpoint, Slot, SlotRun};
use rustc_hash::FxHashMap;

use super::desired::{DesiredFrontend, DesiredPort};
use super::maglev;
use super::op::{MapOp, Rejection};
use super::slots::{Run, SlotAllocator};
use super::weights::Weights;

/// All tables that frontends name.
#[derive(Debug)]
pub(super) struct Tables {
    slots_max: u32,
    slots: SlotAllocator,
    tables: FxHashMap<u64, Table>,
    last: u64,
    /// Those that lost a user or never had one since [`Tables::begin`].
    loose: Vec<u64>,
}

/// A port's sets of endpoints, that of the cluster and that of the node if they differ, each in a run
/// of slots. Shared by the port's frontends.
#[derive(Debug)]
struct Table {
    sets: Vec<Placed>,
    /// Frontends.
    users: u32,
}

#[derive(Debug)]
struct Placed {
    backends: Arc<[Endpoint]>,
    run: Run,
    ring: Option<Ring>,
}

/// With consistent hashing, where the places stand and how many there are.
#[derive(Clone, Debug)]
struct Ring {
    run: Run,
    places: u32,
    made: Made,
}

/// What is known of the places.
#[derive(Clone, Debug)]
enum Made {
    /// They are by these weights.
    By(Option<Arc<Weights>>),
    /// An earlier process has left them, of this content.
    Found(u64),
}

impl Tables {
    pub(super) fn new(slots_max: u32) -> Self {
        let slots = SlotAllocator::new(slots_max);
        Self { slots_max, slots, tables: FxHashMap::default(), last: 0, loose: Vec::new() }
    }

    /// A table was found in the kernel. Its id is taken, whatever can be said of its sets.
    pub(super) fn restore(&mut self, id: u64) {
        self.last = self.last.max(id.saturating_add(IDS_LEFT_OUT));
        self.tables.entry(id).or_insert_with(|| Table { sets: Vec::new(), users: 0 });
        self.loose.push(id);
    }

    /// A set of endpoints of a table that was found stands in `run`. Left out if the slots are
    /// another's already.
    pub(super) fn restore_set(&mut self, id: u64, run: SlotRun, backends: Arc<[Endpoint]>) {
        self.restore(id);
        if let Some(run) = self.slots.reserve(run.base, backends.len())
            && let Some(table) = self.tables.get_mut(&id)
        {
            table.sets.push(Placed { backends, run, ring: None });
        }
    }

    /// The set that stands from the slot `base` on has a ring of this content. Left out likewise.
    pub(super) fn restore_ring(&mut self, id: u64, base: u32, ring: SlotRun, content: u64) {
        let Some(table) = self.tables.get_mut(&id) else { return };
        let of_set = table.sets.iter_mut().find(|placed| placed.run.base == base);
        if let Some(placed) = of_set.filter(|placed| placed.ring.is_none())
            && let Some(run) = self.slots.reserve(ring.base, ring_slots(ring.count))
        {
            placed.ring = Some(Ring { run, places: ring.count, made: Made::Found(content) });
        }
    }

    /// There are more slots from now on.
    pub(super) fn grow(&mut self, slots_max: u32) {
        self.slots.grow(self.slots_max, slots_max);
        self.slots_max = slots_max;
    }

    /// A plan begins.
    pub(super) fn begin(&mut self, now_ms: u64, grace_ms: u64) {
        self.slots.begin(now_ms, grace_ms);
    }

    /// The id of a table with the endpoints that `frontend`, one of `port`'s, answers with: the first
    /// of `known` that has them, else a new one of all the port's.
    pub(super) fn hold(
        &mut self,
        known: [Option<u64>; 2],
        port: &DesiredPort,
        frontend: &DesiredFrontend,
        writes: &mut Vec<MapOp>,
    ) -> Result<u64, Rejection> {
        let needed = [frontend.internal, frontend.external].map(|policy| port.endpoints(policy));
        let has_all = |table: &Table| {
            let has = |set: &Arc<[Endpoint]>| {
                let placed = table.find(set);
                placed.is_some_and(|placed| {
                    placed.has_ring(maglev::places(set.len(), port.ring), port.weights.as_ref())
                })
            };
            needed.iter().all(|set| set.is_empty() || has(set))
        };
        let fits = |id: &u64| self.tables.get(id).is_some_and(has_all);
        if let Some(id) = known.into_iter().flatten().find(fits) {
            if let Some(table) = self.tables.get_mut(&id) {
                table.adopt(needed, port.weights.as_ref());
            }
            return Ok(id);
        }
        let mut wanted = vec![&port.cluster, &port.local];
        wanted.retain(|set| !set.is_empty());
        if wanted.len() == 2 && wanted[0] == wanted[1] {
            wanted.pop();
        }
        let mut sets = Vec::with_capacity(wanted.len());
        for backends in wanted {
            match self.place(backends, maglev::places(backends.len(), port.ring), &port.weights) {
                Ok(placed) => sets.push(placed),
                Err(reason) => {
                    sets.iter().for_each(|placed| self.give_back(placed));
                    return Err(reason);
                }
            }
        }
        self.last += 1;
        sets.iter().for_each(|placed| placed.write(self.last, writes));
        self.tables.insert(self.last, Table { sets, users: 0 });
        self.loose.push(self.last);
        Ok(self.last)
    }

    /// Room for a set, and for its ring if that is to have places.
    fn place(
        &mut self,
        backends: &Arc<[Endpoint]>,
        places: u32,
        weights: &Option<Arc<Weights>>,
    ) -> Result<Placed, Rejection> {
        let slots_max = self.slots_max;
        let full = |backends| Rejection::SlotsFull { backends, slots_max };
        let run = self.slots.allocate(backends.len()).ok_or(full(backends.len()))?;
        let mut placed = Placed { backends: Arc::clone(backends), run, ring: None };
        if places > 0 {
            let slots = ring_slots(places);
            let Some(run) = self.slots.allocate(slots) else {
                self.give_back(&placed);
                return Err(full(slots));
            };
            placed.ring = Some(Ring { run, places, made: Made::By(weights.clone()) });
        }
        Ok(placed)
    }

    fn give_back(&mut self, placed: &Placed) {
        placed.runs().for_each(|run| self.slots.give_back(run));
    }

    /// The ring of `backends` in a table that holds them; of no places if there is none.
    pub(super) fn ring(&self, table: u64, backends: &Arc<[Endpoint]>) -> SlotRun {
        let table = self.tables.get(&table);
        let placed = table.and_then(|table| table.find(backends));
        placed
            .and_then(|placed| placed.ring.as_ref())
            .map_or(SlotRun::default(), |ring| SlotRun { base: ring.run.base, count: ring.places })
    }

    /// Where `backends` stand in a table that holds them.
    pub(super) fn run(&self, table: u64, backends: &Arc<[Endpoint]>) -> SlotRun {
        let table = self.tables.get(&table);
        let placed = table.and_then(|table| table.find(backends));
        placed.map_or(SlotRun::default(), |placed| SlotRun {
            base: placed.run.base,
            // At most slots_max, which is a u32.
            count: placed.backends.len() as u32,
        })
    }

    /// A frontend names a table.
    pub(super) fn use_table(&mut self, id: u64) {
        if let Some(table) = self.tables.get_mut(&id) {
            table.users += 1;
        }
    }

    /// A frontend names a table no more.
    pub(super) fn leave(&mut self, id: u64) {
        if let Some(table) = self.tables.get_mut(&id) {
            table.users -= 1;
            self.loose.push(id);
        }
    }

    /// The plan ends: retire the tables that no frontend names.
    pub(super) fn end(&mut self, now_ms: u64) {
        for id in std::mem::take(&mut self.loose) {
            if self.tables.get(&id).is_some_and(|table| table.users == 0)
                && let Some(table) = self.tables.remove(&id)
            {
                let runs = table.sets.iter().flat_map(Placed::runs);
                runs.for_each(|run| self.slots.retire(run, now_ms));
            }
        }
    }
}

impl Table {
    fn find(&self, backends: &Arc<[Endpoint]>) -> Option<&Placed> {
        let is_it = |placed: &&Placed| {
            Arc::ptr_eq(&placed.backends, backends) || placed.backends == *backends
        };
        self.sets.iter().find(is_it)
    }

    /// Hold the sets that are equal to these as these, so that there is one copy of each. Their rings are
    /// by these weights.
    fn adopt(&mut self, sets: [&Arc<[Endpoint]>; 2], weights: Option<&Arc<Weights>>) {
        for placed in &mut self.sets {
            if let Some(Ring { made: made @ Made::Found(_), .. }) = &mut placed.ring
                && sets.into_iter().any(|set| **set == *placed.backends)
            {
                *made = Made::By(weights.cloned());
            }
            if let Some(same) = sets.into_iter().find(|set| ***set == *placed.backends) {
                placed.backends = Arc::clone(same);
            }
        }
    }
}

impl Placed {
    /// Whether the ring is of so many places and by these weights.
    fn has_ring(&self, places: u32, weights: Option<&Arc<Weights>>) -> bool {
        match &self.ring {
            None => places == 0,
            Some(ring) if ring.places != places => false,
            Some(Ring { made: Made::By(others), .. }) => others.as_ref() == weights,
            Some(Ring { made: Made::Found(content), .. }) => {
                let wanted = self.make_ring(places, weights);
                maglev::content(wanted.iter().copied()) == *content
            }
        }
    }

    fn make_ring(&self, places: u32, weights: Option<&Arc<Weights>>) -> Arc<[u16]> {
        let weight = |one: &Endpoint| weights.map_or(1, |weights| weights.of(one));
        maglev::weighted_ring(&self.backends, weight, places)
    }

    fn runs(&self) -> impl Iterator<Item = Run> + use<> {
        [Some(self.run), self.ring.as_ref().map(|ring| ring.run)].into_iter().flatten()
    }

    fn write(&self, table: u64, writes: &mut Vec<MapOp>) {
        let backends = Arc::clone(&self.backends);
        writes.push(MapOp::WriteSlots { base: self.run.base, table, backends });
        if let Some(Ring { run, places, made: Made::By(weights) }) = &self.ring {
            let places = self.make_ring(*places, weights.as_ref());
            writes.push(MapOp::WriteRing { base: run.base, table, places });
        }
    }
}

/// How many slots so many places take.
pub(super) fn ring_slots(places: u32) -> usize {
    places.div_ceil(Slot::PLACES) as usize
}

/// How many ids after the greatest that was found are left out: those that an earlier process may
/// have given to tables that are gone.
const IDS_LEFT_OUT: u64 = 1 << 32;
