//! The cluster as one decision reads it: nodes with their pods, nominations, and other objects.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::change_log::ChangeLog;
use super::images::{self, ImageTable};
use super::node_object::NodeObject;
use super::nomination::Nominations;
use super::pod_groups::PodGroups;
use super::{ImageState, NodeInfo, Objects, WhatIf};
use crate::pod::{PodInfo, PodUid};

/// The cluster at one moment. Cheap to clone; a clone does not change.
#[derive(Debug)]
pub struct Snapshot {
    nodes: Vec<Arc<NodeInfo>>,
    /// Theirs, in the same order.
    names: Arc<Vec<Arc<str>>>,
    by_name: Arc<FxHashMap<Arc<str>, usize>>,
    images: Arc<ImageTable>,
    objects: Objects,
    nominations: Arc<Nominations>,
    pod_groups: Arc<PodGroups>,
    generation: u64,
    /// How many pods on nodes have affinity to pods.
    pods_with_affinity: usize,
    /// The cache's own snapshot has one.
    changes: Option<Box<ChangeLog>>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            names: Arc::default(),
            by_name: Arc::default(),
            images: Arc::default(),
            objects: Objects::default(),
            nominations: Arc::default(),
            pod_groups: Arc::default(),
            generation: 0,
            pods_with_affinity: 0,
            changes: Some(Box::default()),
        }
    }
}

impl Clone for Snapshot {
    /// A copy goes its own way: it logs no changes.
    fn clone(&self) -> Self {
        Self {
            nodes: self.nodes.clone(),
            names: Arc::clone(&self.names),
            by_name: Arc::clone(&self.by_name),
            images: Arc::clone(&self.images),
            objects: self.objects.clone(),
            nominations: Arc::clone(&self.nominations),
            pod_groups: Arc::clone(&self.pod_groups),
            generation: self.generation,
            pods_with_affinity: self.pods_with_affinity,
            changes: None,
        }
    }
}

impl Snapshot {
    /// The nodes, in an order that holds until one is added or removed.
    pub fn nodes(&self) -> &[Arc<NodeInfo>] {
        &self.nodes
    }

