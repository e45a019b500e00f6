//! The filters of the plugins that look at one node at a time, made ready for one pod, with the
//! reasons that they give.

use std::sync::Arc;

use super::scope::{self, Scope};
use crate::cache::{NodeInfo, Snapshot};
use crate::fit::{NamedFilter, Refusal, to_yield_to};
use crate::framework::{PreFilter, Profile};
use crate::pod::PodInfo;

/// The filters for one pod. They only get stricter with more pods on the node.
pub(crate) struct Local<'a> {
    /// In the profile's order; whether the pods on the node matter.
    filters: Vec<(NamedFilter<'a>, bool)>,
}

impl<'a> Local<'a> {
    /// `None` if PreFilter refuses the pod as a whole, or leaves nodes out.
    pub(super) fn new(
        profile: &'a Profile,
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
    ) -> Option<Self> {
        let mut filters = Vec::with_capacity(profile.filter.len());
        for plugin in &profile.filter {
            let scope = scope::of(plugin.name());
            if !matches!(scope, Scope::Fixed | Scope::Moving) {
                continue;
            }
            match plugin.pre_filter(pod, snapshot) {
                PreFilter::Skip => {}
                PreFilter::Filter { nodes: None, filter } => {
                    filters.push(((plugin.name(), filter), scope == Scope::Moving));
                }
                PreFilter::Reject(_) | PreFilter::Filter { .. } => return None,
            }
        }
        Some(Self { filters })
    }

    /// The first plugin that refuses the node.
    pub(crate) fn check(&self, node: &NodeInfo) -> Result<(), Refusal> {
        self.filters.iter().try_for_each(|((plugin, filter), _)| {
            filter.filter(node).map_err(|rejection| (*plugin, rejection))
        })
    }

    /// Whether the pods on the node leave room for the pod.
    pub(crate) fn has_room(&self, node: &NodeInfo) -> bool {
        let mut moving = self.filters.iter().filter(|(_, is_moving)| *is_moving);
        moving.all(|((_, filter), _)| filter.filter(node).is_ok())
    }

    /// The first refusal of the node with these pods on it too, or else without them.
    pub(super) fn check_beside<'b>(
        &self,
        node: &NodeInfo,
        nominated: impl Iterator<Item = &'b Arc<PodInfo>>,
    ) -> Result<(), Refusal> {
        match with(node, nominated) {
            Some(crowded) => self.check(&crowded).and_then(|()| self.check(node)),
            None => self.check(node),
        }
    }

    /// What the node says that the pod is nominated for.
    pub(super) fn check_nominated(
        &self,
        snapshot: &Snapshot,
        pod: &PodInfo,
    ) -> Option<(usize, Result<(), Refusal>)> {
        let row = snapshot.index_of(snapshot.nomination_of(&pod.uid)?)?;
        let others = to_yield_to(snapshot, pod, row);
        Some((row, self.check_beside(&snapshot.nodes()[row], others)))
    }
}

/// The node with the pods on it that are nominated for it and have at least this priority; `None`
/// if there are none.
pub(super) fn with_nominated(
    node: &NodeInfo,
    snapshot: &Snapshot,
    priority: Option<i32>,
) -> Option<NodeInfo> {
    let priority = priority?;
    with(node, nominated_from(node, snapshot, priority))
}

/// The pods that are nominated for the node and have at least this priority.
pub(crate) fn nominated_from<'a>(
    node: &NodeInfo,
    snapshot: &'a Snapshot,
    priority: i32,
) -> impl Iterator<Item = &'a Arc<PodInfo>> {
    let nominated = snapshot.nominated(node.name()).iter();
    nominated.filter(move |other| other.priority >= priority)
}

/// The node with more pods on it; `None` if there are none.
fn with<'a>(node: &NodeInfo, pods: impl Iterator<Item = &'a Arc<PodInfo>>) -> Option<NodeInfo> {
    let mut pods = pods.peekable();
    pods.peek()?;
    let mut node = NodeInfo::clone(node);
    pods.for_each(|pod| node.add_pod(Arc::clone(pod)));
    Some(node)
}
