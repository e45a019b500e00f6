//! DynamicResources: devices for the pod's ResourceClaims.
//!
//! Mirrors the plugin of the same name with structured parameters, as release 1.35 has it with all its
//! gates on but one: partitionable devices, consumable capacity, device taints and their rules, and
//! extended resources that devices stand for are there for objects that ask for them. PreEnqueue and
//! PreFilter want the pod's claims and their classes to be there; Filter finds devices on each node (see
//! [`allocator`]), or for claims that have theirs asks whether the node reaches them; Reserve takes what
//! was found, and the steps [`Step::WriteClaim`] and [`Step::CreateClaim`] write it; PostFilter gives
//! idle claims free that are in the way; Score prefers earlier alternatives.
//!
//! Not here: binding conditions (alpha, off by default); devices that have some are left out.

mod allocator;
mod capacity;
mod claim;
mod extended;
mod inventory;
mod ledger;
mod memo;
mod request;
mod result;
mod selector;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

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

use allocator::{Allocator, NONE_FOUND, Solution};
use extended::{Extended, Plan};
use ledger::Ledger;
use memo::Memo;
use request::ClaimPlan;
use selector::Selectors;

/// Keeps a claim from being deleted while it has devices (`resourceapi.Finalizer`).
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

/// More claims than this are not allocated for one pod: the API's limit is far lower, and the search
/// for devices must end.
const CLAIMS_MAX: usize = 256;

/// The most alternatives of a request (`FirstAvailableDeviceRequestMaxSize`).
const ALTERNATIVES_MAX: i64 = 8;

/// The plugin. It keeps compiled expressions and what they select, and what is taken of devices.
#[derive(Debug, Default)]
pub struct DynamicResources {
    selectors: Selectors,
    ledger: Mutex<Option<Arc<Ledger>>>,
}

impl Plugin for DynamicResources {
    fn name(&self) -> PluginName {
        PluginName::DynamicResources
    }

    fn pre_enqueue(&self, pod: &PodInfo, snapshot: &Snapshot) -> Verdict {
        claim::of_pod(pod, snapshot.objects()).map(|_| ()).map_err(Rejection::unresolvable)
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> PreFilter<'a> {
        if !asks(pod, snapshot.objects()) {
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
                ClusterEvent::new(Resource::ResourceClaim, seen.or(Action::DELETE)),
                ClusterEvent::new(Resource::Pod, Action::UPDATE_POD_GENERATED_RESOURCE_CLAIM),
                ClusterEvent::new(Resource::DeviceClass, seen),
                ClusterEvent::new(Resource::DeviceTaintRule, seen.or(Action::DELETE)),
                ClusterEvent::new(Resource::ResourceSlice, seen),
            ]
        }
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, snapshot: &Snapshot) -> Hint {
        match &occurrence.subject {
            Subject::Object(Object::ResourceClaim(old, Some(new))) => {
                hint_of_claim(pod, old.as_deref(), new, snapshot.objects())
            }
            // One made for extended resources goes with its pod.
            Subject::Object(Object::ResourceClaim(Some(old), None)) => {
                Hint::queue_if(claim::allocation(old).is_some())
            }
            Subject::Pod(_, Some(new)) => {
                Hint::queue_if(new.uid == pod.uid && claim::of_pod(new, snapshot.objects()).is_ok())
            }
            _ => Hint::Queue,
        }
    }
}

/// Whether the pod uses claims, or asks for what devices stand for.
pub(crate) fn asks(pod: &PodInfo, objects: &Objects) -> bool {
    let asks = pod.signature.asks;
    asks.claims || asks.scalars && objects.classes_asked_for(&pod.requests).next().is_some()
}

impl DynamicResources {
    /// What the filter needs to know; `None` if the pod uses no claim.
    fn prepare<'a>(
        &'a self,
        pod: &'a PodInfo,
        objects: &'a Objects,
    ) -> Result<Option<Claims<'a>>, String> {
        let claims = claim::of_pod(pod, objects)?;
        let extended = Extended::new(pod, objects, || self.ledger(objects));
        if claims.is_empty() && extended.is_none() {
            return Ok(None);
        }
        let (has, wants): (Vec<_>, Vec<_>) =
            claims.into_iter().partition(|claim| claim::allocation(claim).is_some());
        if wants.len() > CLAIMS_MAX {
            return Err(format!("more than {CLAIMS_MAX} claims to allocate"));
        }
        let must_look = !wants.is_empty() || extended.is_some();
        let ledger = must_look.then(|| self.ledger(objects));
        let plans = wants.iter().zip(ledger.iter().cycle());
        let plans = plans.map(|(claim, ledger)| {
            ClaimPlan::new(claim, &objects.device_classes, ledger).map(Arc::new)
        });
        Ok(Some(Claims {
            allocated: has,
            plans: plans.collect::<Result<_, _>>()?,
            extended,
            ledger,
            memo: OnceCell::new(),
            selectors: &self.selectors,
        }))
    }

    /// What there is of devices, and what is taken of them.
    fn ledger(&self, objects: &Objects) -> Arc<Ledger> {
        let mut kept = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ledger) = &mut *kept {
            let is_current = ledger.is_of(objects)
                || Arc::get_mut(ledger).is_some_and(|ledger| ledger.follow(objects));
            if is_current {
                return Arc::clone(ledger);
            }
        }
        Arc::clone(kept.insert(Arc::new(Ledger::new(objects))))
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
        if let Some(stale) = claims.stale() {
            let step = Step::DeleteClaim { claim: Arc::clone(stale) };
            return PostFilter::Write("deletion of ResourceClaim completed".into(), vec![step]);
        }
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
    /// What is wanted of the others.
    plans: Vec<Arc<ClaimPlan>>,
    /// What devices stand for.
    extended: Option<Extended<'a>>,
    /// Where devices are looked for, if some are.
    ledger: Option<Arc<Ledger>>,
    /// What is known of nodes for these claims.
    memo: OnceCell<Option<Arc<Memo>>>,
    selectors: &'a Selectors,
}

