//! How many pods are in each topology domain, kept from pod to pod: what InterPodAffinity and
//! PodTopologySpread otherwise count over all pods for every pod.
//!
//! The design is in `docs/scheduler-counters.md`. The answers are those of the plugins, which count
//! anew and are the reference.

mod appraisal;
mod domain;
mod facet;
mod group;
mod inquiry;
mod inter_pod;
mod look;
mod selection;
mod spread;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::cache::{CacheId, NodeInfo, Snapshot};
use crate::framework::{Plugin, PreFilter, PreScore};
use crate::plugins::InterPodAffinity;
use crate::plugins::pod_topology_spread::PodTopologySpread;
use crate::pod::PodInfo;

use domain::Keys;
use group::Groups;
use inquiry::Inquiries;
use look::{Looks, Seen};
use selection::{Limits, Selections};

pub use appraisal::{Appraisal, Weights};
pub use facet::{Facets, Key as FacetKey, WIDTH_MAX};
pub use inquiry::{Asked, Inquiry, Part};

/// The counters of one cache.
#[derive(Debug)]
pub struct Counters {
    /// Whose changes everything below follows.
    cache: Option<CacheId>,
    position: u64,
    rows: Vec<Row>,
    looks: Looks,
    keys: Keys,
    selections: Selections,
    groups: Groups,
    inquiries: Inquiries,
}

/// A node as it was last seen.
#[derive(Debug, Default)]
struct Row {
    node: Arc<Node>,
    pods: Vec<Seen>,
}

impl Default for Counters {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Counters {
    fn new(limits: Limits) -> Self {
        Self {
            cache: None,
            position: 0,
            rows: Vec::new(),
            looks: Looks::default(),
            keys: Keys::default(),
            selections: Selections::new(limits),
            groups: Groups::default(),
            inquiries: Inquiries::default(),
        }
    }

    /// Takes over what changed in the cache since the last call. False if the snapshot is a copy, which
    /// the counters cannot follow.
    fn follow(&mut self, snapshot: &Snapshot) -> bool {
        let Some(changes) = snapshot.changes() else { return false };
        if !self.cache.as_ref().is_some_and(|cache| changes.is_of(cache)) {
            *self = Self::new(self.selections.limits());
            self.cache = Some(changes.cache());
        }
        let nodes = snapshot.nodes();
        match changes.rows.since(self.position) {
            Some(rows) => {
                for (at, &row) in rows.iter().enumerate() {
                    // Once for all changes of a node that follow one another.
                    if rows.get(at + 1) != Some(&row) {
                        self.refresh(row as usize, nodes);
                    }
                }
            }
            None => (0..nodes.len()).for_each(|row| self.refresh(row, nodes)),
        }
        self.position = changes.rows.end();
        while self.rows.len() > nodes.len() {
            self.clear(self.rows.len() - 1);
            self.rows.pop();
        }
        true
    }

    /// The plugin's answer at PreFilter; `None` if the counters do not have it (the plugin is another,
    /// the snapshot is a copy, or there is too much to count), and the plugin is to be asked.
    pub fn pre_filter(
        &mut self,
        plugin: &dyn Plugin,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Option<PreFilter<'static>> {
        let plugin = plugin.as_any()?;
        if plugin.is::<InterPodAffinity>() {
            return self.inter_pod_filter(pod, snapshot);
        }
        self.spread_filter(plugin.downcast_ref::<PodTopologySpread>()?, pod, snapshot)
    }

    /// The plugin's answer at PreScore; `None` as for [`Counters::pre_filter`].
    pub fn pre_score<'a>(
        &mut self,
        plugin: &dyn Plugin,
        pod: &'a PodInfo,
        snapshot: &Snapshot,
        feasible: &[usize],
    ) -> Option<PreScore<'a>> {
        let plugin = plugin.as_any()?;
        if let Some(plugin) = plugin.downcast_ref::<InterPodAffinity>() {
            return self.inter_pod_score(plugin, pod, snapshot);
        }
        self.spread_score(plugin.downcast_ref::<PodTopologySpread>()?, pod, snapshot, feasible)
    }

    /// Whether the plugin neither refuses nor scores any node for the pod. False also if the counters
    /// do not know.
    pub fn is_idle(&mut self, plugin: &dyn Plugin, pod: &PodInfo, snapshot: &Snapshot) -> bool {
        matches!(self.pre_filter(plugin, pod, snapshot), Some(PreFilter::Skip))
            && matches!(self.pre_score(plugin, pod, snapshot, &[]), Some(PreScore::Skip))
    }

    fn refresh(&mut self, row: usize, nodes: &[Arc<NodeInfo>]) {
        // A row past the end was a node that is gone.
        let Some(info) = nodes.get(row) else { return };
        if self.rows.len() <= row {
            self.rows.resize_with(row + 1, Row::default);
        }
        if !Arc::ptr_eq(&self.rows[row].node, info.node()) {
            if self.keys.would_move(row, info.node()) {
                self.take_all(row);
                self.keys.set(row, info.node());
            }
            self.rows[row].node = Arc::clone(info.node());
        }
        self.set_pods(row, info.pods());
    }

    /// Compares by pointer: a changed pod is a new value.
    fn set_pods(&mut self, row: usize, new: &[Arc<PodInfo>]) {
        let mut pods = std::mem::take(&mut self.rows[row].pods);
        let same = pods.iter().zip(new).take_while(|(old, new)| old.is(new)).count();
        let mut gone = pods.split_off(same);
        for pod in &new[same..] {
            if let Some(at) = gone.iter().position(|seen| seen.is(pod)) {
                pods.push(gone.swap_remove(at));
                continue;
            }
            let seen = self.looks.come(pod);
            // What looks like one that is gone takes its place in every count.
            match gone.iter().position(|other| other.look == seen.look) {
                Some(at) => self.looks.go(gone.swap_remove(at).look),
                None => self.count(row, seen.look, 1),
            }
            pods.push(seen);
        }
        self.rows[row].pods = pods;
        self.take(row, gone);
    }

    fn take_all(&mut self, row: usize) {
        let pods = std::mem::take(&mut self.rows[row].pods);
        self.take(row, pods);
    }

    fn take(&mut self, row: usize, pods: Vec<Seen>) {
        for seen in pods {
            self.count(row, seen.look, -1);
            self.looks.go(seen.look);
        }
    }

    fn clear(&mut self, row: usize) {
        self.take_all(row);
        self.keys.clear(row);
        self.rows[row].node = Arc::default();
    }

    fn count(&mut self, row: usize, look: usize, sign: i32) {
        let pod = self.looks.pod(look);
        self.groups.count(row, pod, sign, &mut self.keys, &self.rows);
        self.selections.count(row, pod, sign, &self.keys);
    }

    /// The number of a topology key; `None` if there are too many.
    fn key(&mut self, name: &str) -> Option<usize> {
        self.keys.number(name, &self.rows)
    }
}
