//! What may let a pod in that InterPodAffinity refused.
//!
//! Upstream's hints look only at the pod's own terms, and not at namespace selectors: there a pod
//! that the anti-affinity of others refused waits for the flush after five minutes. Here whatever
//! changes the counts in the pod's favour wakes it.

use k8s_openapi::api::core::v1::{Namespace, Node};
use pintle_api::labels::Selector;

use super::count::{Reach, matches_all, namespace_labels};
use super::label;
use crate::cache::{Object, Snapshot};
use crate::framework::{Action, ClusterEvent, Hint, Occurrence, Resource, Subject};
use crate::pod::PodInfo;

pub(super) const EVENTS: &[ClusterEvent] = {
    let pod = Action::ADD.or(Action::UPDATE_POD_LABEL).or(Action::DELETE);
    let node = Action::ADD.or(Action::UPDATE_NODE_LABEL);
    &[
        ClusterEvent::new(Resource::AssignedPod, pod),
        ClusterEvent::new(Resource::TargetPod, Action::UPDATE_POD_LABEL),
        ClusterEvent::new(Resource::Node, node),
        ClusterEvent::new(Resource::Namespace, Action::ADD.or(Action::UPDATE)),
    ]
};

pub(super) fn hint(pod: &PodInfo, occurrence: &Occurrence, snapshot: &Snapshot) -> Hint {
    match &occurrence.subject {
        Subject::Pod(old, new) => after_pod(pod, old.as_deref(), new.as_deref(), snapshot),
        Subject::Node(old, Some(new)) => after_node(pod, old.as_deref(), new),
        Subject::Object(Object::Namespace(old, new)) => {
            after_namespace(pod, old.as_deref(), new.as_deref())
        }
        _ => Hint::Queue,
    }
}

fn after_pod(
    pod: &PodInfo,
    old: Option<&PodInfo>,
    new: Option<&PodInfo>,
    snapshot: &Snapshot,
) -> Hint {
    if old.or(new).is_some_and(|other| other.uid == pod.uid) {
        return Hint::Queue;
    }
    let relation = |other: Option<&PodInfo>| {
        other.map_or_else(Relation::default, |other| Relation::new(pod, other, snapshot))
    };
    let (old, new) = (relation(old), relation(new));
    // A pod less may also make this one the first of its series.
    let hated_less = old.hated.iter().zip(&new.hated).any(|(old, new)| *old && !*new);
    let hated_less = hated_less || (new.hated.is_empty() && old.hated.contains(&true));
    Hint::queue_if(old.is_wanted != new.is_wanted || hated_less)
}

/// How another pod counts for the pod.
#[derive(Default)]
struct Relation {
    /// It matches all the required affinity terms.
    is_wanted: bool,
    /// For each of the pod's anti-affinity terms whether it matches; and last whether one of its own
    /// is about the pod.
    hated: Vec<bool>,
}

impl Relation {
    fn new(pod: &PodInfo, other: &PodInfo, snapshot: &Snapshot) -> Self {
        let labels = namespace_labels(pod, snapshot);
        let required = Reach::all(&pod.affinity().required, snapshot);
        let anti = Reach::all(&pod.affinity().required_anti, snapshot);
        let mut hated: Vec<bool> = anti.iter().map(|reach| reach.matches(other)).collect();
        let theirs = &other.affinity().required_anti;
        hated.push(theirs.iter().any(|term| term.matches(pod, labels)));
        Self { is_wanted: matches_all(&required, other), hated }
    }
}

/// A new node helps if it is in all the domains that the pod wants; a label that changed may move
/// pods into or out of domains.
fn after_node(pod: &PodInfo, old: Option<&Node>, new: &Node) -> Hint {
    let Some(old) = old else {
        let mut wanted = pod.affinity().required.iter();
        return Hint::queue_if(wanted.all(|term| label(new, &term.topology_key).is_some()));
    };
    Hint::queue_if(old.metadata.labels != new.metadata.labels)
}

fn after_namespace(pod: &PodInfo, old: Option<&Namespace>, new: Option<&Namespace>) -> Hint {
    let labels = |namespace: Option<&Namespace>| {
        namespace.and_then(|namespace| namespace.metadata.labels.clone())
    };
    let name = old.or(new).and_then(|namespace| namespace.metadata.name.as_deref());
    let (old, new) = (labels(old), labels(new));
    let is_own = name == Some(pod.namespace()) && old != new;
    let moves = |selector: &Selector| selector.matches(&old) != selector.matches(&new);
    let terms = pod.affinity();
    let mut terms = terms.required.iter().chain(&terms.required_anti);
    Hint::queue_if(is_own || terms.any(|term| moves(&term.namespace_selector)))
}
