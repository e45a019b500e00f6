//! DynamicResources: devices for the pod's ResourceClaims.
//!
//! Mirrors the plugin of the same name with structured parameters, as release 1.35 has it with the
//! gates that are on by default, and device taints. PreEnqueue and PreFilter want the pod's claims
//! and their classes to be there; Filter finds devices on each node (see [`allocator`]), or for
//! claims that have theirs asks whether the node reaches them; Reserve takes what was found, and the
//! step [`Step::WriteClaim`] writes it; PostFilter gives idle claims free that are in the way; Score
//! prefers earlier alternatives.
//!
//! Not here: extended resources backed by claims, partitionable devices, consumable capacity, binding
//! conditions, and DeviceTaintRules (all alpha, off by default).

mod allocator;
mod claim;
mod inventory;
mod request;
mod result;
mod selector;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::resource::v1::{
    AllocationResult, ResourceClaim, ResourceClaimConsumerReference,
};
use pintle_api::node_affinity;

use crate::cache::{NodeInfo, Object, Objects, Snapshot};
use crate::framework::{
    Action, ClusterEvent, Hint, NodeFilter, NodeScore, Occurrence, Plugin, PluginName, PostFilter,
    PostFilterContext, PreFilter, PreScore, Rejection, Resource, Step, Subject, Verdict,
};
use crate::plugins::normalize;
use crate::pod::PodInfo;
use crate::preemption::CandidateSearch;

use allocator::{Allocator, Solution};
use inventory::Inventory;
use request::ClaimPlan;
use selector::Selectors;

/// Keeps a claim from being deleted while it has devices (`resourceapi.Finalizer`).
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

/// More claims than this are not allocated for one pod: the API's limit is far lower, and the search
/// for devices must end.
const CLAIMS_MAX: usize = 256;

/// The most alternatives of a request (`FirstAvailableDeviceRequestMaxSize`).
const ALTERNATIVES_MAX: i64 = 8;

/// The plugin. It keeps compiled expressions and what they select.
#[derive(Debug, Default)]
pub struct DynamicResources {
    selectors: Selectors,
}

impl Plugin for DynamicResources {
    fn name(&self) -> PluginName {
        PluginName::DynamicResources
    }

    fn pre_enqueue(&self, pod: &PodInfo, snapshot: &Snapshot) -> Verdict {
        claim::of_pod(pod, snapshot.objects()).map(|_| ()).map_err(Rejection::unresolvable)
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> PreFilter<'a> {
        if claim::references(&pod.pod).is_empty() {
            return PreFilter::Skip;
        }
        match self.prepare(pod, snapshot.objects()) {
            Ok(None) => PreFilter::Skip,
            Ok(Some(claims)) => PreFilter::every_node(claims),
            Err(message) => PreFilter::Reject(Rejection::unresolvable(message)),
        }
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
        _feasible: &[usize],
    ) -> PreScore<'a> {
        // What there is and what is taken is not asked for where it makes no difference.
        if !claim::have_alternatives(pod, snapshot.objects()) {
            return PreScore::Skip;
        }
        match self.prepare(pod, snapshot.objects()) {
            Ok(Some(claims)) if claims.has_alternatives() => PreScore::each(claims),
            _ => PreScore::Skip,
        }
    }

    fn post_filter(
        &self,
        context: &PostFilterContext<'_>,
        _search: &mut dyn CandidateSearch,
    ) -> Option<PostFilter> {
        Some(self.free_idle_claim(context))
    }

    fn reserve(
        &self,
        pod: &PodInfo,
        snapshot: &Snapshot,
        node: &NodeInfo,
    ) -> Result<Vec<Step>, Rejection> {
        match self.prepare(pod, snapshot.objects()) {
            Ok(Some(claims)) => claims.reserve(pod, node),
            Ok(None) => Ok(Vec::new()),
            Err(message) => Err(Rejection::unresolvable(message)),
        }
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const {
            let node =
                Action::ADD.or(Action::UPDATE_NODE_LABEL).or(Action::UPDATE_NODE_ALLOCATABLE);
            let seen = Action::ADD.or(Action::UPDATE);
            &[
                ClusterEvent::new(Resource::Node, node),
                ClusterEvent::new(Resource::ResourceClaim, seen),
                ClusterEvent::new(Resource::Pod, Action::UPDATE_POD_GENERATED_RESOURCE_CLAIM),
                ClusterEvent::new(Resource::DeviceClass, seen),
                ClusterEvent::new(Resource::ResourceSlice, seen),
            ]
        }
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, snapshot: &Snapshot) -> Hint {
        match &occurrence.subject {
            Subject::Object(Object::ResourceClaim(old, Some(new))) => {
                hint_of_claim(pod, old.as_deref(), new, snapshot.objects())
            }
            Subject::Pod(_, Some(new)) => {
                Hint::queue_if(new.uid == pod.uid && claim::of_pod(new, snapshot.objects()).is_ok())
            }
            _ => Hint::Queue,
        }
    }
}

