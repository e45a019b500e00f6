//! InterPodAffinity: keeps pods with, or away from, the pods that their affinity selects.
//!
//! Terms: a *term* selects pods by labels and namespaces, and has a topology key; the *domain* of a
//! node for a term is its label of that key. Required affinity wants pods in the node's domains that
//! match all its terms; required anti-affinity refuses a domain with a pod that one of its terms
//! matches, and so does the anti-affinity of pods that are there already. Preferred terms add their
//! weight to every domain that holds a matching pod, once for each such pod.
//!
//! The first pod of a series that wants to be with its like may go anywhere its keys are: no pod
//! matches all the terms yet, and it matches them itself.

mod count;
mod hint;
mod score;
#[cfg(test)]
mod tests;
mod topology;

use std::any::Any;

use crate::cache::{NodeInfo, Snapshot};
use crate::framework::{
    ClusterEvent, Hint, NodeFilter, Occurrence, Plugin, PluginName, PreFilter, PreScore, Rejection,
    Verdict,
};
use crate::pod::PodInfo;

pub use count::{Counts, Reach};
pub(crate) use count::{matches_all, namespace_labels};
pub(crate) use score::normalize;
pub use topology::{ByDomain, label};

/// The plugin, with `InterPodAffinityArgs`.
#[derive(Clone, Copy, Debug)]
pub struct InterPodAffinity {
    /// What a required affinity term of a pod that is there already adds to the domain, 0..=100.
    pub hard_pod_affinity_weight: i32,
    /// Whether only pods that have preferred terms themselves are scored.
    pub ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for InterPodAffinity {
    fn default() -> Self {
        Self { hard_pod_affinity_weight: 1, ignore_preferred_terms_of_existing_pods: false }
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> PluginName {
        PluginName::InterPodAffinity
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> PreFilter<'a> {
        if let Some(rejection) = unparsable(pod) {
            return PreFilter::Reject(rejection);
        }
        match Filter::new(pod, Counts::scan(pod, snapshot)) {
            Some(filter) => PreFilter::every_node(filter),
            None => PreFilter::Skip,
        }
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
        _feasible: &[usize],
    ) -> PreScore<'a> {
        let domains = score::scan(self, pod, snapshot);
        if domains.is_empty() { PreScore::Skip } else { PreScore::each(score::Score { domains }) }
    }

    fn events(&self) -> &'static [ClusterEvent] {
        hint::EVENTS
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, snapshot: &Snapshot) -> Hint {
        hint::hint(pod, occurrence, snapshot)
    }
}

/// Refuses pods with a selector that does not parse.
fn unparsable(pod: &PodInfo) -> Option<Rejection> {
    let message = match pod.affinity().errors.as_slice() {
        [] => return None,
        [one] => format!("parsing pod: {one}"),
        many => format!("parsing pod: [{}]", many.join(", ")),
    };
    Some(Rejection::unresolvable(message))
}

/// The filter for one pod, however its counts were come by.
pub struct Filter<'a> {
    pod: &'a PodInfo,
    counts: Counts,
    is_first_of_series: bool,
}

impl<'a> Filter<'a> {
    /// `None` if no node will be refused.
    pub fn new(pod: &'a PodInfo, counts: Counts) -> Option<Self> {
        let terms = pod.affinity();
        if counts.existing_anti.is_empty()
            && terms.required.is_empty()
            && terms.required_anti.is_empty()
        {
            return None;
        }
        let is_first_of_series = counts.affinity.is_empty() && counts.selects_itself;
        Some(Self { pod, counts, is_first_of_series })
    }

    fn has_affine_pods(&self, node: &NodeInfo) -> bool {
        let mut pods_exist = true;
        for term in &self.pod.affinity().required {
            let key = &term.topology_key;
            let Some(value) = label(node.node(), key) else { return false };
            pods_exist &= self.counts.affinity.get(key, value) > 0;
        }
        pods_exist || self.is_first_of_series
    }

    fn has_pods_to_avoid(&self, node: &NodeInfo) -> bool {
        self.counts.anti.of_node(node.node()).any(|count| count > 0)
    }

    fn is_avoided(&self, node: &NodeInfo) -> bool {
        self.counts.existing_anti.of_node(node.node()).any(|count| count > 0)
    }
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if !self.has_affine_pods(node) {
            return Err(Refusal::Wanted.rejection());
        }
        if self.has_pods_to_avoid(node) {
            return Err(Refusal::Avoided.rejection());
        }
        if self.is_avoided(node) {
            return Err(Refusal::Existing.rejection());
        }
        Ok(())
    }
}

/// Why a node is refused, the first first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    /// It lacks pods that the pod wants.
    Wanted,
    /// It has pods that the pod avoids.
    Avoided,
    /// It has pods that avoid the pod.
    Existing,
}

impl Refusal {
    pub(crate) fn rejection(self) -> Rejection {
        match self {
            Self::Wanted => Rejection::unresolvable("node(s) didn't match pod affinity rules"),
            Self::Avoided => {
                Rejection::unschedulable("node(s) didn't match pod anti-affinity rules")
            }
            Self::Existing => {
                let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
                Rejection::unschedulable(reason)
            }
        }
    }
}
