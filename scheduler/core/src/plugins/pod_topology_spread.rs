//! PodTopologySpread: keeps the pods that a constraint selects spread over the values of a topology
//! label.
//!
//! Terms: a *domain* is one value of the constraint's `topologyKey`. DoNotSchedule refuses a node if
//! with the pod its domain would hold more than `maxSkew` above the emptiest domain (0 if there are
//! fewer than `minDomains`). ScheduleAnyway scores: a domain with `n` matching pods costs
//! `n * ln(domains + 2) + maxSkew - 1`, which gives constraints with few domains their say.
//! Domains are those of nodes that have all keys of the pod's constraints and that its
//! `nodeAffinityPolicy` and `nodeTaintsPolicy` include.
//!
//! Constraints that the configuration gives to pods without any (`defaultConstraints`) are not here.

mod constraint;
#[cfg(test)]
mod tests;

use rustc_hash::FxHashMap;

use crate::cache::{NodeInfo, Snapshot};
use crate::framework::{
    Action, ClusterEvent, Hint, MAX_NODE_SCORE, NodeFilter, NodeScore, Occurrence, Plugin,
    PluginName, PreFilter, PreScore, Rejection, Resource, Subject, Verdict,
};
use crate::pod::PodInfo;

use constraint::{Constraint, DO_NOT_SCHEDULE, SCHEDULE_ANYWAY, has_all_keys};

/// Domains of this key are single nodes, and their pods are counted when the node is scored.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct PodTopologySpread;

impl Plugin for PodTopologySpread {
    fn name(&self) -> PluginName {
        PluginName::PodTopologySpread
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> PreFilter<'a> {
        let constraints = match Constraint::all(pod, DO_NOT_SCHEDULE) {
            Ok(constraints) if constraints.is_empty() => return PreFilter::Skip,
            Ok(constraints) => constraints,
            Err(error) => {
                let reason = format!("obtaining pod's hard topology spread constraints: {error}");
                return PreFilter::Reject(Rejection::unresolvable(reason));
            }
        };
        let counts = count_by_domain(pod, &constraints, snapshot);
        let limit = |(constraint, counts): (Constraint, Counts)| Limit {
            is_selected: constraint.selects(pod),
            lowest: constraint.lowest(&counts),
            constraint,
            counts,
        };
        let limits = constraints.into_iter().zip(counts).map(limit).collect();
        PreFilter::every_node(Filter { limits })
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
        feasible: &[usize],
    ) -> PreScore<'a> {
        // A selector that does not parse was refused by PreFilter or counts for nothing.
        let constraints = Constraint::all(pod, SCHEDULE_ANYWAY).unwrap_or_default();
        if constraints.is_empty() {
            return PreScore::Skip;
        }
        PreScore::each(Score::new(pod, constraints, snapshot, feasible))
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const {
            let pod = Action::ADD.or(Action::DELETE).or(Action::UPDATE_POD_LABEL);
            let node = Action::ADD.or(Action::DELETE).or(Action::UPDATE_NODE_LABEL);
            &[
                ClusterEvent::new(Resource::AssignedPod, pod),
                ClusterEvent::new(Resource::TargetPod, Action::UPDATE_POD_LABEL),
                ClusterEvent::new(Resource::Node, node.or(Action::UPDATE_NODE_TAINT)),
            ]
        }
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, _snapshot: &Snapshot) -> Hint {
        let Ok(constraints) = Constraint::all(pod, DO_NOT_SCHEDULE) else { return Hint::Queue };
        match &occurrence.subject {
            Subject::Pod(old, new) => {
                let concerns = |other: &std::sync::Arc<PodInfo>| {
                    other.uid == pod.uid
                        || (other.namespace() == pod.namespace()
                            && constraints.iter().any(|c| c.selects(other)))
                };
                Hint::queue_if([old, new].into_iter().flatten().any(concerns))
            }
            Subject::Node(old, new) => {
                let mut sides = [old, new].into_iter().flatten();
                Hint::queue_if(sides.any(|node| has_all_keys(&constraints, node)))
            }
            Subject::None | Subject::Object(_) => Hint::Queue,
        }
    }
}

/// Matching pods by domain.
type Counts = FxHashMap<Box<str>, i64>;

/// For each constraint the pods it selects, by domain. Domains without a pod are there with 0.
fn count_by_domain(pod: &PodInfo, constraints: &[Constraint], snapshot: &Snapshot) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); constraints.len()];
    for node in snapshot.nodes() {
        if !has_all_keys(constraints, node.node()) {
            continue;
        }
        for (constraint, counts) in constraints.iter().zip(&mut counts) {
            if constraint.includes(pod, node) {
                let domain = constraint.domain(node).unwrap_or_default();
                *counts.entry(domain.into()).or_default() += constraint.count(pod, node);
            }
        }
    }
    counts
}

