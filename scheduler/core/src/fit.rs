//! Whether one pod fits one node, each time from scratch: what preemption and nominations ask of
//! clusters that are not, and what the reference asks of those that are.
//!
//! Mirrors `RunFilterPluginsWithNominatedPods`.

use std::sync::Arc;

use crate::cache::{NodeInfo, Snapshot, WhatIf};
use crate::framework::{NodeFilter, PluginName, PreFilter, Profile, Rejection};
use crate::pod::PodInfo;

/// A plugin that refuses a node, and how.
pub type Refusal = (PluginName, Rejection);

/// Whether the pod fits the node (an index into the snapshot), nominations aside; if not, the first
/// plugin that refuses it. Where PreFilter narrows the nodes is not looked at.
pub fn fits(
    profile: &Profile,
    snapshot: &Snapshot,
    pod: &PodInfo,
    node: usize,
) -> Result<(), Refusal> {
    first_refusal(&filters(profile, snapshot, pod)?, &snapshot.nodes()[node])
}

/// A plugin's filter for one pod.
pub(crate) type NamedFilter<'a> = (PluginName, Box<dyn NodeFilter + 'a>);

/// The filters of the plugins that have something to say of the pod, or the first that refuses it as
/// a whole.
pub(crate) fn filters<'a>(
    profile: &'a Profile,
    snapshot: &'a Snapshot,
    pod: &'a PodInfo,
) -> Result<Vec<NamedFilter<'a>>, Refusal> {
    let mut filters = Vec::with_capacity(profile.filter.len());
    for plugin in &profile.filter {
        match plugin.pre_filter(pod, snapshot) {
            PreFilter::Skip => {}
            PreFilter::Reject(rejection) => return Err((plugin.name(), rejection)),
            PreFilter::Filter { filter, .. } => filters.push((plugin.name(), filter)),
        }
    }
    Ok(filters)
}

/// Puts the node before one filter after the other.
pub(crate) fn first_refusal(filters: &[NamedFilter], node: &NodeInfo) -> Result<(), Refusal> {
    filters.iter().try_for_each(|(plugin, filter)| {
        filter.filter(node).map_err(|rejection| (*plugin, rejection))
    })
}

/// The pods nominated for the node to which this one must yield: those of its priority or more.
pub fn to_yield_to<'a>(
    snapshot: &'a Snapshot,
    pod: &'a PodInfo,
    node: usize,
) -> impl Iterator<Item = &'a Arc<PodInfo>> {
    let nominated = snapshot.nominated(snapshot.nodes()[node].name());
    nominated.iter().filter(|other| other.priority >= pod.priority && other.uid != pod.uid)
}

/// Whether the pod fits the node with the pods that are nominated for it, and without them: they
/// may come to run there, or elsewhere.
pub fn fits_beside_nominated(
    profile: &Profile,
    what_if: &mut WhatIf,
    pod: &PodInfo,
    node: usize,
) -> Result<(), Refusal> {
    let nominated: Vec<Arc<PodInfo>> = to_yield_to(what_if, pod, node).cloned().collect();
    if !nominated.is_empty() {
        nominated.iter().for_each(|other| what_if.add(node, Arc::clone(other)));
        let beside = fits(profile, what_if, pod, node);
        nominated.iter().for_each(|other| {
            what_if.remove(node, &other.uid);
        });
        beside?;
    }
    fits(profile, what_if, pod, node)
}
