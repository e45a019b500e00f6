//! A topology spread constraint, with its defaults filled in.

use k8s_openapi::api::core::v1::{Node, TopologySpreadConstraint};
use pintle_api::labels::{Selector, SelectorError};
use pintle_api::node_affinity;

use crate::cache::NodeInfo;
use crate::plugins::taints;
use crate::pod::PodInfo;

/// `whenUnsatisfiable` of constraints that filter.
pub(super) const DO_NOT_SCHEDULE: &str = "DoNotSchedule";
/// `whenUnsatisfiable` of constraints that score.
pub(super) const SCHEDULE_ANYWAY: &str = "ScheduleAnyway";

/// A constraint.
#[derive(Clone, Debug)]
pub struct Constraint {
    /// The label whose values are the domains.
    pub key: Box<str>,
    /// How much fuller than the emptiest domain one may be.
    pub max_skew: i32,
    /// Which pods are spread: `labelSelector`, with the pod's own labels of `matchLabelKeys`.
    pub selector: Selector,
    /// With fewer domains, skew is measured from zero.
    pub min_domains: i32,
    /// Whether only nodes that the pod's selector and affinity allow make up domains.
    pub honors_affinity: bool,
    /// Whether only nodes whose taints the pod tolerates make up domains.
    pub honors_taints: bool,
}

impl Constraint {
    /// Those of the constraints that are of one kind, for a pod.
    pub(super) fn all(
        pod: &PodInfo,
        constraints: &[TopologySpreadConstraint],
        kind: &str,
    ) -> Result<Vec<Self>, SelectorError> {
        let of_kind = constraints.iter().filter(|c| c.when_unsatisfiable == kind);
        of_kind.map(|constraint| Self::new(pod, constraint)).collect()
    }

    fn new(pod: &PodInfo, constraint: &TopologySpreadConstraint) -> Result<Self, SelectorError> {
        let keys = constraint.match_label_keys.as_deref().unwrap_or_default();
        let labels = pod.pod.metadata.labels.iter().flatten();
        let own = Selector::from_labels(labels.filter(|(key, _)| keys.contains(key)));
        Ok(Self {
            key: constraint.topology_key.as_str().into(),
            max_skew: constraint.max_skew,
            selector: Selector::try_from(constraint.label_selector.as_ref())?.and(own),
            min_domains: constraint.min_domains.unwrap_or(1),
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        })
    }

    /// The node's domain; `None` if it lacks the key.
    pub(super) fn domain<'a>(&self, node: &'a NodeInfo) -> Option<&'a str> {
        label(node.node(), &self.key)
    }

    /// Whether the policies let the node count for this pod.
    pub(crate) fn includes(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        includes(self.honors_affinity, self.honors_taints, pod, node)
    }

    /// Whether `other` is a pod to be spread.
    pub(crate) fn selects(&self, other: &PodInfo) -> bool {
        self.selector.matches(&other.pod.metadata.labels)
    }

    /// How many pods on the node, of the pod's namespace and not being deleted, are to be spread. A
    /// selector without any condition counts none, though it selects the pod itself.
    pub(crate) fn count(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        if self.selector.is_everything() {
            return 0;
        }
        let counts = |other: &&std::sync::Arc<PodInfo>| {
            !other.is_terminating() && other.namespace() == pod.namespace() && self.selects(other)
        };
        i64::try_from(node.pods().iter().filter(counts).count()).unwrap_or(i64::MAX)
    }

    /// What skew is measured from: the count of the emptiest domain, or 0 if there are too few.
    pub(crate) fn lowest(&self, counts: impl Iterator<Item = i64>) -> i64 {
        let (mut domains, mut lowest) = (0_usize, i64::from(i32::MAX));
        for count in counts {
            domains += 1;
            lowest = lowest.min(count);
        }
        if domains < usize::try_from(self.min_domains).unwrap_or(0) { 0 } else { lowest }
    }
}

/// Whether the policies let the node count for this pod.
pub(crate) fn includes(
    honors_affinity: bool,
    honors_taints: bool,
    pod: &PodInfo,
    node: &NodeInfo,
) -> bool {
    (!honors_affinity || node_affinity::required_matches(&pod.pod, node.node()))
        && !(honors_taints && taints::keep_off(node.taints(), pod))
}

/// Whether the node has the keys of all constraints.
pub(super) fn has_all_keys(constraints: &[Constraint], node: &Node) -> bool {
    constraints.iter().all(|constraint| label(node, &constraint.key).is_some())
}

/// The node's label of this key.
pub(super) fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}
