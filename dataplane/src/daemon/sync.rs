//! One update: from the changed Services to the kernel.

use std::time::Instant;

use super::kernel_release::{self, Feature};
use super::node::NodeNews;
use crate::kernel::{ApplyError, Dataplane, Link, NodeNamespace};
use crate::plan::{DesiredService, LocalDetector, MapOp, Planner, Rejected, ServiceName};

/// What carries operations out: the kernel, or a test's memory.
pub(super) trait Tables: Send + 'static {
    /// See [`Dataplane::apply`].
    fn apply(&mut self, ops: &[MapOp]) -> Result<(), ApplyError>;
    /// See [`Dataplane::set_links`]. What cannot be served is logged.
    fn set_links(&mut self, _links: &[Link]) {}
    /// See [`Dataplane::became_whole`]. Called after every update.
    fn became_whole(&mut self) {}
}

/// The kernel's tables of a node.
pub(super) struct NodeTables {
    pub(super) dataplane: Dataplane,
    pub(super) namespace: NodeNamespace,
    pub(super) detector: LocalDetector,
    /// Whether packets are translated on the node's links.
    pub(super) translates_packets: bool,
}

impl Tables for NodeTables {
    fn apply(&mut self, ops: &[MapOp]) -> Result<(), ApplyError> {
        self.dataplane.apply(ops)
    }

    fn set_links(&mut self, links: &[Link]) {
        if !self.translates_packets {
            return;
        }
        if let Err(error) = self.dataplane.set_links(&self.namespace, &self.detector, links) {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let release = kernel_release::running();
            if kernel_release::TCX.is_missing(&release) {
                let Feature { name, instead, .. } = kernel_release::TCX;
                tracing::warn!(%error, source, "the kernel, {release}, has no {name}: {instead}");
                self.translates_packets = false;
                return;
            }
            tracing::warn!(%error, source, "clients from outside by this link are not served");
        }
    }

    fn became_whole(&mut self) {
        self.dataplane.became_whole();
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
    /// The node's own addresses and links, if they may be news.
    pub(super) node: Option<NodeNews>,
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
        if let Some(NodeNews { addresses, links }) = changes.node {
            self.unapplied.extend(self.planner.plan_node_addresses(addresses).ops);
            self.tables.set_links(&links);
        }
        self.apply()?;
        self.tables.became_whole();
        Ok(Synced {
            service_ports: self.planner.published().len(),
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
