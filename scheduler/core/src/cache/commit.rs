//! Assuming many pods in a row, by up to two threads.
//!
//! The parts together do what [`Cache::assume_at`] does pod by pod, for pods that are not in the cache
//! and have no affinity to pods.

use std::hint::black_box;
use std::sync::Arc;

use super::pod_table::{Place, PodTable};
use super::{Assumed, Cache, NodeInfo};
use crate::pod::{PodInfo, Template};

/// The nodes.
#[derive(Debug)]
pub(crate) struct Nodes<'a> {
    nodes: &'a mut [Arc<NodeInfo>],
    /// Of the latest change.
    generation: u64,
}

/// The table of pods.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    pods: &'a mut PodTable,
    /// The nodes', by row: apart from these, which another thread writes to.
    names: &'a [Arc<str>],
}

impl Cache {
    /// Whether the pod has a place.
    pub(crate) fn has_placed(&self, info: &PodInfo) -> bool {
        self.pods.is_placed(info)
    }

    /// What assuming pods changes: nodes and the table of pods. Both must come to the same, and
    /// [`Cache::came`] must be told of it.
    pub(crate) fn split(&mut self) -> (Nodes<'_>, Places<'_>) {
        let (nodes, names, generation) = self.snapshot.nodes_ahead();
        (Nodes { nodes, generation }, Places { pods: &mut self.pods, names })
    }

    /// Pods were put on the nodes in these rows, in this order.
    pub(crate) fn came(&mut self, rows: &[usize]) {
        self.snapshot.pods_came(rows);
    }
}

impl Nodes<'_> {
    /// Reads the nodes in these rows: the processor waits for the memory of several at a time. Where
    /// pods are put on them it would wait for each, as counting references keeps their order.
    pub(crate) fn approach(&self, rows: &[usize]) {
        let all = rows.iter().fold(0, |all, row| all ^ self.nodes[*row].glance());
        black_box(all);
    }

    /// Puts the pod on the node in this row.
    #[inline]
    pub(crate) fn add(&mut self, row: usize, info: Arc<PodInfo>) {
        self.next(row).add_pod(info);
    }

    /// The same for a pod of this template that has no affinity and asks for what the template says;
    /// the pod itself is not read, which another thread may have just written to.
    #[inline]
    pub(crate) fn add_of(&mut self, row: usize, info: Arc<PodInfo>, template: &Template) {
        self.next(row).add_pod_of(info, template);
    }

    fn next(&mut self, row: usize) -> &mut NodeInfo {
        self.generation += 1;
        let node = Arc::make_mut(&mut self.nodes[row]);
        node.set_generation(self.generation);
        node
    }
}

impl Places<'_> {
    /// Whether the pod has a place.
    pub(crate) fn has(&self, info: &PodInfo) -> bool {
        self.pods.is_placed(info)
    }

    /// The same as [`Nodes::approach`] for the nodes' names.
    pub(crate) fn approach(&self, rows: &[usize]) {
        let first = |row: &usize| self.names[*row].as_bytes().first().copied().unwrap_or(0);
        let all = rows.iter().fold(0, |all, row| all ^ first(row));
        black_box(all);
    }

    /// The name of the node in this row.
    pub(crate) fn name(&self, row: usize) -> Arc<str> {
        Arc::clone(&self.names[row])
    }

    /// Notes that the pod is assumed on the node of this name.
    pub(crate) fn add(&mut self, info: &Arc<PodInfo>, node: &Arc<str>) {
        let assumed = Some(Assumed { deadline: None });
        self.pods.set(info, Place { node: Arc::clone(node), assumed });
    }
}
