//! Which pods to evict so that a more important one fits: what DefaultPreemption does.
//!
//! Mirrors `pkg/scheduler/framework/preemption` and `plugins/defaultpreemption`. Terms:
//!
//! * A **potential victim** of a pod is a pod on a node with less priority than it has.
//! * The **dry run** of a node takes all potential victims away. If the pod then fits, they are
//!   *reprieved* one by one, the most important first and those that a PodDisruptionBudget would
//!   keep before all others: whoever can stay beside the pod does. The rest are the **victims**, and
//!   node and victims are a **candidate**.
//! * The candidate is chosen that violates the fewest budgets; of those the one whose most important
//!   victim has the least priority; then with the smallest sum of priorities; then with the fewest
//!   victims; then whose most important victims started last; then the first.
//!
//! [`DryRun`] asks every filter for every step, on a copy of the snapshot, and is the specification.
//! An engine may search otherwise ([`CandidateSearch`]); it must find the same.

mod budget;
mod choice;
mod dry_run;
mod ranking;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::diagnosis::{Diagnosis, RefusalKind, Refusals, Refused};
use crate::framework::{
    Code, Extender, PostFilter, PostFilterContext, Preemption, PreemptionCandidate, Rejection,
};
use crate::pod::{DISRUPTION_TARGET, PodInfo};

pub use budget::Budgets;
pub use choice::{best, importance};
pub use dry_run::DryRun;
pub(crate) use ranking::Ranking;

/// How many candidates are enough (`DefaultPreemptionArgs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortlist {
    /// Of the nodes in question, in percent (`minCandidateNodesPercentage`).
    pub percentage_min: u32,
    /// And at least so many (`minCandidateNodesAbsolute`).
    pub absolute_min: u32,
}

impl Default for Shortlist {
    fn default() -> Self {
        Self { percentage_min: 10, absolute_min: 100 }
    }
}

impl Shortlist {
    /// Every node is looked at.
    pub const ALL: Self = Self { percentage_min: 100, absolute_min: 0 };

    /// How many candidates are enough of so many nodes.
    pub fn size(self, nodes: usize) -> usize {
        let share = nodes.saturating_mul(self.percentage_min as usize) / 100;
        share.max(self.absolute_min as usize).min(nodes)
    }
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// Nodes and who would have to leave them; those that violate no budget come first.
    pub found: Vec<PreemptionCandidate>,
    /// The nodes (indices into the snapshot) on which eviction does not help, and why.
    pub refused: Vec<(usize, Rejection)>,
}

/// Looks for candidates.
pub trait CandidateSearch {
    /// Tries the nodes (indices into the snapshot) in their order, until one candidate violates no
    /// budget and there are at least `enough`.
    fn candidates(
        &mut self,
        context: &PostFilterContext<'_>,
        nodes: &[usize],
        enough: usize,
    ) -> Candidates {
        DryRun.candidates(context, nodes, enough)
    }

    /// The first of the best of those candidates, or the nodes on which eviction does not help.
    fn best(
        &mut self,
        context: &PostFilterContext<'_>,
        nodes: &[usize],
        enough: usize,
    ) -> Result<PreemptionCandidate, Refusals> {
        let Candidates { mut found, refused } = self.candidates(context, nodes, enough);
        match best(&found).first() {
            Some(&at) => Ok(found.swap_remove(at)),
            None => Err(refusals(refused)),
        }
    }
}

/// What to do for a pod that no node will have.
pub fn preempt(
    context: &PostFilterContext<'_>,
    shortlist: Shortlist,
    search: &mut dyn CandidateSearch,
) -> PostFilter {
    if let Err(message) = eligible(context) {
        return PostFilter::Unhelped(format!("preemption: {message}").into());
    }
    let mut nodes = context.diagnosis.resolvable();
    if let Ok(count @ 1..) = u64::try_from(nodes.len()) {
        nodes.rotate_left(usize::try_from(context.random % count).unwrap_or(0));
    }
    let enough = shortlist.size(nodes.len());
    if extenders(context).next().is_none() {
        return match search.best(context, &nodes, enough) {
            Ok(candidate) => PostFilter::Preempt(preemption(context, &candidate)),
            Err(refused) => explain(context, refused),
        };
    }
    let candidates = search.candidates(context, &nodes, enough);
    if candidates.found.is_empty() {
        return explain(context, refusals(candidates.refused));
    }
    match pass_extenders(context, candidates.found) {
        Ok(found) => match best(&found).first() {
            Some(&at) => PostFilter::Preempt(preemption(context, &found[at])),
            None => PostFilter::Unhelped("preemption: no candidate node for preemption".into()),
        },
        Err(message) => PostFilter::Unhelped(format!("preemption: {message}").into()),
    }
}

