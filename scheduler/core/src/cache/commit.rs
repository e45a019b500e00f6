//! Assuming many pods in a row, by up to two threads.
//!
//! The parts together do what [`Cache::assume_at`] does pod by pod, for pods that are not in the cache
//! and have no affinity to pods.

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
pub(crate) struct Places<'a>(&'a mut PodTable);

impl Cache {
    /// Whether the pod has a place.
    pub(crate) fn has_placed(&self, info: &PodInfo) -> bool {
        self.pods.is_placed(info)
    }

    /// What assuming pods changes: nodes and the table of pods. Both must come to the same, and
    /// [`Cache::came`] must be told of it.
    pub(crate) fn split(&mut self) -> (Nodes<'_>, Places<'_>) {
        let (nodes, generation) = self.snapshot.nodes_ahead();
        (Nodes { nodes, generation }, Places(&mut self.pods))
    }

    /// Pods were put on the nodes in these rows, in this order.
    pub(crate) fn came(&mut self, rows: &[usize]) {
        self.snapshot.pods_came(rows);
    }
}

impl Nodes<'_> {
    /// Puts the pod on the node in this row; returns the node's name.
    #[inline]
    pub(crate) fn add(&mut self, row: usize, info: Arc<PodInfo>) -> Arc<str> {
        let node = self.next(row);
        node.add_pod(info);
        Arc::clone(node.name())
    }

    /// The same for a pod of this template that has no affinity and asks for what the template says;
    /// the pod itself is not read, which another thread may have just written to.
    #[inline]
    pub(crate) fn add_of(
        &mut self,
        row: usize,
        info: Arc<PodInfo>,
        template: &Template,
    ) -> Arc<str> {
        let node = self.next(row);
        node.add_pod_of(info, template);
        Arc::clone(node.name())
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
        self.0.is_placed(info)
    }

    /// Notes that the pod is assumed on the node of this name.
    pub(crate) fn add(&mut self, info: &Arc<PodInfo>, node: &Arc<str>) {
        let assumed = Some(Assumed { deadline: None });
        self.0.set(info, Place { node: Arc::clone(node), assumed });
    }
}
