//! The executable specification of a decision: plain, slow, and meant to be read.
//!
//! For one pod and one snapshot it says of every node either which plugin refuses it first and why,
//! or every plugin's score. Whatever runs in production must agree with it on the feasible nodes,
//! the totals, the best nodes and the message; the choice among the best is uniformly random.
//! Every node is looked at: kube-scheduler's sampling (`percentageOfNodesToScore`) is not here.

use std::collections::BTreeSet;

use crate::cache::Snapshot;
use crate::diagnosis::{Diagnosis, Refused};
use crate::framework::{NodeFilter, PluginName, PreFilter, PreScore, Profile, Rejection};
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
        /// The first plugin that did; `None` if PreFilter left the node out.
        plugin: Option<PluginName>,
        /// How and why.
        rejection: Rejection,
    },
    /// Scored.
    Feasible {
        /// By plugin, in the profile's order; plugins that skip the pod are left out.
        scores: Vec<PluginScore>,
        /// The sum of normalised scores times weights.
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
    let diagnosis = filter(profile, snapshot, pod);
    let mut nodes: Vec<Option<NodeVerdict>> = vec![None; snapshot.nodes().len()];
    for Refused { node, plugin, rejection } in &diagnosis.refused {
        let rejection = rejection.clone();
        nodes[*node] = Some(NodeVerdict::Rejected { plugin: Some(*plugin), rejection });
    }
    if let Some(rejection) = &diagnosis.others {
        let allowed = allowed_nodes(profile, snapshot, pod).ok().flatten().unwrap_or_default();
        for (node, verdict) in nodes.iter_mut().enumerate() {
            if verdict.is_none() && !allowed.contains(&**snapshot.nodes()[node].name()) {
                let rejection = rejection.clone();
                *verdict = Some(NodeVerdict::Rejected { plugin: None, rejection });
            }
        }
    }
    let feasible: Vec<usize> = (0..nodes.len()).filter(|&node| nodes[node].is_none()).collect();
    for (node, scores) in feasible.iter().zip(score(profile, snapshot, pod, &feasible)) {
        let total = scores.iter().map(|s| s.normalized.wrapping_mul(s.weight)).sum();
        nodes[*node] = Some(NodeVerdict::Feasible { scores, total });
    }
    let nodes: Vec<NodeVerdict> =
        nodes.into_iter().map(|n| n.expect("every node is refused or feasible")).collect();
    let total = |node: &usize| match &nodes[*node] {
        NodeVerdict::Feasible { total, .. } => Some(*total),
        NodeVerdict::Rejected { .. } => None,
    };
    let highest = feasible.iter().filter_map(total).max();
    let best = feasible.iter().copied().filter(|node| total(node) == highest).collect();
    Evaluation { nodes, best, diagnosis }
}

/// Puts every node before every filter, first refusal first.
fn filter(profile: &Profile, snapshot: &Snapshot, pod: &PodInfo) -> Diagnosis {
    let node_count = snapshot.nodes().len();
    let allowed = match allowed_nodes(profile, snapshot, pod) {
        Ok(allowed) => allowed,
        Err((plugins, rejection)) => {
            let plugins = plugins.into_iter().collect();
            return Diagnosis::refused_by_pre_filter(node_count, plugins, rejection);
        }
    };
    let mut diagnosis = Diagnosis { node_count, ..Diagnosis::default() };
    if allowed.is_some() {
        let narrowing = narrowing_plugins(profile, snapshot, pod);
        diagnosis.others = Some(left_out(&narrowing));
        diagnosis.plugins = narrowing.into_iter().collect();
    }
    let filters = filters(profile, snapshot, pod);
    for (node, info) in snapshot.nodes().iter().enumerate() {
        if allowed.as_ref().is_some_and(|allowed| !allowed.contains(&**info.name())) {
            continue;
        }
        for (plugin, filter) in &filters {
            if let Err(rejection) = filter.filter(info) {
                diagnosis.plugins.insert(*plugin);
                diagnosis.refused.push(Refused { node, plugin: *plugin, rejection });
                break;
            }
        }
    }
    diagnosis
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

type NamedFilter<'a> = (PluginName, Box<dyn NodeFilter + 'a>);

fn filters<'a>(
    profile: &'a Profile,
    snapshot: &'a Snapshot,
    pod: &'a PodInfo,
) -> Vec<NamedFilter<'a>> {
    let plugins = profile.filter.iter();
    plugins
        .filter_map(|plugin| match plugin.pre_filter(pod, snapshot) {
            PreFilter::Filter { filter, .. } => Some((plugin.name(), filter)),
            PreFilter::Skip | PreFilter::Reject(_) => None,
        })
        .collect()
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
