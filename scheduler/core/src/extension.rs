//! What extenders do to a decision: after the filters they refuse more nodes, after the scores they
//! add to totals.
//!
//! Mirrors `findNodesThatPassExtenders` and the second half of `prioritizeNodes`.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::cache::{NodeInfo, Snapshot};
use crate::diagnosis::{Diagnosis, Refused};
use crate::framework::{
    Extender, ExtenderError, ExtenderFilter, MAX_NODE_SCORE, Profile, Rejection,
};
use crate::pod::PodInfo;

/// The highest score that an extender gives (`extenderv1.MaxExtenderPriority`).
const MAX_EXTENDER_SCORE: i64 = 10;

/// The nodes (indices into the snapshot) that the extenders leave, in order. What they refuse goes
/// into the diagnosis, and so does the error of one that is not ignorable.
pub(crate) fn pass_extenders(
    profile: &Profile,
    snapshot: &Snapshot,
    pod: &PodInfo,
    mut feasible: Vec<usize>,
    diagnosis: &mut Diagnosis,
) -> Vec<usize> {
    for extender in interested(profile, pod).filter(|extender| extender.is_filter()) {
        if feasible.is_empty() {
            break;
        }
        let answer = match ask(extender, snapshot, pod, &feasible) {
            Ok(answer) => answer,
            Err(_) if extender.is_ignorable() => continue,
            Err(error) => {
                *diagnosis = Diagnosis::failed(diagnosis.node_count, error.to_string());
                return Vec::new();
            }
        };
        let before = feasible.len();
        feasible = note(answer, snapshot, &feasible, diagnosis);
        if feasible.len() != before {
            diagnosis.plugins.insert_extenders();
        }
    }
    feasible
}

/// What the extenders add to the total of each node.
pub(crate) fn extender_scores(
    profile: &Profile,
    snapshot: &Snapshot,
    pod: &PodInfo,
    feasible: &[usize],
) -> Vec<i64> {
    let mut totals = vec![0_i64; feasible.len()];
    for extender in interested(profile, pod).filter(|extender| extender.is_prioritizer()) {
        // An extender that fails gives no score.
        let Ok((scores, weight)) = extender.prioritize(pod, &infos(snapshot, feasible)) else {
            continue;
        };
        for (node, total) in feasible.iter().zip(&mut totals) {
            let score = scores.get(&**snapshot.nodes()[*node].name()).copied().unwrap_or(0);
            let scaled = score.wrapping_mul(weight);
            *total = total.wrapping_add(scaled.wrapping_mul(MAX_NODE_SCORE / MAX_EXTENDER_SCORE));
        }
    }
    totals
}

fn interested<'a>(
    profile: &'a Profile,
    pod: &'a PodInfo,
) -> impl Iterator<Item = &'a Arc<dyn Extender>> {
    profile.extenders.iter().filter(|extender| extender.is_interested(pod))
}

fn infos(snapshot: &Snapshot, nodes: &[usize]) -> Vec<Arc<NodeInfo>> {
    nodes.iter().map(|&node| Arc::clone(&snapshot.nodes()[node])).collect()
}

/// An extender that answers with a node it was not asked about has failed.
fn ask(
    extender: &Arc<dyn Extender>,
    snapshot: &Snapshot,
    pod: &PodInfo,
    nodes: &[usize],
) -> Result<ExtenderFilter, ExtenderError> {
    let answer = extender.filter(pod, &infos(snapshot, nodes))?;
    for name in &answer.feasible {
        if !snapshot.index_of(name).is_some_and(|node| nodes.contains(&node)) {
            let name = format!("{name:?}");
            return Err(ExtenderError(format!(
                "extender {:?} claims a filtered node {name} which is not found in the input node \
                 list",
                extender.name()
            )));
        }
    }
    Ok(answer)
}

/// The nodes that are left; the others go into the diagnosis.
fn note(
    answer: ExtenderFilter,
    snapshot: &Snapshot,
    asked: &[usize],
    diagnosis: &mut Diagnosis,
) -> Vec<usize> {
    let ExtenderFilter { feasible, failed, failed_and_unresolvable } = answer;
    let mut refusals: FxHashMap<usize, Rejection> = FxHashMap::default();
    for (name, reason) in failed {
        if let Some(node) = snapshot.index_of(&name) {
            refusals.insert(node, Rejection::unschedulable(reason));
        }
    }
    for (name, reason) in failed_and_unresolvable {
        if let Some(node) = snapshot.index_of(&name) {
            refusals.insert(node, Rejection::unresolvable(reason));
        }
    }
    let mut left: Vec<usize> = feasible.iter().filter_map(|name| snapshot.index_of(name)).collect();
    left.sort_unstable();
    left.dedup();
    for &node in asked.iter().filter(|node| left.binary_search(node).is_err()) {
        // Upstream forgets nodes that an extender drops without a word, and then counts them among
        // those that preemption will not help.
        let rejection = refusals.remove(&node).unwrap_or_else(|| Rejection::unresolvable(""));
        diagnosis.refused.push(Refused { node, plugin: None, rejection });
    }
    left
}
