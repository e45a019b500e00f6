//! The executable specification of a decision: plain, slow, and meant to be read.
//!
//! For one pod and one snapshot it says of every node either which plugin refuses it first and why,
//! or every plugin's score. Whatever runs in production must agree with it on the feasible nodes,
//! the totals, the best nodes and the message; the choice among the best is uniformly random.
//! Every node is looked at: kube-scheduler's sampling (`percentageOfNodesToScore`) is not here.
//! What preemption does for a pod that no node will have is [`crate::preemption`]'s.

use std::collections::BTreeSet;

use crate::cache::Snapshot;
use crate::diagnosis::{Diagnosis, Refused, failed_filter};
use crate::extension::{extender_scores, pass_extenders};
use crate::fit::{filters, first_refusal, fits_beside_nominated, to_yield_to};
use crate::framework::{Code, PluginName, PreFilter, PreScore, Profile, Rejection};
use crate::pod::PodInfo;

#[cfg(test)]
mod tests;

/// Everything there is to say of a pod and the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// For each node of the snapshot, in its order.
    pub nodes: Vec<NodeVerdict>,
    /// The feasible nodes with the highest total; empty if there is none.
    pub best: Vec<usize>,
    /// Why there is none; it also says what refused the nodes when there are feasible ones.
    pub diagnosis: Diagnosis,
}

/// What there is to say of a pod on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeVerdict {
    /// Refused.
    Rejected {
        /// The first plugin that did; `None` if PreFilter left the node out, or an extender
        /// refused it.
        plugin: Option<PluginName>,
        /// How and why.
        rejection: Rejection,
    },
    /// Scored.
    Feasible {
        /// By plugin, in the profile's order; plugins that skip the pod are left out.
        scores: Vec<PluginScore>,
        /// The sum of normalised scores times weights, and what extenders give.
        total: i64,
    },
}

/// One plugin's score of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginScore {
    /// Whose.
    pub plugin: PluginName,
    /// As the plugin gave it.
    pub raw: i64,
    /// Brought to 0..=100 over all feasible nodes.
    pub normalized: i64,
    /// What the normalised score counts.
    pub weight: i64,
}

/// Evaluates a pod against every node.
pub fn evaluate(profile: &Profile, snapshot: &Snapshot, pod: &PodInfo) -> Evaluation {
    let mut diagnosis = filter(profile, snapshot, pod);
    let candidates = unrefused(profile, snapshot, pod, &diagnosis);
    let feasible = pass_extenders(profile, snapshot, pod, candidates, &mut diagnosis);
    let nodes = verdicts(profile, snapshot, pod, &feasible, &diagnosis);
    if diagnosis.error.is_some() && nominated(profile, snapshot, pod).is_none() {
        return Evaluation { nodes, best: Vec::new(), diagnosis };
    }
    let total = |node: &usize| match &nodes[*node] {
        NodeVerdict::Feasible { total, .. } => Some(*total),
        NodeVerdict::Rejected { .. } => None,
    };
    let best = match nominated(profile, snapshot, pod) {
        Some(node) => vec![node],
        None => {
            let highest = feasible.iter().filter_map(total).max();
            feasible.iter().copied().filter(|node| total(node) == highest).collect()
        }
    };
    Evaluation { nodes, best, diagnosis }
}

/// What there is to say of each node.
fn verdicts(
    profile: &Profile,
    snapshot: &Snapshot,
    pod: &PodInfo,
    feasible: &[usize],
    diagnosis: &Diagnosis,
) -> Vec<NodeVerdict> {
    let left_out = || NodeVerdict::Rejected {
        plugin: None,
        rejection: match (&diagnosis.others, &diagnosis.error) {
            (_, Some(error)) => Rejection::error(error.clone()),
            (Some(rejection), None) => rejection.clone(),
            (None, None) => Rejection::error("not looked at"),
        },
    };
    let mut nodes = vec![left_out(); snapshot.nodes().len()];
    for (node, kind) in diagnosis.refused.iter() {
        let rejection = kind.rejection.clone();
        nodes[node] = NodeVerdict::Rejected { plugin: kind.plugin, rejection };
    }
    let by_extenders = extender_scores(profile, snapshot, pod, feasible);
    let scores = score(profile, snapshot, pod, feasible);
    for ((node, scores), by_extenders) in feasible.iter().zip(scores).zip(by_extenders) {
        let sum: i64 = scores.iter().map(|s| s.normalized.wrapping_mul(s.weight)).sum();
        nodes[*node] = NodeVerdict::Feasible { scores, total: sum.wrapping_add(by_extenders) };
    }
    nodes
}

/// The node that the pod is nominated for, if it fits there: then it goes there, wherever else it
/// would fit. What fails while finding out does not count.
fn nominated(profile: &Profile, snapshot: &Snapshot, pod: &PodInfo) -> Option<usize> {
    let node = snapshot.index_of(snapshot.nomination_of(&pod.uid)?)?;
    allowed_nodes(profile, snapshot, pod).ok()?;
    fits_beside_nominated(profile, &mut snapshot.what_if(), pod, node).ok()?;
    let mut unused = Diagnosis::default();
    pass_extenders(profile, snapshot, pod, vec![node], &mut unused).first().copied()
}

