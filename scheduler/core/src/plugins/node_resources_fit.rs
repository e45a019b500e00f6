//! NodeResourcesFit: refuses nodes without room for what the pod asks for, and scores by how full
//! the node would be.

mod strategy;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::DeviceClass;
use pintle_api::resources::Resources;

use super::resource_score::{Counted, PodAllocation, ResourceWeight};
use crate::cache::{NodeInfo, Object, Objects, Snapshot};
use crate::framework::{
    Action, ClusterEvent, Hint, NodeFilter, NodeScore, Occurrence, Plugin, PluginName, PreFilter,
    PreScore, Reason, Rejection, Resource, Subject, Verdict,
};
use crate::pod::PodInfo;

pub use strategy::{ScoringStrategy, ShapePoint};

/// The plugin, with `NodeResourcesFitArgs`.
#[derive(Clone, Debug)]
pub struct NodeResourcesFit {
    /// Extended resources that are not checked.
    pub ignored_resources: BTreeSet<String>,
    /// The prefixes (before the slash) of extended resources that are not checked.
    pub ignored_resource_groups: BTreeSet<String>,
    /// How a node's fullness is scored.
    pub strategy: ScoringStrategy,
    /// What is scored.
    pub resources: Vec<ResourceWeight>,
}

impl Default for NodeResourcesFit {
    /// LeastAllocated over CPU and memory, nothing ignored.
    fn default() -> Self {
        Self {
            ignored_resources: BTreeSet::new(),
            ignored_resource_groups: BTreeSet::new(),
            strategy: ScoringStrategy::LeastAllocated,
            resources: ResourceWeight::cpu_and_memory(),
        }
    }
}

impl NodeResourcesFit {
    fn is_ignored(&self, name: &str) -> bool {
        let group = name.split_once('/').map_or("", |(group, _)| group);
        is_extended(name)
            && (self.ignored_resources.contains(name)
                || self.ignored_resource_groups.contains(group))
    }
}

impl NodeResourcesFit {
    /// The resources other than CPU, memory and storage that a node must have for the pod, by name.
    pub(crate) fn required<'a>(&'a self, pod: &'a PodInfo) -> impl Iterator<Item = &'a str> {
        let wanted = pod.requests.scalar.iter().filter(|(_, wanted)| **wanted > 0);
        let names = wanted.map(|(name, _)| name.as_str());
        names.filter(|name| is_scalar(name) && !self.is_ignored(name))
    }
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> PluginName {
        PluginName::NodeResourcesFit
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::every_node(Filter::new(self, pod, snapshot.objects()))
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        _snapshot: &'a Snapshot,
        _feasible: &[usize],
    ) -> PreScore<'a> {
        let allocation = PodAllocation::new(&self.resources, Counted::Nonzero, pod);
        PreScore::each(Score { strategy: &self.strategy, allocation })
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const {
            let pod = Action::DELETE.or(Action::UPDATE_POD_SCALE_DOWN);
            &[
                ClusterEvent::new(Resource::Pod, pod),
                ClusterEvent::new(Resource::Node, Action::ADD.or(Action::UPDATE_NODE_ALLOCATABLE)),
                ClusterEvent::new(Resource::DeviceClass, Action::ADD.or(Action::UPDATE)),
            ]
        }
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, snapshot: &Snapshot) -> Hint {
        let waited = occurrence.event.resource == Resource::UnscheduledPod;
        match &occurrence.subject {
            // A nominated pod is counted on its node.
            Subject::Pod(Some(old), None) => Hint::queue_if(!waited || old.is_nominated()),
            Subject::Pod(Some(old), Some(new)) => {
                let gave_up = !waited && has_more(&old.requests, &new.requests, pod);
                Hint::queue_if(new.uid == pod.uid || gave_up)
            }
            Subject::Node(old, Some(new)) => {
                let new = NodeInfo::new(new.clone());
                let fits = Filter::new(self, pod, snapshot.objects()).filter(&new).is_ok();
                let grew = |old: &Arc<Node>| {
                    let old = NodeInfo::new(old.clone());
                    new.allowed_pods() > old.allowed_pods()
                        || has_more(new.allocatable(), old.allocatable(), pod)
                };
                Hint::queue_if(fits && old.as_ref().is_none_or(grew))
            }
            // Its devices may stand for what the pod asks for.
            Subject::Object(Object::DeviceClass(old, Some(new))) => {
                let name = |class: &DeviceClass| class.spec.extended_resource_name.clone();
                let is_new = old.as_ref().is_none_or(|old| name(old) != name(new));
                let objects = snapshot.objects();
                let mut asked = objects.classes_asked_for(&pod.requests);
                Hint::queue_if(is_new && asked.any(|(_, class)| Arc::ptr_eq(class, new)))
            }
            _ => Hint::Queue,
        }
    }
}

