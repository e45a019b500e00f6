//! From what Services are to be to the map operations that make them so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pintle_ebpf_common::{Endpoint, Frontend, FrontendKey, FrontendWord};
use rustc_hash::FxHashMap;

use super::op::{MapOp, Plan, Rejected, Rejection};
use super::service::{DesiredPort, DesiredService, ServiceName};
use super::slots::{Run, SlotAllocator};
use crate::Limits;

/// What is published, and what could be. Its answers depend on what it was given alone: no clock,
/// no randomness.
///
/// A planner belongs to one set of maps: every plan of it must be carried out, whole and in order.
#[derive(Debug)]
pub struct Planner {
    limits: Limits,
    /// What each Service claims.
    services: FxHashMap<ServiceName, Vec<FrontendKey>>,
    /// Who claims each address; the first has it.
    claims: FxHashMap<FrontendKey, Vec<Claim>>,
    published: FxHashMap<FrontendKey, Published>,
    /// The addresses that could not be published as they should, for want of room.
    waiting: BTreeSet<FrontendKey>,
    rejected: BTreeMap<(FrontendKey, ServiceName), Rejection>,
    slots: SlotAllocator,
    counters: Counters,
    table_last: u64,
}

#[derive(Clone, Debug)]
struct Claim {
    created_ms: i64,
    service: ServiceName,
    desired: DesiredPort,
}

#[derive(Debug)]
struct Published {
    service: ServiceName,
    backends: Arc<[Endpoint]>,
    run: Option<Run>,
    word: FrontendWord,
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
            waiting: BTreeSet::new(),
            rejected: BTreeMap::new(),
            slots: SlotAllocator::new(limits.slots_max),
            counters: Counters::default(),
            table_last: 0,
        }
    }

    /// The operations after which the given Services are as given. `now_ms` is any clock that does
    /// not go back.
    pub fn plan(
        &mut self,
        now_ms: u64,
        changes: impl IntoIterator<Item = (ServiceName, DesiredService)>,
    ) -> Plan {
        self.slots.begin(now_ms, GRACE_MS);
        self.counters.begin();
        let mut affected = std::mem::take(&mut self.waiting);
        for (service, desired) in changes {
            self.claim(service, desired, &mut affected);
        }
        // What is taken away makes room for what is new, as far as numbers go.
        let (present, absent): (Vec<_>, Vec<_>) =
            affected.into_iter().partition(|key| self.claims.contains_key(key));
        let mut draft = Draft::default();
        for key in absent {
            self.withdraw(key, now_ms, &mut draft);
        }
        for key in present {
            self.publish(key, now_ms, &mut draft);
        }
        draft.into_plan()
    }

    /// The claims that are not met.
    pub fn rejected(&self) -> impl Iterator<Item = Rejected> {
        self.rejected.iter().map(|((frontend, service), reason)| Rejected {
            service: service.clone(),
            frontend: *frontend,
            reason: reason.clone(),
        })
    }

    /// Whether a claim waits for room, which another plan may find.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The Service ports that are published, with their Service, address and counter.
    pub fn published(&self) -> impl Iterator<Item = (&ServiceName, FrontendKey, u32)> {
        self.published
            .iter()
            .map(|(key, published)| (&published.service, *key, published.word.counter))
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
        let mut keys = Vec::with_capacity(ports.len());
        for desired in ports {
            let key = desired.frontend;
            // The API refuses a Service that names a port twice; the first counts.
            if keys.contains(&key) {
                continue;
            }
            keys.push(key);
            affected.insert(key);
            let claims = self.claims.entry(key).or_insert_with(|| Vec::with_capacity(1));
            let claim = Claim { created_ms, service: service.clone(), desired };
            let place = claims.partition_point(|other| other.rank() < claim.rank());
            claims.insert(place, claim);
        }
        if !keys.is_empty() {
            self.services.insert(service, keys);
        }
    }

    fn withdraw(&mut self, key: FrontendKey, now_ms: u64, draft: &mut Draft) {
        self.reject(key, BTreeMap::new(), draft);
        if let Some(published) = self.published.remove(&key) {
            draft.removals.push(MapOp::RemoveFrontend { key });
            self.counters.retire(published.word.counter);
            if let Some(run) = published.run {
                self.slots.retire(run, now_ms);
            }
        }
    }

    /// Make `key` what the first of its claims says.
    fn publish(&mut self, key: FrontendKey, now_ms: u64, draft: &mut Draft) {
        let Some((claim, losers)) = self.claims.get(&key).and_then(|claims| claims.split_first())
        else {
            return;
        };
        let claimed =
            |loser: &Claim| (loser.service.clone(), Rejection::Claimed(claim.service.clone()));
        let mut rejections: BTreeMap<_, _> = losers.iter().map(claimed).collect();
        let claim = claim.clone();
        if let Err(reason) = self.switch(key, &claim, now_ms, draft) {
            self.waiting.insert(key);
            rejections.insert(claim.service, reason);
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
        now_ms: u64,
        draft: &mut Draft,
    ) -> Result<(), Rejection> {
        let Claim { service, desired: DesiredPort { backends, flags, .. }, .. } = claim;
        let old = self.published.get(&key);
        if old.is_some_and(|old| {
            old.service == *service && old.backends == *backends && old.word.flags == *flags
        }) {
            return Ok(());
        }
        let frontends_max = self.limits.frontends_max;
        if old.is_none() && self.published.len() >= frontends_max as usize {
            return Err(Rejection::FrontendsFull(frontends_max));
        }
        let counter = old.map(|old| old.word.counter);
        let reset = old.is_none_or(|old| old.service != *service);
        let run = self.write_table(backends, draft)?;
        let counter = counter.unwrap_or_else(|| self.counters.allocate(frontends_max));
        if reset {
            draft.writes.push(MapOp::ResetCounter { counter });
        }
        let word = FrontendWord {
            table: self.table_last,
            slot_base: run.map_or(0, |run| run.base),
            count: backends.len() as u32,
            counter,
            flags: *flags,
        };
        draft.puts.push(MapOp::PutFrontend { key, frontend: Frontend::new(key, word) });
        let published =
            Published { service: service.clone(), backends: Arc::clone(backends), run, word };
        let old = self.published.insert(key, published);
        if let Some(run) = old.and_then(|old| old.run) {
            self.slots.retire(run, now_ms);
        }
        Ok(())
    }

    /// A new table, numbered `table_last`; no slots are needed for no backends.
    fn write_table(
        &mut self,
        backends: &Arc<[Endpoint]>,
        draft: &mut Draft,
    ) -> Result<Option<Run>, Rejection> {
        let run = if backends.is_empty() {
            None
        } else {
            let full =
                Rejection::SlotsFull { backends: backends.len(), slots_max: self.limits.slots_max };
            Some(self.slots.allocate(backends.len()).ok_or(full)?)
        };
        self.table_last += 1;
        if let Some(run) = run {
            draft.writes.push(MapOp::WriteSlots {
                base: run.base,
                table: self.table_last,
                backends: Arc::clone(backends),
            });
        }
        Ok(run)
    }
}