    /// The node of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.by_name.get(name).map(|&at| &self.nodes[at])
    }

    /// Where the node of this name is in [`Snapshot::nodes`].
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// What the nodes report of an image of this name; `None` if none has it.
    pub fn image(&self, name: &str) -> Option<ImageState> {
        self.images.get(name)
    }

    /// Which nodes changed, if this is a cache's own snapshot; copies of it have none.
    pub fn changes(&self) -> Option<&ChangeLog> {
        self.changes.as_deref()
    }

    /// How many pods on nodes have pod affinity or anti-affinity.
    pub fn pods_with_affinity(&self) -> usize {
        self.pods_with_affinity
    }

    /// The objects besides nodes and pods.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The pods of each pod group.
    pub fn pod_groups(&self) -> &PodGroups {
        &self.pod_groups
    }

    /// The waiting pods nominated for the node of this name.
    pub fn nominated(&self, node: &str) -> &[Arc<PodInfo>] {
        self.nominations.on(node)
    }

    /// The node that the waiting pod is nominated for.
    pub fn nomination_of(&self, uid: &PodUid) -> Option<&Arc<str>> {
        self.nominations.node_of(uid)
    }

    /// Whether the waiting pod's victims are being evicted.
    pub fn is_preempting(&self, uid: &PodUid) -> bool {
        self.nominations.is_preempting(uid)
    }

    /// Whether any pod is nominated for any node.
    pub fn has_nominations(&self) -> bool {
        !self.nominations.is_empty()
    }

    /// The lowest priority that a nominated pod has and that is at least this one: pods of this
    /// priority yield to nominated pods from there on. `None` if they yield to none.
    pub fn yields_from(&self, priority: i32) -> Option<i32> {
        self.nominations.lowest_from(priority)
    }

    /// Whether any nominated pod has pod affinity or anti-affinity.
    pub fn has_nominations_with_affinity(&self) -> bool {
        self.nominations.with_affinity() > 0
    }

    /// The names of nodes that pods are nominated for. They may be unknown.
    pub fn nodes_with_nominations(&self) -> impl Iterator<Item = &Arc<str>> {
        self.nominations.nodes()
    }

    /// A copy to try things on.
    pub fn what_if(&self) -> WhatIf {
        WhatIf::new(self.clone())
    }

    /// The generation of the latest change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn objects_mut(&mut self) -> &mut Objects {
        &mut self.objects
    }

    pub(super) fn pod_groups_mut(&mut self) -> &mut PodGroups {
        Arc::make_mut(&mut self.pod_groups)
    }

    pub(super) fn nominations_mut(&mut self) -> &mut Nominations {
        Arc::make_mut(&mut self.nominations)
    }

    /// Nominates the pod for the node of this name, and no other.
    pub(super) fn nominate(&mut self, info: Arc<PodInfo>, node: &str) {
        self.end_nomination(&info.uid);
        self.nominations_mut().set(info, node);
        self.nominated_changed(node);
    }

    /// Returns the node that the pod was nominated for.
    pub(super) fn end_nomination(&mut self, uid: &PodUid) -> Option<Arc<str>> {
        self.nomination_of(uid)?;
        let node = self.nominations_mut().remove(uid)?;
        self.nominated_changed(&node);
        Some(node)
    }

    pub(super) fn budgets_changed(&mut self) {
        self.log(ChangeLog::budgets_changed);
    }

    fn nominated_changed(&mut self, node: &str) {
        if let Some(at) = self.index_of(node) {
            self.log(|changes| changes.pods_changed(at));
        }
    }

    /// Changes the pods on one node (an index) without a note of it.
    pub(super) fn alter<R>(&mut self, at: usize, act: impl FnOnce(&mut Arc<NodeInfo>) -> R) -> R {
        let info = &mut self.nodes[at];
        self.pods_with_affinity -= info.pods_with_affinity().len();
        let result = act(info);
        self.pods_with_affinity += info.pods_with_affinity().len();
        result
    }

    pub(super) fn set_node(&mut self, object: NodeObject, ghost: Option<NodeInfo>) {
        let name = object.identity().metadata.name.clone().unwrap_or_default();
        let old = self.get(&name).map(|info| info.shared_object().clone());
        let old = old.as_ref().map(NodeObject::rest);
        if !images::same(old, Some(object.rest())) {
            Arc::make_mut(&mut self.images).replace(old, Some(object.rest()));
            self.log(ChangeLog::images_changed);
        }
        if let Some(at) = self.index_of(&name) {
            self.change_at(at, |info| info.set_object(object));
            self.log(|changes| changes.object_changed(at));
            return;
        }
        let mut info = ghost.unwrap_or_else(|| NodeInfo::ghost(name.into()));
        info.set_object(object);
        self.generation += 1;
        info.set_generation(self.generation);
        self.pods_with_affinity += info.pods_with_affinity().len();
        let at = self.nodes.len();
        Arc::make_mut(&mut self.by_name).insert(info.name().clone(), at);
        Arc::make_mut(&mut self.names).push(info.name().clone());
        self.nodes.push(Arc::new(info));
        self.log(|changes| {
            changes.object_changed(at);
            changes.images_changed();
        });
    }

    pub(super) fn remove_node(&mut self, name: &str) -> Option<NodeInfo> {
        let at = Arc::make_mut(&mut self.by_name).remove(name)?;
        let info = self.nodes.swap_remove(at);
        Arc::make_mut(&mut self.names).swap_remove(at);
        self.pods_with_affinity -= info.pods_with_affinity().len();
        if let Some(moved) = self.nodes.get(at) {
            let name = moved.name().clone();
            Arc::make_mut(&mut self.by_name).insert(name, at);
        }
        self.log(|changes| {
            changes.object_changed(at);
            changes.images_changed();
        });
        self.generation += 1;
        let gone = info.shared_object().rest();
        if !images::same(Some(gone), None) {
            Arc::make_mut(&mut self.images).replace(Some(gone), None);
        }
        let mut info = Arc::unwrap_or_clone(info);
        info.set_object(NodeObject::default());
        Some(info)
    }

    /// Changes one node; returns false if there is none of this name.
    pub(super) fn change<R>(&mut self, name: &str, act: impl FnOnce(&mut NodeInfo) -> R) -> bool {
        let Some(&at) = self.by_name.get(name) else { return false };
        self.change_at(at, act);
        true
    }

    /// Changes the node in this row.
    pub(super) fn change_at<R>(&mut self, at: usize, act: impl FnOnce(&mut NodeInfo) -> R) -> R {
        self.generation += 1;
        let generation = self.generation;
        let result = self.alter(at, |info| {
            let info = Arc::make_mut(info);
            info.set_generation(generation);
            act(info)
        });
        self.log(|changes| changes.pods_changed(at));
        result
    }

    /// The nodes, to put pods without affinity on them, their names, and the generation of the latest
    /// change. [`Snapshot::pods_came`] must be told of it.
    pub(super) fn nodes_ahead(&mut self) -> (&mut [Arc<NodeInfo>], &[Arc<str>], u64) {
        (&mut self.nodes, &self.names, self.generation)
    }

    /// Notes that a pod without affinity came to each of these rows, in order.
    pub(super) fn pods_came(&mut self, rows: &[usize]) {
        self.generation += rows.len() as u64;
        self.log(|changes| rows.iter().for_each(|&row| changes.pods_changed(row)));
    }

    fn log(&mut self, note: impl FnOnce(&mut ChangeLog)) {
        if let Some(changes) = &mut self.changes {
            note(changes);
        }
    }
}