struct Filter<'a> {
    plugin: &'a NodeResourcesFit,
    pod: &'a PodInfo,
    /// Resources that devices stand for on nodes that do not have them themselves: DynamicResources
    /// looks after those.
    delegated: Vec<&'a str>,
}

impl<'a> Filter<'a> {
    fn new(plugin: &'a NodeResourcesFit, pod: &'a PodInfo, objects: &'a Objects) -> Self {
        let delegated = objects.classes_asked_for(&pod.requests).map(|(name, _)| name);
        Self { plugin, pod, delegated: delegated.collect() }
    }
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let mut verdict = Ok(());
        let count = i64::try_from(node.pod_count()).unwrap_or(i64::MAX);
        if count >= node.allowed_pods() {
            refuse(&mut verdict, "Too many pods", true);
        }
        let wanted = &self.pod.requests;
        let (has, used) = (node.allocatable(), node.requested());
        for (wanted, has, used, reason) in [
            (wanted.milli_cpu, has.milli_cpu, used.milli_cpu, "Insufficient cpu"),
            (wanted.memory_bytes, has.memory_bytes, used.memory_bytes, "Insufficient memory"),
            (
                wanted.ephemeral_storage_bytes,
                has.ephemeral_storage_bytes,
                used.ephemeral_storage_bytes,
                "Insufficient ephemeral-storage",
            ),
        ] {
            if lacks(wanted, has, used) {
                refuse(&mut verdict, reason, wanted <= has);
            }
        }
        for (name, &wanted) in &wanted.scalar {
            let has = has.scalar.get(name).copied().unwrap_or(0);
            let used = used.scalar.get(name).copied().unwrap_or(0);
            let is_delegated = has <= 0 && self.delegated.contains(&name.as_str());
            let counts = is_scalar(name) && !self.plugin.is_ignored(name) && !is_delegated;
            if counts && lacks(wanted, has, used) {
                refuse(&mut verdict, format!("Insufficient {name}"), wanted <= has);
            }
        }
        verdict
    }
}

/// A resource that is not asked for is not checked, even where the node is over its limit.
fn lacks(wanted: i64, has: i64, used: i64) -> bool {
    wanted > 0 && wanted > has.saturating_sub(used)
}

fn refuse(verdict: &mut Verdict, reason: impl Into<Reason>, resolvable: bool) {
    let rejection = match std::mem::replace(verdict, Ok(())) {
        Err(rejection) => rejection.and(reason, resolvable),
        Ok(()) if resolvable => Rejection::unschedulable(reason),
        Ok(()) => Rejection::unresolvable(reason),
    };
    *verdict = Err(rejection);
}

/// Whether one is more than the other in something that the pod asks for.
fn has_more(one: &Resources, other: &Resources, pod: &PodInfo) -> bool {
    let wanted = &pod.requests;
    let amount = |resources: &Resources, name: &str| resources.scalar.get(name).copied();
    let mut scalars = wanted.scalar.iter().filter(|(_, wanted)| **wanted > 0);
    (wanted.milli_cpu > 0 && one.milli_cpu > other.milli_cpu)
        || (wanted.memory_bytes > 0 && one.memory_bytes > other.memory_bytes)
        || (wanted.ephemeral_storage_bytes > 0
            && one.ephemeral_storage_bytes > other.ephemeral_storage_bytes)
        || scalars
            .any(|(name, _)| amount(one, name).unwrap_or(0) > amount(other, name).unwrap_or(0))
}

/// `v1helper.IsExtendedResourceName`: has a domain that is not `kubernetes.io`.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// `schedutil.IsScalarResourceName`: extended resources, huge pages, those of Kubernetes' own domain,
/// and attachable volumes. Names of any other form are not counted.
fn is_scalar(name: &str) -> bool {
    is_extended(name)
        || name.starts_with("hugepages-")
        || name.contains("kubernetes.io/")
        || name.starts_with("attachable-volumes-")
}

struct Score<'a> {
    strategy: &'a ScoringStrategy,
    allocation: PodAllocation<'a>,
}

impl NodeScore for Score<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        self.strategy.score(self.allocation.on(node))
    }
}
