//! The preference of nodes by the pods in their domains.

use super::count::{Reach, namespace_labels};
use super::{ByDomain, InterPodAffinity};
use crate::cache::{NodeInfo, Snapshot};
use crate::framework::{MAX_NODE_SCORE, NodeScore};
use crate::pod::{PodInfo, WeightedTerm};

/// What each domain is worth to the pod; empty if no term says anything about any domain.
pub(super) fn scan(plugin: &InterPodAffinity, pod: &PodInfo, snapshot: &Snapshot) -> ByDomain {
    let terms = pod.affinity();
    let mut domains = ByDomain::default();
    let has_preferences = !terms.preferred.is_empty() || !terms.preferred_anti.is_empty();
    let ignored = plugin.ignore_preferred_terms_of_existing_pods;
    if !has_preferences && (ignored || snapshot.pods_with_affinity() == 0) {
        return domains;
    }
    let near = weighted(&terms.preferred, snapshot);
    let far = weighted(&terms.preferred_anti, snapshot);
    let labels = namespace_labels(pod, snapshot);
    let hard_weight = plugin.hard_pod_affinity_weight;
    for node in snapshot.nodes() {
        let others = if has_preferences { node.pods() } else { node.pods_with_affinity() };
        for other in others {
            let mut add = |key: &str, weight: i32| domains.add(node.node(), key, weight.into());
            for (reach, weight) in near.iter().filter(|(reach, _)| reach.matches(other)) {
                add(&reach.term.topology_key, *weight);
            }
            for (reach, weight) in far.iter().filter(|(reach, _)| reach.matches(other)) {
                add(&reach.term.topology_key, weight.wrapping_neg());
            }
            let theirs = other.affinity();
            if hard_weight > 0 {
                for term in theirs.required.iter().filter(|term| term.matches(pod, labels)) {
                    add(&term.topology_key, hard_weight);
                }
            }
            for WeightedTerm { term, weight } in &theirs.preferred {
                if term.matches(pod, labels) {
                    add(&term.topology_key, *weight);
                }
            }
            for WeightedTerm { term, weight } in &theirs.preferred_anti {
                if term.matches(pod, labels) {
                    add(&term.topology_key, weight.wrapping_neg());
                }
            }
        }
    }
    domains
}

fn weighted<'a>(terms: &'a [WeightedTerm], snapshot: &'a Snapshot) -> Vec<(Reach<'a>, i32)> {
    terms.iter().map(|t| (Reach::new(&t.term, snapshot), t.weight)).collect()
}

/// The score for one pod, however its domains were come by.
pub(super) struct Score {
    /// What each domain is worth.
    pub(super) domains: ByDomain,
}

impl NodeScore for Score {
    fn score(&self, node: &NodeInfo) -> i64 {
        self.domains.of_node(node.node()).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize(scores);
    }
}

/// From the worst feasible node, 0, to the best, 100; all 0 if they are alike.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "int64(100 * (float64(score-min) / float64(max-min))), as in Go"
)]
pub(crate) fn normalize(scores: &mut [i64]) {
    let lowest = scores.iter().copied().min().unwrap_or(0);
    let highest = scores.iter().copied().max().unwrap_or(0);
    let spread = highest - lowest;
    for score in scores {
        let share = (*score - lowest) as f64 / spread as f64;
        *score = if spread > 0 { (MAX_NODE_SCORE as f64 * share) as i64 } else { 0 };
    }
}
