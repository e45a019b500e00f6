//! Assuming many pods at once, in parts that threads can work on beside each other.
//!
//! All parts together do what [`Cache::assume_at`] does pod by pod, for pods that are not in the cache
//! and have no affinity to pods.

use std::sync::Arc;

use super::pod_table::{Place, PodTable};
use super::{Assumed, Cache, NodeInfo};
use crate::pod::PodInfo;

/// Some of the nodes.
#[derive(Debug)]
pub(crate) struct NodePart<'a> {
    first: usize,
    nodes: &'a mut [Arc<NodeInfo>],
    /// Before the first pod.
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

    /// What assuming a pod on each of these rows, in order, changes: the nodes in at most so many
    /// parts, and the table of pods.
    pub(crate) fn split(
        &mut self,
        rows: &[usize],
        parts: usize,
    ) -> (impl Iterator<Item = NodePart<'_>>, Places<'_>) {
        let (nodes, generation) = self.snapshot.pods_to_come(rows);
        let size = nodes.len().div_ceil(parts).max(1);
        let chunks = nodes.chunks_mut(size).enumerate();
        let parts = chunks.map(move |(at, nodes)| NodePart { first: at * size, nodes, generation });
        (parts, Places(&mut self.pods))
    }
}

impl NodePart<'_> {
    /// Puts on its nodes those of the pods that are for them. All rows and pods of the batch are
    /// given, in order.
    pub(crate) fn add<'a>(self, rows: &[usize], pods: impl Iterator<Item = &'a Arc<PodInfo>>) {
        for ((number, row), info) in (1..).zip(rows).zip(pods) {
            let node = row.checked_sub(self.first).and_then(|at| self.nodes.get_mut(at));
            let Some(node) = node else { continue };
            let node = Arc::make_mut(node);
            node.set_generation(self.generation + number);
            node.add_pod(Arc::clone(info));
        }
    }
}

impl Places<'_> {
    /// Notes that the pod is assumed on the node of this name.
    pub(crate) fn add(&mut self, info: &Arc<PodInfo>, node: &Arc<str>) {
        let assumed = Some(Assumed { deadline: None });
        self.0.set(info, Place { node: Arc::clone(node), assumed });
    }
}
