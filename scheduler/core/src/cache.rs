//! What the scheduler believes of the cluster: nodes, and the pods on them.
//!
//! Mirrors `pkg/scheduler/backend/cache`. A pod gets in when it is seen bound, or before that when
//! the scheduler *assumes* it: from the decision until its binding is seen, its place is taken.
//! The life of a pod in the cache:
//!
//! ```text
//!   assume ──► finish_binding ──► add (seen bound) ──► update... ──► remove
//!     │              │                  ▲
//!     └─ forget      └─ expire ─────────┘ (only with an expiry set)
//! ```
//!
//! [`Snapshot`] is the part that decisions read. It is always current, and a clone of it is a
//! consistent copy: what changes afterwards is copied on write, node by node.

mod change_log;
mod commit;
mod images;
mod node_info;
mod node_object;
mod nomination;
mod objects;
mod pod_groups;
mod pod_table;
mod snapshot;
#[cfg(test)]
mod tests;
mod what_if;

use std::collections::hash_map::Entry;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use rustc_hash::FxHashMap;

use crate::framework::Step;
use crate::pod::{PodInfo, PodUid};
use crate::time::Time;

pub use change_log::{CacheId, ChangeLog, RowLog};
pub(crate) use commit::{Nodes, Places};
pub use images::ImageState;
pub use node_info::NodeInfo;
use node_object::NodeLikenesses;
pub use objects::{Kind, Lister, Object, Objects};
pub use pod_groups::{PodGroupKey, PodGroups};
use pod_table::{Place, PodTable};
pub use snapshot::Snapshot;
pub use what_if::WhatIf;

/// Why a pod could not be assumed or forgotten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// The pod is in the cache already.
    #[error("assume pod {uid}: it is in the cache already")]
    AlreadyThere {
        /// Which pod.
        uid: PodUid,
    },
    /// The pod was not assumed, or was seen bound since.
    #[error("forget pod {uid}: it is not assumed")]
    NotAssumed {
        /// Which pod.
        uid: PodUid,
    },
}

/// Nodes and the pods on them.
#[derive(Debug, Default)]
pub struct Cache {
    snapshot: Snapshot,
    /// Pods on nodes that are not (or no longer) known, by node.
    ghosts: FxHashMap<Arc<str>, NodeInfo>,
    pods: PodTable,
    /// What nodes share.
    likenesses: NodeLikenesses,
}

#[derive(Clone, Copy, Debug)]
struct Assumed {
    /// When to give the pod up: set by a finished binding if assumed pods expire.
    deadline: Option<Time>,
}

impl Cache {
    /// The nodes as decisions read them.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// How many pods are in the cache, assumed ones included.
    pub fn pod_count(&self) -> usize {
        self.pods.placed_count()
    }

    /// Whether the pod's place is taken though it was not seen bound.
    pub fn is_assumed(&self, uid: &PodUid) -> bool {
        self.pods.get(uid).is_some_and(|(_, place)| place.assumed.is_some())
    }

    /// The pod as the cache has it.
    pub fn pod(&self, uid: &PodUid) -> Option<&Arc<PodInfo>> {
        self.pods.get(uid).map(|(info, _)| info)
    }

    /// A pod without a node was seen that is to be placed: from now on it is found without a search,
    /// until [`Cache::remove_pod`].
    pub fn admit(&mut self, info: PodInfo) -> Arc<PodInfo> {
        self.pods.admit(info)
    }