/// Whether the pod may preempt at all; if not, why.
fn eligible(context: &PostFilterContext<'_>) -> Result<(), &'static str> {
    let PostFilterContext { snapshot, pod, diagnosis, .. } = context;
    let policy = pod.pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref());
    if policy == Some("Never") {
        return Err("not eligible due to preemptionPolicy=Never.");
    }
    let nominated = snapshot.nomination_of(&pod.uid).and_then(|name| snapshot.index_of(name));
    let Some(node) = nominated else { return Ok(()) };
    let code = diagnosis.rejection(node).map(Rejection::code);
    if code.is_none_or(|code| code == Code::UnschedulableAndUnresolvable) {
        return Ok(());
    }
    let mut pods = snapshot.nodes()[node].pods().iter();
    if pods.any(|other| other.priority < pod.priority && is_going_by_preemption(other)) {
        return Err("not eligible due to a terminating pod on the nominated node.");
    }
    Ok(())
}

fn is_going_by_preemption(pod: &PodInfo) -> bool {
    let conditions = pod.status().and_then(|status| status.conditions.as_deref());
    let target = conditions.unwrap_or_default().iter().find(|c| c.type_ == DISRUPTION_TARGET);
    pod.is_terminating()
        && target.is_some_and(|condition| {
            condition.status == "True"
                && condition.reason.as_deref() == Some("PreemptionByScheduler")
        })
}

fn refusals(refused: Vec<(usize, Rejection)>) -> Refusals {
    let refused = refused.into_iter();
    refused.map(|(node, rejection)| Refused { node, plugin: None, rejection }).collect()
}

/// Why there is no candidate.
fn explain(context: &PostFilterContext<'_>, refused: Refusals) -> PostFilter {
    let is_error = |kind: &RefusalKind| kind.rejection.code() == Code::Error;
    if refused.kinds().any(is_error) {
        let errors = refused.iter().filter(|(_, kind)| is_error(kind));
        let errors: Vec<String> = errors.map(|(_, kind)| kind.rejection.message()).collect();
        let message = match errors.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        return PostFilter::Unhelped(format!("preemption: {message}").into());
    }
    let diagnosis = Diagnosis {
        node_count: context.snapshot.nodes().len(),
        refused,
        others: Some(Rejection::unresolvable("Preemption is not helpful for scheduling")),
        ..Diagnosis::default()
    };
    PostFilter::Hopeless(format!("preemption: {diagnosis}").into())
}

/// The extenders that have a say in whom the pod may evict.
fn extenders<'a>(context: &PostFilterContext<'a>) -> impl Iterator<Item = &'a Arc<dyn Extender>> {
    let pod = context.pod;
    context
        .profile
        .extenders
        .iter()
        .filter(move |extender| extender.supports_preemption() && extender.is_interested(pod))
}

/// The candidates that the extenders leave.
fn pass_extenders(
    context: &PostFilterContext<'_>,
    mut found: Vec<PreemptionCandidate>,
) -> Result<Vec<PreemptionCandidate>, String> {
    for extender in extenders(context) {
        if found.is_empty() {
            break;
        }
        match extender.process_preemption(context.pod, found.clone()) {
            Ok(left) => found = left,
            Err(_) if extender.is_ignorable() => continue,
            Err(error) => return Err(error.to_string()),
        }
        if extender.is_ignorable() {
            found.retain(|candidate| !candidate.victims.is_empty());
        } else if let Some(bare) = found.iter().find(|candidate| candidate.victims.is_empty()) {
            return Err(no_victim(bare.node.name()));
        }
    }
    Ok(found)
}

fn no_victim(node: &str) -> String {
    format!("expected at least one victim pod on node \"{node}\"")
}

fn preemption(context: &PostFilterContext<'_>, candidate: &PreemptionCandidate) -> Preemption {
    let node = Arc::clone(candidate.node.name());
    let nominated = context.snapshot.nominated(&node).iter();
    let outranked = nominated.filter(|other| other.priority < context.pod.priority);
    Preemption {
        victims: candidate.victims.clone(),
        pdb_violations: candidate.pdb_violations,
        outranked: outranked.cloned().collect(),
        node,
    }
}
