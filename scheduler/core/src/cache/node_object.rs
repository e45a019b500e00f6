//! The objects of nodes, kept once as far as nodes are alike.
//!
//! What is a node's own is its name, labels, version and what else of its metadata tells it apart.
//! The rest, its spec and status above all, is its *likeness*. Nodes that are alike in that share it;
//! one like no other keeps its object as it came.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rustc_hash::{FxHashMap, FxHasher};

/// A node's object.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeObject {
    /// Without what is in the likeness, if there is one.
    own: Arc<Node>,
    likeness: Option<Arc<Node>>,
}

impl NodeObject {
    /// An object that is not shared.
    pub(super) fn own(node: Arc<Node>) -> Self {
        Self { own: node, likeness: None }
    }

    /// With the node's name and labels; the rest may be missing.
    pub(super) fn identity(&self) -> &Arc<Node> {
        &self.own
    }

    /// With the node's spec and status; its name and labels may be missing.
    pub(super) fn rest(&self) -> &Node {
        self.likeness.as_deref().unwrap_or(&self.own)
    }

    /// All of it.
    pub(super) fn whole(&self) -> Cow<'_, Node> {
        let Some(likeness) = &self.likeness else { return Cow::Borrowed(&self.own) };
        let mut node = Node::clone(likeness);
        let shared = std::mem::replace(&mut node.metadata, self.own.metadata.clone());
        put(&mut node.metadata, shared);
        Cow::Owned(node)
    }
}

/// The known likenesses, by a hash of some of what they are about.
#[derive(Debug, Default)]
pub(super) struct NodeLikenesses {
    by_hash: FxHashMap<u64, Vec<Arc<Node>>>,
    count: usize,
}

/// More than so many with one hash are not kept, so that a node is not compared with all before it.
const SAME_HASH_MAX: usize = 4;

/// More than so many are not kept: then all are forgotten. Nodes that are there keep theirs.
const LIKENESSES_MAX: usize = 1024;

impl NodeLikenesses {
    /// The object, sharing what is known of nodes like it.
    pub(super) fn share(&mut self, node: Arc<Node>) -> NodeObject {
        if self.count >= LIKENESSES_MAX {
            *self = Self::default();
        }
        let known = self.by_hash.entry(hash(&node)).or_default();
        if let Some(likeness) = known.iter().find(|known| is_alike(known, &node)) {
            let mut metadata = node.metadata.clone();
            take(&mut metadata);
            let own = Arc::new(Node { metadata, ..Node::default() });
            return NodeObject { own, likeness: Some(Arc::clone(likeness)) };
        }
        let metadata = take(&mut node.metadata.clone());
        let (spec, status) = (node.spec.clone(), node.status.clone());
        if known.len() == SAME_HASH_MAX {
            known.remove(0);
            self.count -= 1;
        }
        known.push(Arc::new(Node { metadata, spec, status }));
        self.count += 1;
        NodeObject::own(node)
    }
}

/// Takes out of the metadata what nodes that are alike have in common.
fn take(metadata: &mut ObjectMeta) -> ObjectMeta {
    let mut shared = ObjectMeta::default();
    let ObjectMeta { annotations, finalizers, managed_fields, owner_references, .. } = metadata;
    std::mem::swap(annotations, &mut shared.annotations);
    std::mem::swap(finalizers, &mut shared.finalizers);
    std::mem::swap(managed_fields, &mut shared.managed_fields);
    std::mem::swap(owner_references, &mut shared.owner_references);
    shared
}

/// Puts back what [`take`] took.
fn put(metadata: &mut ObjectMeta, shared: ObjectMeta) {
    let ObjectMeta { annotations, finalizers, managed_fields, owner_references, .. } = shared;
    metadata.annotations = annotations;
    metadata.finalizers = finalizers;
    metadata.managed_fields = managed_fields;
    metadata.owner_references = owner_references;
}

fn hash(node: &Node) -> u64 {
    let mut hasher = FxHasher::default();
    if let Some(status) = &node.status {
        for (name, amount) in status.allocatable.iter().flatten() {
            (name, &amount.0).hash(&mut hasher);
        }
        let info = status.node_info.as_ref();
        info.map(|info| (&info.machine_id, &info.boot_id)).hash(&mut hasher);
        status.images.as_ref().map(Vec::len).hash(&mut hasher);
        for condition in status.conditions.iter().flatten() {
            let beat = condition.last_heartbeat_time.as_ref().map(|time| time.0.as_second());
            (&condition.type_, &condition.status, beat).hash(&mut hasher);
        }
    }
    let spec = node.spec.as_ref();
    spec.map(|spec| (&spec.pod_cidr, &spec.provider_id, spec.unschedulable)).hash(&mut hasher);
    hasher.finish()
}

/// Whether a likeness is that of the node.
fn is_alike(likeness: &Node, node: &Node) -> bool {
    let (a, b) = (&likeness.metadata, &node.metadata);
    a.annotations == b.annotations
        && a.finalizers == b.finalizers
        && a.managed_fields == b.managed_fields
        && a.owner_references == b.owner_references
        && likeness.spec == node.spec
        && likeness.status == node.status
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing;

    fn node(value: serde_json::Value) -> Arc<Node> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    proptest! {
        #[test]
        fn a_shared_node_is_the_node(
            nodes in proptest::collection::vec(testing::node("n".to_owned()), 1..5),
            repeated in proptest::collection::vec(0..5_usize, 1..20),
        ) {
            let mut likenesses = NodeLikenesses::default();
            for (number, at) in repeated.into_iter().enumerate() {
                let mut node = Node::clone(&nodes[at % nodes.len()]);
                node.metadata.name = Some(format!("n{number}"));
                node.metadata.resource_version = Some(number.to_string());
                node.metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
                let object = likenesses.share(Arc::new(node.clone()));
                let whole = object.whole();
                prop_assert_eq!(whole.as_ref(), &node);
                prop_assert_eq!(&object.identity().metadata.name, &node.metadata.name);
                prop_assert_eq!(&object.identity().metadata.labels, &node.metadata.labels);
                prop_assert_eq!(&object.rest().status, &node.status);
                prop_assert_eq!(&object.rest().spec, &node.spec);
            }
        }
    }

    #[test]
    fn nodes_that_are_alike_share_and_others_do_not() {
        let named = |name: &str, cpu: &str| {
            node(json!({"metadata": {"name": name, "labels": {"host": name}},
                "status": {"allocatable": {"cpu": cpu}}}))
        };
        let mut likenesses = NodeLikenesses::default();
        let mut likeness = |node| likenesses.share(node).likeness;
        assert!(likeness(named("a", "1")).is_none(), "the first keeps its object");
        let (b, c) = (likeness(named("b", "1")).unwrap(), likeness(named("c", "1")).unwrap());
        assert!(Arc::ptr_eq(&b, &c));
        assert!(likeness(named("d", "2")).is_none());
    }

    #[test]
    fn likenesses_are_bounded() {
        let mut likenesses = NodeLikenesses::default();
        for number in 0..100 {
            let annotations = json!({"a": number.to_string()});
            likenesses.share(node(json!({"metadata": {"annotations": annotations}})));
        }
        assert_eq!((likenesses.count, likenesses.by_hash.len()), (SAME_HASH_MAX, 1));
        for number in 0..LIKENESSES_MAX + 9 {
            let allocatable = json!({"cpu": number.to_string()});
            likenesses.share(node(json!({"metadata": {}, "status": {"allocatable": allocatable}})));
        }
        assert!(likenesses.count <= LIKENESSES_MAX);
    }
}
