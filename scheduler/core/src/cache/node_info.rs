//! One node, and what the pods on it take.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};
use pintle_api::resources::{PODS, Resources};
use rustc_hash::FxHashSet;

use super::images;
use super::node_object::NodeObject;
use crate::pod::{HostPort, PodInfo, PodUid, Template, not_negative};

/// A node with the sums that plugins read (`framework.NodeInfo`).
///
/// What a pod that comes changes is first and in one piece: nodes are placed on in no order, and each of
/// these lines of memory is waited for.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct NodeInfo {
    generation: u64,
    pods: Vec<Arc<PodInfo>>,
    requested: Resources,
    requested_nonzero: Resources,
    name: Arc<str>,
    object: NodeObject,
    pods_with_affinity: Vec<Arc<PodInfo>>,
    allocatable: Resources,
    allowed_pods: i64,
    used_ports: Vec<HostPort>,
    /// Copies from the object: filters read these of every node, and most have no taint.
    taints: Arc<[Taint]>,
    unschedulable: bool,
    image_names: Arc<FxHashSet<Box<str>>>,
}

impl NodeInfo {
    /// A node without pods.
    pub fn new(node: Arc<Node>) -> Self {
        let name = Arc::from(node.metadata.name.as_deref().unwrap_or_default());
        let mut info = Self::ghost(name);
        info.set_object(NodeObject::own(node));
        info
    }

    /// A place for the pods of a node that is not known.
    pub(super) fn ghost(name: Arc<str>) -> Self {
        Self {
            name,
            object: NodeObject::default(),
            pods: Vec::new(),
            pods_with_affinity: Vec::new(),
            requested: Resources::default(),
            requested_nonzero: Resources::default(),
            allocatable: Resources::default(),
            allowed_pods: 0,
            used_ports: Vec::new(),
            taints: Arc::default(),
            unschedulable: false,
            image_names: Arc::default(),
            generation: 0,
        }
    }

    /// `metadata.name`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The object as far as it is the node's own: its name and labels. The rest may be missing;
    /// [`NodeInfo::object`] has all.
    pub fn node(&self) -> &Arc<Node> {
        self.object.identity()
    }

    /// The object, put together again.
    pub fn object(&self) -> Cow<'_, Node> {
        self.object.whole()
    }

    pub(super) fn shared_object(&self) -> &NodeObject {
        &self.object
    }

    /// The pods on it, assumed ones included, in no particular order.
    pub fn pods(&self) -> &[Arc<PodInfo>] {
        &self.pods
    }

    /// Those of them that have pod affinity or anti-affinity, in no particular order.
    pub fn pods_with_affinity(&self) -> &[Arc<PodInfo>] {
        &self.pods_with_affinity
    }

    /// How many pods are on it.
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// What its pods ask for.
    pub fn requested(&self) -> &Resources {
        &self.requested
    }

    /// What its pods ask for, with a minimum for each container; see [`PodInfo::placed_nonzero`].
    pub fn requested_nonzero(&self) -> &Resources {
        &self.requested_nonzero
    }

    /// `status.allocatable`, without `pods`. Negative amounts count as zero.
    pub fn allocatable(&self) -> &Resources {
        &self.allocatable
    }

    /// `status.allocatable.pods`.
    pub fn allowed_pods(&self) -> i64 {
        self.allowed_pods
    }

    /// The host ports that its pods use.
    pub fn used_ports(&self) -> &[HostPort] {
        &self.used_ports
    }

    /// `spec.taints`.
    pub fn taints(&self) -> &[Taint] {
        &self.taints
    }

    /// `spec.unschedulable`.
    pub fn is_unschedulable(&self) -> bool {
        self.unschedulable
    }

    /// Whether the node reports an image of this name.
    pub fn has_image(&self, name: &str) -> bool {
        self.image_names.contains(name)
    }

    /// Grows with every change; no two states of the cluster have the same.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// The object changed; the pods stay.
    pub(super) fn set_object(&mut self, object: NodeObject) {
        let node = object.rest();
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        self.allocatable = not_negative(Resources::from_list(allocatable));
        self.allowed_pods = self.allocatable.scalar.remove(PODS).unwrap_or(0);
        if self.allocatable.scalar.is_empty() {
            // A map that had something keeps room for more.
            self.allocatable.scalar = BTreeMap::default();
        }
        if !images::same(Some(self.object.rest()), Some(node)) {
            let names = images::names(Some(node)).map(|(name, _)| Box::from(name));
            self.image_names = Arc::new(names.collect());
        }
        let spec = node.spec.as_ref();
        self.unschedulable = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
        let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        if *self.taints != *taints {
            self.taints = Arc::from(taints);
        }
        self.object = object;
    }

    /// Puts a pod on the node.
    pub fn add_pod(&mut self, info: Arc<PodInfo>) {
        add(&mut self.requested, &info.requests, 1);
        add(&mut self.requested_nonzero, info.placed_nonzero(), 1);
        self.use_ports(&info.host_ports);
        if !info.affinity().is_empty() {
            self.pods_with_affinity.push(Arc::clone(&info));
        }
        self.pods.push(info);
    }

    /// Reads what a pod that comes changes; the answer says nothing.
    #[inline]
    pub(super) fn glance(&self) -> u64 {
        let last = self.pods.last().map_or(0, |pod| Arc::as_ptr(pod).addr() as u64);
        self.generation ^ self.requested_nonzero.memory_bytes.cast_unsigned() ^ last
    }

    /// As [`NodeInfo::add_pod`] for a pod without affinity that asks for what its template says.
    pub(super) fn add_pod_of(&mut self, info: Arc<PodInfo>, template: &Template) {
        add(&mut self.requested, &template.requests, 1);
        add(&mut self.requested_nonzero, &template.requests_nonzero, 1);
        self.use_ports(&template.host_ports);
        self.pods.push(info);
    }

    /// Few pods have any, and where there are none nothing of the node is read.
    #[inline]
    fn use_ports(&mut self, ports: &[HostPort]) {
        if !ports.is_empty() {
            self.used_ports.extend_from_slice(ports);
        }
    }

    /// Takes a pod from the node; returns whether it was there.
    pub fn remove_pod(&mut self, uid: &PodUid) -> bool {
        // From the end: mostly it is one that came just now, and a node may have thousands.
        let Some(at) = self.pods.iter().rposition(|pod| pod.uid == *uid) else { return false };
        let info = self.pods.swap_remove(at);
        self.pods_with_affinity.retain(|pod| !Arc::ptr_eq(pod, &info));
        add(&mut self.requested, &info.requests, -1);
        add(&mut self.requested_nonzero, info.placed_nonzero(), -1);
        for port in &info.host_ports {
            if let Some(at) = self.used_ports.iter().position(|used| used == port) {
                self.used_ports.swap_remove(at);
            }
        }
        true
    }
}

/// Adds `sign` times `more`. Sums wrap like Go's, so that taking away restores what was.
fn add(total: &mut Resources, more: &Resources, sign: i64) {
    let sum = |a: i64, b: i64| a.wrapping_add(b.wrapping_mul(sign));
    total.milli_cpu = sum(total.milli_cpu, more.milli_cpu);
    total.memory_bytes = sum(total.memory_bytes, more.memory_bytes);
    total.ephemeral_storage_bytes =
        sum(total.ephemeral_storage_bytes, more.ephemeral_storage_bytes);
    for (name, value) in &more.scalar {
        match total.scalar.get_mut(name) {
            Some(entry) => *entry = sum(*entry, *value),
            None => {
                total.scalar.insert(name.clone(), value.wrapping_mul(sign));
            }
        }
    }
}
