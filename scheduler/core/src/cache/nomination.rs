//! Which waiting pods have a claim to which nodes: `status.nominatedNodeName`, and what preemption
//! decided and is not yet seen there.
//!
//! Mirrors `pkg/scheduler/backend/queue/nominator.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::pod::{PodInfo, PodUid};

/// Nominated pods, by node.
#[derive(Clone, Debug, Default)]
pub(super) struct Nominations {
    by_node: FxHashMap<Arc<str>, Vec<Arc<PodInfo>>>,
    node_of: FxHashMap<PodUid, Arc<str>>,
    /// Whose victims are being evicted.
    preempting: FxHashSet<PodUid>,
    /// How many there are of each priority.
    priorities: BTreeMap<i32, usize>,
    /// How many of them have pod affinity or anti-affinity.
    with_affinity: usize,
}

impl Nominations {
    /// The pods nominated for the node, in the order in which they were.
    pub(super) fn on(&self, node: &str) -> &[Arc<PodInfo>] {
        self.by_node.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn node_of(&self, uid: &PodUid) -> Option<&Arc<str>> {
        self.node_of.get(uid)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.node_of.is_empty()
    }

    /// The lowest priority of a nominated pod that is at least this.
    pub(super) fn lowest_from(&self, priority: i32) -> Option<i32> {
        self.priorities.range(priority..).next().map(|(priority, _)| *priority)
    }

    pub(super) fn with_affinity(&self) -> usize {
        self.with_affinity
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_node.keys()
    }

    pub(super) fn is_preempting(&self, uid: &PodUid) -> bool {
        self.preempting.contains(uid)
    }

    pub(super) fn set_preempting(&mut self, uid: &PodUid, is_preempting: bool) {
        if is_preempting {
            self.preempting.insert(uid.clone());
        } else {
            self.preempting.remove(uid);
        }
    }

    /// Nominates the pod for the node and no other.
    pub(super) fn set(&mut self, info: Arc<PodInfo>, node: &str) {
        self.remove(&info.uid);
        let node: Arc<str> = Arc::from(node);
        self.node_of.insert(info.uid.clone(), Arc::clone(&node));
        *self.priorities.entry(info.priority).or_default() += 1;
        self.with_affinity += usize::from(!info.affinity().is_empty());
        self.by_node.entry(node).or_default().push(info);
    }

    /// Returns the node that the pod was nominated for.
    pub(super) fn remove(&mut self, uid: &PodUid) -> Option<Arc<str>> {
        let node = self.node_of.remove(uid)?;
        let pods = self.by_node.get_mut(&node)?;
        let at = pods.iter().position(|pod| pod.uid == *uid)?;
        let info = pods.remove(at);
        if pods.is_empty() {
            self.by_node.remove(&node);
        }
        self.with_affinity -= usize::from(!info.affinity().is_empty());
        if let Some(count) = self.priorities.get_mut(&info.priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&info.priority);
            }
        }
        Some(node)
    }
}
