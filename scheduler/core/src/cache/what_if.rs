//! A snapshot to try things on.

use std::ops::Deref;
use std::sync::Arc;

use super::{NodeInfo, Objects, Snapshot};
use crate::pod::{PodInfo, PodUid};

/// A copy of a snapshot with pods taken away from its nodes or added to them. Making it costs one
/// pointer a node; each change costs one node.
#[derive(Clone, Debug)]
pub struct WhatIf {
    snapshot: Snapshot,
}

impl WhatIf {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        Self { snapshot }
    }

    /// Puts a pod on the node (an index into the snapshot).
    pub fn add(&mut self, node: usize, info: Arc<PodInfo>) {
        self.change(node, |node| node.add_pod(info));
    }

    /// Takes a pod from the node; returns whether it was there.
    pub fn remove(&mut self, node: usize, uid: &PodUid) -> bool {
        self.change(node, |node| node.remove_pod(uid))
    }

    /// Makes the node what it is in another snapshot of the same nodes, such as the one that this
    /// is a copy of.
    pub fn restore(&mut self, node: usize, from: &Snapshot) {
        self.snapshot.alter(node, |info| *info = Arc::clone(&from.nodes()[node]));
    }

    /// The objects, to assume some.
    pub fn objects_mut(&mut self) -> &mut Objects {
        self.snapshot.objects_mut()
    }

    fn change<R>(&mut self, node: usize, act: impl FnOnce(&mut NodeInfo) -> R) -> R {
        self.snapshot.alter(node, |info| act(Arc::make_mut(info)))
    }
}

impl Deref for WhatIf {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}