impl<'a> Claims<'a> {
    fn has_alternatives(&self) -> bool {
        let mut requests = self.plans.iter().flat_map(|claim| &claim.requests);
        requests.any(|request| request.alternatives.len() > 1)
    }

    /// A claim for extended resources that an earlier attempt has left behind.
    fn stale(&self) -> Option<&'a Arc<ResourceClaim>> {
        self.extended.as_ref()?.stale()
    }

    /// What is claimed for extended resources on the node.
    fn extended_on(&self, node: &NodeInfo) -> Result<Option<Rc<Plan>>, Rejection> {
        let planned = self.extended.as_ref().and_then(|extended| extended.plan(node));
        planned.transpose().map_err(Rejection::unresolvable)
    }

    /// Finds devices on the node for the claims that have none, and for what is claimed besides.
    fn allocate<'p, R>(
        &'p self,
        node: &NodeInfo,
        extended: Option<&'p Plan>,
        act: impl FnOnce(&[&ClaimPlan], &[Solution<'_>]) -> R,
    ) -> Result<R, Rejection> {
        let plans = self.plans.iter().chain(extended.map(|plan| &plan.claim));
        let plans: Vec<&ClaimPlan> = plans.map(|plan| &**plan).collect();
        let Some(ledger) = self.ledger.as_ref().filter(|_| !plans.is_empty()) else {
            return Ok(act(&[], &[]));
        };
        let allocator = Allocator { ledger, selectors: self.selectors };
        let solutions = allocator.allocate(&plans, node.node())?;
        Ok(act(&plans, &solutions))
    }

    /// Whether the node has devices for the claims; how much the alternatives found are preferred.
    fn preference_on(&self, node: &NodeInfo, extended: Option<&Plan>) -> Result<i64, Rejection> {
        let known = self.ledger.as_ref().zip(self.memo(extended));
        let answer = known.and_then(|(ledger, memo)| ledger.recall(memo, node.name()));
        match answer {
            Some(Some(preference)) => return Ok(preference),
            Some(None) => return Err(Rejection::unresolvable(NONE_FOUND)),
            None => {}
        }
        let found = self.allocate(node, extended, |plans, solutions| {
            plans.iter().zip(solutions).map(|(plan, found)| preference(plan, found)).sum()
        });
        if let Some((ledger, memo)) = known {
            match &found {
                Ok(preference) => ledger.keep(memo, node.name(), Some(*preference)),
                Err(rejection) if rejection.message() == NONE_FOUND => {
                    ledger.keep(memo, node.name(), None);
                }
                // What names a claim is said of that one alone.
                Err(_) => {}
            }
        }
        found
    }

    /// What is known of nodes for all that is to be allocated.
    fn memo<'p>(&'p self, extended: Option<&'p Plan>) -> Option<&'p Arc<Memo>> {
        let ledger = self.ledger.as_ref()?;
        let memo = match extended {
            None => self.memo.get_or_init(|| ledger.memo(&self.plans)),
            Some(plan) => plan.memo.get_or_init(|| {
                let all = self.plans.iter().chain([&plan.claim]);
                ledger.memo(&all.cloned().collect::<Vec<_>>())
            }),
        };
        memo.as_ref()
    }

    /// What to write so that the pod has its claims on the node.
    fn reserve(&self, pod: &PodInfo, node: &NodeInfo) -> Result<Vec<Step>, Rejection> {
        let unreserved = self.allocated.iter().filter(|claim| !claim::is_reserved_for(claim, pod));
        let mut steps: Vec<Step> = unreserved
            .map(|claim| {
                let new = reserved(claim, None, pod);
                Step::WriteClaim { old: Arc::clone(claim), new }
            })
            .collect();
        let extended = self.extended_on(node)?;
        self.allocate(node, extended.as_deref(), |plans, solutions| {
            for (at, (plan, solution)) in plans.iter().zip(solutions).enumerate() {
                let allocation = result::allocation(plan, solution, node.name());
                let new = reserved(&plan.claim, Some(allocation), pod);
                steps.push(match &extended {
                    Some(extended) if at == self.plans.len() => {
                        Step::CreateClaim { claim: new, mappings: extended.mappings.clone() }
                    }
                    _ => Step::WriteClaim { old: Arc::clone(&plan.claim), new },
                });
            }
        })?;
        Ok(steps)
    }
}

impl NodeFilter for Claims<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if self.stale().is_some() {
            return Err(Rejection::unresolvable("cannot schedule extended resource claim"));
        }
        let unreachable = self.allocated.iter().any(|claim| !is_reachable(claim, node));
        // Upstream looks for devices first, so what it says of them comes first.
        let extended = self.extended_on(node)?;
        self.preference_on(node, extended.as_deref())?;
        if unreachable {
            return Err(Rejection::unresolvable("resourceclaim not available on the node"));
        }
        Ok(())
    }
}

impl NodeScore for Claims<'_> {
    /// 8 for each request whose first alternative was taken, 7 for the second, and so on.
    fn score(&self, node: &NodeInfo) -> i64 {
        let extended = self.extended_on(node).ok().flatten();
        self.preference_on(node, extended.as_deref()).unwrap_or(0)
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize::by_highest(scores, false);
    }
}

fn preference(plan: &ClaimPlan, found: &Solution<'_>) -> i64 {
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