/// Puts every node before every filter, first refusal first, with and without the pods that are
/// nominated for it.
fn filter(profile: &Profile, snapshot: &Snapshot, pod: &PodInfo) -> Diagnosis {
    let node_count = snapshot.nodes().len();
    let allowed = match allowed_nodes(profile, snapshot, pod) {
        Ok(allowed) => allowed,
        Err((plugins, rejection)) => {
            return Diagnosis::refused_by_pre_filter(node_count, &plugins, rejection);
        }
    };
    let mut diagnosis = Diagnosis { node_count, ..Diagnosis::default() };
    if allowed.is_some() {
        let narrowing = narrowing_plugins(profile, snapshot, pod);
        diagnosis.others = Some(left_out(&narrowing));
        diagnosis.plugins = narrowing.into_iter().collect();
    }
    let filters = filters(profile, snapshot, pod).unwrap_or_default();
    for (node, info) in snapshot.nodes().iter().enumerate() {
        if allowed.as_ref().is_some_and(|allowed| !allowed.contains(&**info.name())) {
            continue;
        }
        let verdict = match to_yield_to(snapshot, pod, node).next() {
            Some(_) => fits_beside_nominated(profile, &mut snapshot.what_if(), pod, node),
            None => first_refusal(&filters, info),
        };
        let Err((plugin, rejection)) = verdict else { continue };
        if rejection.code() == Code::Error {
            return Diagnosis::failed(node_count, failed_filter(plugin, &rejection));
        }
        diagnosis.plugins.insert(plugin);
        diagnosis.refused.push(Refused { node, plugin: Some(plugin), rejection });
    }
    diagnosis
}

/// The nodes that the filters leave.
fn unrefused(
    profile: &Profile,
    snapshot: &Snapshot,
    pod: &PodInfo,
    diagnosis: &Diagnosis,
) -> Vec<usize> {
    if diagnosis.error.is_some() {
        return Vec::new();
    }
    let allowed = allowed_nodes(profile, snapshot, pod).unwrap_or(Some(BTreeSet::new()));
    let is_allowed = |node: &usize| {
        let name = snapshot.nodes()[*node].name();
        allowed.as_ref().is_none_or(|allowed| allowed.contains(&**name))
    };
    let is_refused = |node: usize| diagnosis.refused.get(node).is_some();
    (0..snapshot.nodes().len()).filter(is_allowed).filter(|node| !is_refused(*node)).collect()
}

/// The nodes that all PreFilters together allow (`None`: all), or the plugins that together allow
/// none, with what they say.
fn allowed_nodes<'a>(
    profile: &'a Profile,
    snapshot: &'a Snapshot,
    pod: &'a PodInfo,
) -> Result<Option<BTreeSet<&'a str>>, (Vec<PluginName>, Rejection)> {
    let mut allowed: Option<BTreeSet<&str>> = None;
    let mut narrowing = Vec::new();
    for plugin in &profile.filter {
        let nodes = match plugin.pre_filter(pod, snapshot) {
            PreFilter::Reject(rejection) => return Err((vec![plugin.name()], rejection)),
            PreFilter::Filter { nodes: Some(nodes), .. } => nodes,
            PreFilter::Skip | PreFilter::Filter { nodes: None, .. } => continue,
        };
        narrowing.push(plugin.name());
        let both = match allowed {
            Some(before) => before.intersection(&nodes).copied().collect(),
            None => nodes,
        };
        if both.is_empty() {
            return Err((narrowing.clone(), nothing_left(&narrowing)));
        }
        allowed = Some(both);
    }
    Ok(allowed)
}

fn narrowing_plugins(profile: &Profile, snapshot: &Snapshot, pod: &PodInfo) -> Vec<PluginName> {
    let narrows = |pre: PreFilter| matches!(pre, PreFilter::Filter { nodes: Some(_), .. });
    let plugins = profile.filter.iter().filter(|p| narrows(p.pre_filter(pod, snapshot)));
    plugins.map(|plugin| plugin.name()).collect()
}

/// What is said of nodes that PreFilter left out.
pub(crate) fn left_out(narrowing: &[PluginName]) -> Rejection {
    let names = sorted_names(narrowing).join(" ");
    Rejection::unresolvable(format!("node(s) didn't satisfy plugin(s) [{names}]"))
}

/// What is said when the plugins left no node to look at.
pub(crate) fn nothing_left(narrowing: &[PluginName]) -> Rejection {
    Rejection::unresolvable(match sorted_names(narrowing).as_slice() {
        [one] => format!("node(s) didn't satisfy plugin {one}"),
        many => {
            format!("node(s) didn't satisfy plugin(s) [{}] simultaneously", many.join(" "))
        }
    })
}

fn sorted_names(plugins: &[PluginName]) -> Vec<&'static str> {
    let mut names: Vec<&str> = plugins.iter().map(|plugin| plugin.as_str()).collect();
    names.sort_unstable();
    names
}

/// The scores of each feasible node.
fn score(
    profile: &Profile,
    snapshot: &Snapshot,
    pod: &PodInfo,
    feasible: &[usize],
) -> Vec<Vec<PluginScore>> {
    let mut by_node = vec![Vec::new(); feasible.len()];
    for weighted in &profile.score {
        let PreScore::Score(score) = weighted.plugin.pre_score(pod, snapshot, feasible) else {
            continue;
        };
        let raw: Vec<i64> =
            feasible.iter().map(|&node| score.score(&snapshot.nodes()[node])).collect();
        let mut normalized = raw.clone();
        score.normalize(&mut normalized);
        for (scores, (raw, normalized)) in by_node.iter_mut().zip(raw.into_iter().zip(normalized)) {
            let plugin = weighted.plugin.name();
            scores.push(PluginScore { plugin, raw, normalized, weight: weighted.weight });
        }
    }
    by_node
}