/// A DoNotSchedule constraint with what it measures against.
struct Limit {
    constraint: Constraint,
    counts: Counts,
    lowest: i64,
    /// Whether the pod itself would count.
    is_selected: bool,
}

struct Filter {
    limits: Vec<Limit>,
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        for limit in &self.limits {
            let Some(domain) = limit.constraint.domain(node) else {
                let reason = "node(s) didn't match pod topology spread constraints (missing \
                              required label)";
                return Err(Rejection::unresolvable(reason));
            };
            let count = limit.counts.get(domain).copied().unwrap_or(0);
            let skew = count + i64::from(limit.is_selected) - limit.lowest;
            if skew > i64::from(limit.constraint.max_skew) {
                let reason = "node(s) didn't match pod topology spread constraints";
                return Err(Rejection::unschedulable(reason));
            }
        }
        Ok(())
    }
}

struct Score<'a> {
    pod: &'a PodInfo,
    constraints: Vec<Constraint>,
    /// Empty for constraints by hostname.
    counts: Vec<Counts>,
    /// `ln(domains + 2)` of each constraint.
    weights: Vec<f64>,
    /// Of the feasible nodes in order: whether it lacks a key.
    ignored: Vec<bool>,
}

impl<'a> Score<'a> {
    #[expect(clippy::cast_precision_loss, reason = "math.Log(float64(size + 2)), as in Go")]
    fn new(
        pod: &'a PodInfo,
        constraints: Vec<Constraint>,
        snapshot: &Snapshot,
        feasible: &[usize],
    ) -> Self {
        let mut counts = vec![Counts::default(); constraints.len()];
        let mut ignored = Vec::with_capacity(feasible.len());
        for node in feasible.iter().map(|&node| &snapshot.nodes()[node]) {
            ignored.push(!has_all_keys(&constraints, node.node()));
            if ignored.last() == Some(&true) {
                continue;
            }
            for (constraint, counts) in not_by_hostname(&constraints, &mut counts) {
                counts.entry(constraint.domain(node).unwrap_or_default().into()).or_default();
            }
        }
        let by_hostname = ignored.iter().filter(|ignored| !**ignored).count();
        let weigh = |(constraint, counts): (&Constraint, &Counts)| {
            let size = if constraint.key == HOSTNAME { by_hostname } else { counts.len() };
            ((size + 2) as f64).ln()
        };
        let weights = constraints.iter().zip(&counts).map(weigh).collect();
        for node in snapshot.nodes().iter().filter(|n| has_all_keys(&constraints, n.node())) {
            for (constraint, counts) in not_by_hostname(&constraints, &mut counts) {
                // Domains without a feasible node do not matter.
                let domain = constraint.domain(node).unwrap_or_default();
                if constraint.includes(pod, node)
                    && let Some(count) = counts.get_mut(domain)
                {
                    *count += constraint.count(pod, node);
                }
            }
        }
        Self { pod, constraints, counts, weights, ignored }
    }
}

fn not_by_hostname<'a>(
    constraints: &'a [Constraint],
    counts: &'a mut [Counts],
) -> impl Iterator<Item = (&'a Constraint, &'a mut Counts)> {
    constraints.iter().zip(counts).filter(|(constraint, _)| constraint.key != HOSTNAME)
}

impl NodeScore for Score<'_> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "int64(math.Round(score)) of float64(count)*weight + float64(maxSkew-1), as in Go"
    )]
    fn score(&self, node: &NodeInfo) -> i64 {
        if !has_all_keys(&self.constraints, node.node()) {
            return 0;
        }
        let mut score = 0.0;
        for ((constraint, counts), weight) in
            self.constraints.iter().zip(&self.counts).zip(&self.weights)
        {
            let Some(domain) = constraint.domain(node) else { continue };
            let count = if constraint.key == HOSTNAME {
                constraint.count(self.pod, node)
            } else {
                counts.get(domain).copied().unwrap_or(0)
            };
            score += count as f64 * weight + f64::from(constraint.max_skew.saturating_sub(1));
        }
        f64::round(score) as i64
    }

    /// The cheapest domain scores 100; nodes that lack a key score 0.
    fn normalize(&self, scores: &mut [i64]) {
        let counted = || scores.iter().zip(&self.ignored).filter(|(_, ignored)| !**ignored);
        let lowest = counted().map(|(score, _)| *score).min().unwrap_or(0);
        let highest = counted().map(|(score, _)| *score).max().unwrap_or(0).max(0);
        for (score, ignored) in scores.iter_mut().zip(&self.ignored) {
            *score = match (ignored, highest) {
                (true, _) => 0,
                (false, 0) => MAX_NODE_SCORE,
                (false, _) => MAX_NODE_SCORE * (highest + lowest - *score) / highest,
            };
        }
    }
}