impl Claim {
    fn rank(&self) -> (i64, &ServiceName) {
        (self.created_ms, &self.service)
    }
}

/// The operations of a plan by the stage they belong to.
#[derive(Default)]
struct Draft {
    /// Of what no frontend names yet.
    writes: Vec<MapOp>,
    puts: Vec<MapOp>,
    removals: Vec<MapOp>,
    rejected: Vec<Rejected>,
}

impl Draft {
    fn into_plan(self) -> Plan {
        let Self { writes: mut ops, puts, removals, rejected } = self;
        // Removals before additions: a full map has room for what takes their place.
        ops.extend(removals);
        ops.extend(puts);
        Plan { ops, rejected }
    }
}

/// The indices of the connection counters, as many as there may be frontends. One that is given up
/// rests until the next plan if it can, so that its old frontend no longer counts with it.
#[derive(Debug, Default)]
struct Counters {
    next: u32,
    free: BTreeSet<u32>,
    retired: Vec<u32>,
}

impl Counters {
    fn begin(&mut self) {
        self.free.extend(self.retired.drain(..));
    }

    /// An unused index below `max`; there is one while fewer than `max` are in use.
    fn allocate(&mut self, max: u32) -> u32 {
        if let Some(counter) = self.free.pop_first() {
            return counter;
        }
        if self.next >= max
            && let Some(counter) = self.retired.pop()
        {
            return counter;
        }
        self.next += 1;
        self.next - 1
    }

    fn retire(&mut self, counter: u32) {
        self.retired.push(counter);
    }
}

/// How long retired slots rest: far longer than a program runs that is not put to sleep.
const GRACE_MS: u64 = 1000;
