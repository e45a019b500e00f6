//! One update: from the changed Services to the kernel.

use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::kernel_release::{self, Feature};
use super::node::NodeNews;
use crate::Limits;
use crate::kernel::{ApplyError, Dataplane, Link, LoadError, NodeNamespace};
use crate::plan::{DesiredService, LocalDetector, MapOp, Plan, Planner, Rejected, ServiceName};

/// What carries operations out: the kernel, or a test's memory.
pub(super) trait Tables: Send + 'static {
    /// See [`Dataplane::apply`].
    fn apply(&mut self, ops: &[MapOp]) -> Result<(), ApplyError>;
    /// See [`Dataplane::set_links`]. What cannot be served is logged.
    fn set_links(&mut self, _links: &[Link]) {}
    /// See [`Dataplane::look_for_strays`]. What goes wrong is logged.
    fn look_for_strays(&mut self) {}
    /// The node's podCIDRs are these. What cannot be told the programs is logged.
    fn set_pod_cidrs(&mut self, _cidrs: &[IpNet]) {}
    /// See [`Dataplane::grow`].
    fn grow(&mut self, limits: Limits) -> Result<(), LoadError>;
    /// See [`Dataplane::became_whole`]. Called after every update.
    fn became_whole(&mut self) {}
}

/// The kernel's tables of a node.
pub(super) struct NodeTables {
    pub(super) dataplane: Dataplane,
    pub(super) namespace: NodeNamespace,
    pub(super) detector: LocalDetector,
    /// Whether it is the node's podCIDRs.
    pub(super) follows_pod_cidrs: bool,
    pub(super) masquerade_all: bool,
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

    fn look_for_strays(&mut self) {
        if let Err(error) = self.dataplane.look_for_strays() {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, source, "pods whose sockets are not seen may not be served");
        }
    }

    fn set_pod_cidrs(&mut self, cidrs: &[IpNet]) {
        let detector = LocalDetector::Cidrs(cidrs.to_vec());
        // Where they are taken from a node it is not one without pods: kube-proxy ends then, and waits.
        if !self.follows_pod_cidrs || cidrs.is_empty() || detector == self.detector {
            return;
        }
        match self.dataplane.set_local(&detector, self.masquerade_all) {
            Ok(()) => {
                tracing::info!(?cidrs, "the node's podCIDRs have changed");
                self.detector = detector;
                // Which links are the pods' was told by the old ones.
                self.dataplane.serve_pod_links();
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, source, ?cidrs, "pods are told by the old podCIDRs");
            }
        }
    }

    fn grow(&mut self, limits: Limits) -> Result<(), LoadError> {
        self.dataplane.grow(limits)
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
    /// Since when there is no room for all, if it is so.
    lacks_room_since: Option<Instant>,
    /// Until when the maps stay as they are, after they could not be made larger.
    grows_from: Option<Instant>,
}

/// What an update is to bring.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) services: Vec<(ServiceName, DesiredService)>,
    /// The node's own addresses and links, if they may be news.
    pub(super) node: Option<NodeNews>,
    /// The node's podCIDRs, likewise.
    pub(super) pod_cidrs: Option<Vec<IpNet>>,
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
        Self {
            tables,
            planner,
            started: Instant::now(),
            unapplied: Vec::new(),
            lacks_room_since: None,
            grows_from: None,
        }
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
        let Plan { ops, rejected: mut news } = self.planner.plan(now_ms, changes.services);
        self.take_on(ops);
        if self.make_room()? {
            let more = self.planner.plan(now_ms, []);
            self.take_on(more.ops);
            news.extend(more.rejected);
            news.retain(|rejected| self.planner.rejects(rejected));
        }
        if let Some(NodeNews { addresses, links }) = changes.node {
            let ops = self.planner.plan_node_addresses(addresses).ops;
            self.take_on(ops);
            self.tables.set_links(&links);
        }
        if let Some(cidrs) = changes.pod_cidrs {
            self.tables.set_pod_cidrs(&cidrs);
        }
        self.apply()?;
        self.tables.became_whole();
        Ok(Synced {
            service_ports: self.planner.published().len(),
            rejected: self.planner.rejected().count(),
            news,
            waiting: self.planner.is_waiting(),
        })
    }

    /// See [`Dataplane::look_for_strays`].
    pub(super) fn look_for_strays(&mut self) {
        self.tables.look_for_strays();
    }

    /// Whether an update is over so soon that to wake another thread for it would take longer.
    pub(super) fn is_short(&self, changes: &Changes) -> bool {
        changes.node.is_none()
            && changes.pod_cidrs.is_none()
            && !self.is_behind()
            && self.planner.is_short(&changes.services)
    }

    /// Where claims wait for room that there will not be by itself, have larger maps. Returns whether
    /// there are. If that fails all is as it was.
    fn make_room(&mut self) -> Result<bool, ApplyError> {
        if !self.planner.lacks_room() {
            self.lacks_room_since = None;
            return Ok(false);
        }
        let now = Instant::now();
        let since = *self.lacks_room_since.get_or_insert(now);
        if self.grows_from.is_some_and(|from| now < from) {
            return Ok(false);
        }
        let insist = now.duration_since(since) > ROOM_PATIENCE;
        let Some(limits) = self.planner.wider(insist) else { return Ok(false) };
        // What is planned is for the maps as they are.
        self.apply()?;
        match self.tables.grow(limits) {
            Ok(()) => {
                tracing::info!(?limits, "the maps were too small, and are larger from now on");
                self.planner.grow(limits);
                self.lacks_room_since = None;
                Ok(true)
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, source, ?limits, "the maps stay as they are for a while");
                self.grows_from = Some(Instant::now() + GROW_AGAIN);
                Ok(false)
            }
        }
    }

    fn take_on(&mut self, ops: Vec<MapOp>) {
        if self.unapplied.is_empty() {
            self.unapplied = ops;
        } else {
            self.unapplied.extend(ops);
        }
    }

    fn apply(&mut self) -> Result<(), ApplyError> {
        let result = self.tables.apply(&self.unapplied);
        let applied = result.as_ref().map_or_else(|error| error.applied, |()| self.unapplied.len());
        self.unapplied.drain(..applied);
        if self.unapplied.is_empty() {
            self.unapplied = Vec::new();
        }
        result
    }
}

/// How long slots may be free in pieces that are too small, or rest, before there are to be more.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);

/// How long after a failure the maps are tried to be made larger again.
const GROW_AGAIN: Duration = Duration::from_secs(60);