impl DynamicResources {
    /// What the filter needs to know; `None` if the pod uses no claim.
    fn prepare<'a>(
        &'a self,
        pod: &PodInfo,
        objects: &'a Objects,
    ) -> Result<Option<Claims<'a>>, String> {
        let claims = claim::of_pod(pod, objects)?;
        if claims.is_empty() {
            return Ok(None);
        }
        let (has, wants): (Vec<_>, Vec<_>) =
            claims.into_iter().partition(|claim| claim::allocation(claim).is_some());
        if wants.len() > CLAIMS_MAX {
            return Err(format!("more than {CLAIMS_MAX} claims to allocate"));
        }
        let allocator = match wants.as_slice() {
            [] => None,
            _ => Some(self.allocator(&wants, objects)?),
        };
        Ok(Some(Claims { allocated: has, allocator }))
    }

    fn allocator<'a>(
        &'a self,
        claims: &[&'a Arc<ResourceClaim>],
        objects: &'a Objects,
    ) -> Result<Allocator<'a>, String> {
        let plans = claims.iter().map(|claim| ClaimPlan::new(claim, &objects.device_classes));
        Ok(Allocator {
            claims: plans.collect::<Result<_, _>>()?,
            inventory: Inventory::new(objects.resource_slices.iter()),
            allocated: inventory::allocated(objects.resource_claims.iter()),
            selectors: &self.selectors,
        })
    }

    /// Deallocates a claim that no one uses and that some node could not reach.
    fn free_idle_claim(&self, context: &PostFilterContext<'_>) -> PostFilter {
        let PostFilterContext { pod, snapshot, diagnosis, .. } = context;
        // A PreFilter that refused the pod before this plugin's turn: upstream does not find its
        // state and ends PostFilter there, with these words.
        let is_own = diagnosis.plugins.contains(PluginName::DynamicResources);
        if diagnosis.pre_filter_message.is_some() && !is_own {
            return PostFilter::Failed("not found".into());
        }
        let prepared = self.prepare(pod, snapshot.objects());
        let Ok(Some(claims)) = prepared else {
            return PostFilter::Unhelped("no new claims to deallocate".into());
        };
        let refused = diagnosis.refused.iter();
        let refused = refused.filter(|(_, kind)| kind.plugin == Some(self.name()));
        let nodes: Vec<&Arc<NodeInfo>> =
            refused.filter_map(|(node, _)| snapshot.nodes().get(node)).collect();
        let idle: Vec<&Arc<ResourceClaim>> = claims
            .allocated
            .iter()
            .copied()
            .filter(|claim| nodes.iter().any(|node| !is_reachable(claim, node)))
            .filter(|claim| match claim::reserved_for(claim) {
                [] => true,
                [_] => claim::is_reserved_for(claim, pod),
                _ => false,
            })
            .collect();
        let Some(at) = (context.random as usize).checked_rem(idle.len()) else {
            return PostFilter::Unhelped("still not schedulable".into());
        };
        let step = Step::WriteClaim { old: Arc::clone(idle[at]), new: deallocated(idle[at]) };
        PostFilter::Write("deallocation of ResourceClaim completed".into(), vec![step])
    }
}

/// The claims of one pod: those that have their devices, and how to find devices for the others.
struct Claims<'a> {
    allocated: Vec<&'a Arc<ResourceClaim>>,
    allocator: Option<Allocator<'a>>,
}