    /// A node appeared or changed.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let ghost = self.ghosts.remove(name);
        let object = self.likenesses.share(node);
        self.snapshot.set_node(object, ghost);
    }

    /// A node is gone. Its pods stay until they are seen deleted.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.snapshot.remove_node(name)
            && info.pod_count() > 0
        {
            self.ghosts.insert(info.name().clone(), info);
        }
    }

    /// An object other than a node or a pod was added, changed or deleted.
    pub fn apply(&mut self, object: &Object) {
        self.snapshot.objects_mut().apply(object);
        if matches!(object, Object::PodDisruptionBudget(..)) {
            self.snapshot.budgets_changed();
        }
    }

    /// Reads from now on what the steps will write.
    pub fn assume_objects(&mut self, steps: &[Step]) {
        steps.iter().for_each(|step| step.assume(self.snapshot.objects_mut()));
    }

    /// The steps could not be carried out: reads what was seen again.
    pub fn forget_objects(&mut self, steps: &[Step]) {
        steps.iter().for_each(|step| step.forget(self.snapshot.objects_mut()));
    }

    /// A pod was seen: if it names a group, it is a member. Returns whether it is a new one.
    pub fn join_group(&mut self, info: &PodInfo) -> bool {
        let Some(key) = PodGroupKey::of(info) else { return false };
        self.snapshot.pod_groups_mut().join(key, info.uid.clone())
    }

    /// A pod is gone, or has ended.
    pub fn leave_group(&mut self, info: &PodInfo) {
        if let Some(key) = PodGroupKey::of(info) {
            self.snapshot.pod_groups_mut().leave(&key, &info.uid);
        }
    }

    /// Nominates a waiting pod for the node of this name, and no other.
    pub fn nominate(&mut self, info: &Arc<PodInfo>, node: &str) {
        self.snapshot.nominate(Arc::clone(info), node);
    }

    /// Ends the pod's nomination; returns the node that it was for.
    pub fn end_nomination(&mut self, uid: &PodUid) -> Option<Arc<str>> {
        self.snapshot.end_nomination(uid)
    }

    /// The eviction of the waiting pod's victims begins, or has ended.
    pub fn set_preempting(&mut self, uid: &PodUid, is_preempting: bool) {
        if self.snapshot.is_preempting(uid) != is_preempting {
            self.snapshot.nominations_mut().set_preempting(uid, is_preempting);
        }
    }

    /// Takes the pod's place on `node` before the binding is written.
    pub fn assume(&mut self, info: &Arc<PodInfo>, node: &str) -> Result<(), CacheError> {
        if self.pods.is_placed(info) {
            return Err(CacheError::AlreadyThere { uid: info.uid.clone() });
        }
        self.insert(Arc::clone(info), node, Some(Assumed { deadline: None }));
        Ok(())
    }

    /// As [`Cache::assume`], on the node in this row of the snapshot; returns its name.
    pub fn assume_at(&mut self, info: &Arc<PodInfo>, row: usize) -> Result<Arc<str>, CacheError> {
        if self.pods.is_placed(info) {
            return Err(CacheError::AlreadyThere { uid: info.uid.clone() });
        }
        let name = self.snapshot.change_at(row, |node| {
            node.add_pod(Arc::clone(info));
            Arc::clone(node.name())
        });
        let assumed = Some(Assumed { deadline: None });
        self.pods.set(info, Place { node: Arc::clone(&name), assumed });
        Ok(name)
    }

    /// The binding is written. With `expiry` the pod is given up if it is not seen bound by then;
    /// upstream sets none.
    pub fn finish_binding(&mut self, uid: &PodUid, expiry: Option<Time>) {
        if let Some(Place { assumed: Some(assumed), .. }) = self.pods.place_mut(uid) {
            assumed.deadline = expiry;
        }
    }

    /// Gives an assumed pod's place back.
    pub fn forget(&mut self, uid: &PodUid) -> Result<(), CacheError> {
        if !self.is_assumed(uid) {
            return Err(CacheError::NotAssumed { uid: uid.clone() });
        }
        if let Some(place) = self.pods.displace(uid) {
            self.leave(place.node, uid);
        }
        Ok(())
    }

    /// Gives up assumed pods whose deadline is past; returns them.
    pub fn expire(&mut self, now: Time) -> Vec<Arc<PodInfo>> {
        let is_late = |place: &Place| {
            place
                .assumed
                .and_then(|assumed| assumed.deadline)
                .is_some_and(|deadline| deadline < now)
        };
        let late = self.pods.placed().filter(|(_, place)| is_late(place));
        let late: Vec<Arc<PodInfo>> = late.map(|(info, _)| Arc::clone(info)).collect();
        for info in &late {
            self.remove_pod(&info.uid);
        }
        late
    }

    /// A bound pod was seen, for the first time or changed. If it is not where it was assumed to
    /// be, what was seen counts. Pods without a node are ignored.
    pub fn set_pod(&mut self, info: Arc<PodInfo>) {
        let Some(node) = info.node_name().map(str::to_owned) else { return };
        self.insert(info, &node, None);
    }

    /// A pod is gone (or done). Returns whether it had a node.
    pub fn remove_pod(&mut self, uid: &PodUid) -> bool {
        let Some(place) = self.pods.remove(uid) else { return false };
        self.leave(place.node, uid);
        true
    }

    /// Takes the pod from the node.
    fn leave(&mut self, node: Arc<str>, uid: &PodUid) {
        if self.snapshot.change(&node, |node| node.remove_pod(uid)) {
            return;
        }
        if let Entry::Occupied(mut ghost) = self.ghosts.entry(node) {
            ghost.get_mut().remove_pod(uid);
            if ghost.get().pod_count() == 0 {
                ghost.remove();
            }
        }
    }

    /// The pod is on the node of this name and nowhere else.
    fn insert(&mut self, info: Arc<PodInfo>, node: &str, assumed: Option<Assumed>) {
        let name = match self.snapshot.get(node) {
            Some(known) => known.name().clone(),
            None => Arc::from(node),
        };
        let place = Place { node: Arc::clone(&name), assumed };
        if let Some((_, before)) = self.pods.set(&info, place) {
            self.leave(before.node, &info.uid);
        }
        if let Some(row) = self.snapshot.index_of(&name) {
            self.snapshot.change_at(row, |node| node.add_pod(info));
        } else {
            let ghost = self.ghosts.entry(Arc::clone(&name));
            ghost.or_insert_with(|| NodeInfo::ghost(name)).add_pod(info);
        }
    }
}

/// The pods of a list as the cache wants them: bound ones, worked out.
pub fn bound_pods(pods: impl IntoIterator<Item = Pod>) -> impl Iterator<Item = Arc<PodInfo>> {
    let infos = pods.into_iter().map(|pod| Arc::new(PodInfo::new(Arc::new(pod))));
    infos.filter(|info| info.node_name().is_some())
}
