//! PodTopologySpread: keeps the pods that a constraint selects spread over the values of a topology
//! label.
//!
//! Terms: a *domain* is one value of the constraint's `topologyKey`. DoNotSchedule refuses a node if
//! with the pod its domain would hold more than `maxSkew` above the emptiest domain (0 if there are
//! fewer than `minDomains`). ScheduleAnyway scores: a domain with `n` matching pods costs
//! `n * ln(domains + 2) + maxSkew - 1`, which gives constraints with few domains their say.
//! Domains are those of nodes that have all keys of the pod's constraints and that its
//! `nodeAffinityPolicy` and `nodeTaintsPolicy` include.

mod constraint;
mod defaults;
mod hint;
mod score;
#[cfg(test)]
mod tests;

use std::any::Any;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use pintle_api::labels::SelectorError;
use rustc_hash::FxHashMap;

use crate::cache::{NodeInfo, Snapshot};
use crate::framework::{
    ClusterEvent, Hint, NodeFilter, Occurrence, Plugin, PluginName, PreFilter, PreScore, Rejection,
    Verdict,
};
use crate::pod::PodInfo;

use constraint::{DO_NOT_SCHEDULE, SCHEDULE_ANYWAY, has_all_keys};

pub use constraint::Constraint;
pub(crate) use constraint::includes;
pub use defaults::Defaults;
pub(crate) use score::{domain_cost, domain_weight, normalize, rounded};

/// Domains of this key are single nodes.
pub(crate) const HOSTNAME: &str = "kubernetes.io/hostname";

/// The plugin, with `PodTopologySpreadArgs`.
#[derive(Clone, Debug, Default)]
pub struct PodTopologySpread {
    /// The constraints of pods that have none.
    pub defaults: Defaults,
}

impl PodTopologySpread {
    /// The constraints of the pod that filter.
    pub fn hard_constraints(
        &self,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<Vec<Constraint>, SelectorError> {
        self.constraints(pod, snapshot, DO_NOT_SCHEDULE)
    }

    /// The constraints of the pod that score.
    pub fn soft_constraints(
        &self,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<Vec<Constraint>, SelectorError> {
        self.constraints(pod, snapshot, SCHEDULE_ANYWAY)
    }

    /// Whether a node that lacks the key of one of the constraints that score is left out.
    pub fn requires_all_keys(&self, pod: &PodInfo) -> bool {
        !own_constraints(pod).is_empty() || self.defaults.require_all_keys()
    }

    fn constraints(
        &self,
        pod: &PodInfo,
        snapshot: &Snapshot,
        kind: &str,
    ) -> Result<Vec<Constraint>, SelectorError> {
        if let own @ [_, ..] = own_constraints(pod) {
            return Constraint::all(pod, own, kind);
        }
        let mut constraints = Constraint::all(pod, &self.defaults.constraints(), kind)?;
        if constraints.is_empty() {
            return Ok(constraints);
        }
        let selector = defaults::owner_selector(pod, snapshot.objects());
        if selector.is_everything() {
            return Ok(Vec::new());
        }
        constraints.iter_mut().for_each(|constraint| constraint.selector = selector.clone());
        Ok(constraints)
    }
}

fn own_constraints(pod: &PodInfo) -> &[TopologySpreadConstraint] {
    let spec = pod.pod.spec.as_ref();
    spec.and_then(|spec| spec.topology_spread_constraints.as_deref()).unwrap_or_default()
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> PluginName {
        PluginName::PodTopologySpread
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> PreFilter<'a> {
        let constraints = match self.hard_constraints(pod, snapshot) {
            Ok(constraints) if constraints.is_empty() => return PreFilter::Skip,
            Ok(constraints) => constraints,
            Err(error) => {
                let act = match own_constraints(pod) {
                    [] => "setting default hard topology spread constraints",
                    _ => "obtaining pod's hard topology spread constraints",
                };
                return PreFilter::Reject(Rejection::unresolvable(format!("{act}: {error}")));
            }
        };
        let counts = count_by_domain(pod, &constraints, snapshot);
        PreFilter::every_node(Filter::new(pod, constraints, counts))
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
        feasible: &[usize],
    ) -> PreScore<'a> {
        // A selector that does not parse counts for nothing; validation keeps it out.
        let constraints = self.soft_constraints(pod, snapshot).unwrap_or_default();
        if constraints.is_empty() {
            return PreScore::Skip;
        }
        let all_keys = self.requires_all_keys(pod);
        PreScore::each(score::Score::new(pod, constraints, all_keys, snapshot, feasible))
    }

    fn events(&self) -> &'static [ClusterEvent] {
        hint::EVENTS
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, snapshot: &Snapshot) -> Hint {
        hint::hint(self, pod, occurrence, snapshot)
    }
}

/// Matching pods by domain.
pub type Counts = FxHashMap<Box<str>, i64>;

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

/// The filter for one pod, however its counts were come by.
pub struct Filter {
    limits: Vec<Limit>,
}

impl Filter {
    /// Measures a pod by its constraints, each with the counts of its domains.
    pub fn new(pod: &PodInfo, constraints: Vec<Constraint>, counts: Vec<Counts>) -> Self {
        let limit = |(constraint, counts): (Constraint, Counts)| Limit {
            is_selected: constraint.selects(pod),
            lowest: constraint.lowest(counts.values().copied()),
            constraint,
            counts,
        };
        Self { limits: constraints.into_iter().zip(counts).map(limit).collect() }
    }
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        for limit in &self.limits {
            let Some(domain) = limit.constraint.domain(node) else {
                return Err(Refusal::MissingLabel.rejection());
            };
            let count = limit.counts.get(domain).copied().unwrap_or(0);
            let skew = count + i64::from(limit.is_selected) - limit.lowest;
            if skew > i64::from(limit.constraint.max_skew) {
                return Err(Refusal::Skewed.rejection());
            }
        }
        Ok(())
    }
}

/// Why a node is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    /// It is in no domain of a constraint.
    MissingLabel,
    /// Its domain would be too full.
    Skewed,
}

impl Refusal {
    pub(crate) fn rejection(self) -> Rejection {
        match self {
            Self::MissingLabel => Rejection::unresolvable(
                "node(s) didn't match pod topology spread constraints (missing required label)",
            ),
            Self::Skewed => {
                Rejection::unschedulable("node(s) didn't match pod topology spread constraints")
            }
        }
    }
}