impl Claims<'_> {
    fn has_alternatives(&self) -> bool {
        let requests = self.allocator.iter().flat_map(|a| &a.claims).flat_map(|c| &c.requests);
        requests.into_iter().any(|request| request.alternatives.len() > 1)
    }

    /// What to write so that the pod has its claims on the node.
    fn reserve(&self, pod: &PodInfo, node: &NodeInfo) -> Result<Vec<Step>, Rejection> {
        let mut steps = Vec::new();
        for claim in &self.allocated {
            if !claim::is_reserved_for(claim, pod) {
                let new = reserved(claim, None, pod);
                steps.push(Step::WriteClaim { old: Arc::clone(claim), new });
            }
        }
        let Some(allocator) = &self.allocator else { return Ok(steps) };
        let solutions =
            allocator.allocate(node.node()).map_err(|e| Rejection::unresolvable(e.0))?;
        for (plan, solution) in allocator.claims.iter().zip(&solutions) {
            let new = reserved(plan.claim, Some(result::allocation(plan, solution)), pod);
            steps.push(Step::WriteClaim { old: Arc::clone(plan.claim), new });
        }
        Ok(steps)
    }
}

impl NodeFilter for Claims<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let unreachable = self.allocated.iter().any(|claim| !is_reachable(claim, node));
        // Upstream looks for devices first, so what it says of them comes first.
        if let Some(allocator) = &self.allocator {
            let solution = allocator.allocate(node.node());
            solution.map_err(|error| Rejection::unresolvable(error.0))?;
        }
        if unreachable {
            return Err(Rejection::unresolvable("resourceclaim not available on the node"));
        }
        Ok(())
    }
}

impl NodeScore for Claims<'_> {
    /// 8 for each request whose first alternative was taken, 7 for the second, and so on.
    fn score(&self, node: &NodeInfo) -> i64 {
        let Some(allocator) = &self.allocator else { return 0 };
        let Ok(solutions) = allocator.allocate(node.node()) else { return 0 };
        allocator.claims.iter().zip(&solutions).map(|(plan, found)| preference(plan, found)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize::by_highest(scores, false);
    }
}

fn preference(plan: &ClaimPlan<'_>, found: &Solution<'_, '_>) -> i64 {
    let mut score = 0;
    for (request, taken) in plan.requests.iter().zip(&found.taken) {
        // A request of a fixed class has no preference.
        if request.alternatives.first().is_some_and(|first| first.full_name == first.request) {
            continue;
        }
        let at = request.alternatives.iter().position(|a| std::ptr::eq(a, *taken));
        score +=
            at.map_or(0, |at| ALTERNATIVES_MAX - i64::try_from(at).unwrap_or(ALTERNATIVES_MAX));
    }
    score
}

/// Whether the node reaches the devices that the claim has.
fn is_reachable(claim: &ResourceClaim, node: &NodeInfo) -> bool {
    let selector = claim::allocation(claim).and_then(|a| a.node_selector.as_ref());
    selector.is_none_or(|selector| node_affinity::selector_matches(selector, node.node()))
}

/// The claim with the pod among those that it is reserved for, and if given, its devices.
fn reserved(
    claim: &ResourceClaim,
    allocation: Option<AllocationResult>,
    pod: &PodInfo,
) -> Arc<ResourceClaim> {
    let mut claim = claim.clone();
    let status = claim.status.get_or_insert_default();
    if let Some(allocation) = allocation {
        status.allocation = Some(allocation);
        let finalizers = claim.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    }
    status.reserved_for.get_or_insert_default().push(ResourceClaimConsumerReference {
        api_group: None,
        name: pod.name().to_owned(),
        resource: "pods".to_owned(),
        uid: pod.object_uid().unwrap_or_default(),
    });
    Arc::new(claim)
}

fn deallocated(claim: &ResourceClaim) -> Arc<ResourceClaim> {
    let mut claim = claim.clone();
    claim.status = None;
    Arc::new(claim)
}

/// A change of a claim helps if it gives devices free, or if the pod waits for the claim and its
/// status changed (`isSchedulableAfterClaimChange`).
fn hint_of_claim(
    pod: &PodInfo,
    old: Option<&ResourceClaim>,
    new: &ResourceClaim,
    objects: &Objects,
) -> Hint {
    let Ok(claims) = claim::of_pod(pod, objects) else { return Hint::Skip };
    let Some(old) = old else {
        return Hint::queue_if(claims.iter().any(|claim| claim.metadata.uid == new.metadata.uid));
    };
    if claim::allocation(old).is_some() && claim::allocation(new).is_none() {
        return Hint::Queue;
    }
    let uses = claims.iter().any(|claim| claim.metadata.uid == new.metadata.uid);
    Hint::queue_if(uses && old.status != new.status)
}
