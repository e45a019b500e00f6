//! One update: from the changed Services to the kernel.

use std::collections::BTreeMap;
use std::time::Instant;

use pintle_ebpf_common::Address;

use crate::kernel::{ApplyError, Dataplane};
use crate::plan::{DesiredService, MapOp, Planner, Rejected, ServiceName};

/// What carries operations out: the kernel, or a test's memory.
pub(super) trait Tables: Send + 'static {
    /// See [`Dataplane::apply`].
    fn apply(&mut self, ops: &[MapOp]) -> Result<(), ApplyError>;
    /// See [`Dataplane::became_whole`]. Called after every update.
    fn became_whole(&mut self) {}
}

impl Tables for Dataplane {
    fn apply(&mut self, ops: &[MapOp]) -> Result<(), ApplyError> {
        Self::apply(self, ops)
    }

    fn became_whole(&mut self) {
        Self::became_whole(self);
    }
}

/// The planner and the tables it plans for.
pub(super) struct Engine<T> {
    tables: T,
    planner: Planner,
    started: Instant,
    /// Planned and not yet carried out, because the kernel refused: no more than one plan's, and what
    /// waited for room, since changes are not planned until it is carried out.
    unapplied: Vec<MapOp>,
}

/// What an update is to bring.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) services: Vec<(ServiceName, DesiredService)>,
    /// Where node ports answer, if that may be news.
    pub(super) node_addresses: Option<BTreeMap<Address, u32>>,
}

/// What an update came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Synced {
    /// The addresses that are published.
    pub(super) service_ports: usize,
    /// How many claims could not be met so far.
    pub(super) rejected: usize,
    /// Those of them that this update brought.
    pub(super) news: Vec<Rejected>,
    /// Whether it is worth trying again after a while, without any event.
    pub(super) waiting: bool,
}

impl<T: Tables> Engine<T> {
    /// `planner` knows what is in the tables.
    pub(super) fn new(tables: T, planner: Planner) -> Self {
        Self { tables, planner, started: Instant::now(), unapplied: Vec::new() }
    }

    /// Whether an earlier update is not whole yet: then the next one is to bring no changes.
    pub(super) fn is_behind(&self) -> bool {
        !self.unapplied.is_empty()
    }

    /// Finish the earlier update, and bring the tables to where `changes` are in them. What the
    /// kernel refuses is kept for the next call.
    pub(super) fn sync(&mut self, changes: Changes) -> Result<Synced, ApplyError> {
        // A clock of 2^64 ms does not run out.
        let now_ms = self.started.elapsed().as_millis() as u64;
        let plan = self.planner.plan(now_ms, changes.services);
        self.unapplied.extend(plan.ops);
        if let Some(addresses) = changes.node_addresses {
            self.unapplied.extend(self.planner.plan_node_addresses(addresses).ops);
        }
        self.apply()?;
        self.tables.became_whole();
        Ok(Synced {
            service_ports: self.planner.published().count(),
            rejected: self.planner.rejected().count(),
            news: plan.rejected,
            waiting: self.planner.is_waiting(),
        })
    }

    fn apply(&mut self) -> Result<(), ApplyError> {
        let result = self.tables.apply(&self.unapplied);
        let applied = result.as_ref().map_or_else(|error| error.applied, |()| self.unapplied.len());
        self.unapplied.drain(..applied);
        result
    }
}
