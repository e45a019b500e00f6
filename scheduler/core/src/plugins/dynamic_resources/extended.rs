//! Extended resources that devices stand for: a claim that is made for a pod which has none.
//!
//! Mirrors `extendeddynamicresources.go` (KEP 5004). A DeviceClass may stand for an extended resource,
//! and every class does for one that is called after it. On a node that does not have the resource
//! itself, a pod's requests for it become a claim's for devices of the class; which that are may
//! differ from node to node. The claim is made when the pod has its node, and is the pod's own.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ContainerExtendedResourceRequest};
use k8s_openapi::api::resource::v1::{
    DeviceClaim, DeviceClass, DeviceRequest, ExactDeviceRequest, ResourceClaim, ResourceClaimSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use pintle_api::quantity::Quantity;

use super::ledger::Ledger;
use super::memo::Memo;
use super::request::ClaimPlan;
use crate::cache::{NodeInfo, Objects};
use crate::pod::PodInfo;

/// Says of a claim that it was made for extended resources (`ExtendedResourceClaimAnnotation`).
const ANNOTATION: &str = "resource.kubernetes.io/extended-resource-claim";

/// The uid of the pod whose extended resources the claim was made for.
pub(super) fn pod_of(claim: &ResourceClaim) -> Option<&str> {
    let annotations = claim.metadata.annotations.as_ref()?;
    if annotations.get(ANNOTATION).map(String::as_str) != Some("true") {
        return None;
    }
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

/// The extended resources of a pod that devices may stand for.
pub(super) struct Extended<'a> {
    pod: &'a PodInfo,
    objects: &'a Objects,
    ledger: Arc<Ledger>,
    /// By name.
    wanted: Vec<(&'a str, &'a Arc<DeviceClass>)>,
    /// What to look for on nodes that lack these.
    plans: RefCell<Vec<(Vec<bool>, Planned)>>,
}

/// The claim, or why there can be none.
pub(super) type Planned = Result<Rc<Plan>, String>;

/// The claim for what a node lacks, as it will be made.
pub(super) struct Plan {
    pub(super) claim: Arc<ClaimPlan>,
    /// What is known of nodes for the pod's claims and this one.
    pub(super) memo: OnceCell<Option<Arc<Memo>>>,
    /// Which request is for which container.
    pub(super) mappings: Vec<ContainerExtendedResourceRequest>,
}

impl<'a> Extended<'a> {
    /// `None` if the pod asks for no such resource.
    pub(super) fn new(
        pod: &'a PodInfo,
        objects: &'a Objects,
        ledger: impl FnOnce() -> Arc<Ledger>,
    ) -> Option<Self> {
        let wanted: Vec<_> = objects.classes_asked_for(&pod.requests).collect();
        if wanted.is_empty() {
            return None;
        }
        Some(Self { pod, objects, ledger: ledger(), wanted, plans: RefCell::default() })
    }

    /// The claim that an earlier attempt has left behind.
    pub(super) fn stale(&self) -> Option<&'a Arc<ResourceClaim>> {
        let uid = self.pod.object_uid()?;
        let (namespace, name) = self.ledger.extended_claim_of(&uid)?;
        self.objects.resource_claims.get(namespace, name)
    }

    /// What is to be claimed for the pod on the node; `None` if it lacks nothing.
    pub(super) fn plan(&self, node: &NodeInfo) -> Option<Planned> {
        let has = &node.allocatable().scalar;
        let lacks = |(name, _): &(&str, _)| has.get(*name).copied().unwrap_or(0) == 0;
        let lacks: Vec<bool> = self.wanted.iter().map(lacks).collect();
        if !lacks.contains(&true) {
            return None;
        }
        let mut plans = self.plans.borrow_mut();
        if let Some((_, known)) = plans.iter().find(|(known, _)| *known == lacks) {
            return Some(known.clone());
        }
        let planned = self.planned(&lacks);
        plans.push((lacks, planned.clone()));
        Some(planned)
    }

    fn planned(&self, lacks: &[bool]) -> Planned {
        let wanted = self.wanted.iter().zip(lacks).filter(|(_, lacks)| **lacks);
        let (requests, mappings) = requests(self.pod, wanted.map(|(wanted, _)| *wanted));
        let claim = Arc::new(claim(self.pod, requests));
        let claim = ClaimPlan::new(&claim, &self.objects.device_classes, &self.ledger)?;
        Ok(Rc::new(Plan { claim: Arc::new(claim), memo: OnceCell::new(), mappings }))
    }
}

/// The claim, named so that a second of the same pod would be refused.
fn claim(pod: &PodInfo, requests: Vec<DeviceRequest>) -> ResourceClaim {
    let uid = pod.object_uid().unwrap_or_default();
    let prefix: String = pod.name().chars().take(NAME_PREFIX_MAX).collect();
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.name().to_owned(),
        uid: uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    let metadata = ObjectMeta {
        name: Some(format!("{prefix}-extended-resources-{}", suffix(&uid))),
        namespace: Some(pod.namespace().to_owned()),
        annotations: Some(BTreeMap::from([(ANNOTATION.to_owned(), "true".to_owned())])),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    let devices = DeviceClaim { requests: Some(requests), ..DeviceClaim::default() };
    ResourceClaim { metadata, spec: ResourceClaimSpec { devices: Some(devices) }, status: None }
}

/// Of a pod's name, so that the claim's is not too long.
const NAME_PREFIX_MAX: usize = 200;

/// What tells claims of pods of one name apart, made of the pod's identity.
fn suffix(uid: &str) -> String {
    let letters = uid.chars().rev().filter(char::is_ascii_alphanumeric);
    letters.take(SUFFIX_LENGTH).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// As many letters as no two pods of one name have in common.
const SUFFIX_LENGTH: usize = 12;

/// The requests for these resources, container by container, and which container has which.
/// Containers that end before others start use what those will have, and the largest of what they
/// need besides.
fn requests<'a>(
    pod: &PodInfo,
    wanted: impl Iterator<Item = (&'a str, &'a Arc<DeviceClass>)>,
) -> (Vec<DeviceRequest>, Vec<ContainerExtendedResourceRequest>) {
    let spec = pod.pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let main = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let containers: Vec<&Container> = init.iter().chain(main).collect();
    let is_short =
        |at: usize| at < init.len() && containers[at].restart_policy.as_deref() != Some("Always");
    let (mut requests, mut mappings) = (Vec::new(), Vec::new());
    for (resource, class) in wanted {
        let mut asking = Asking { resource, class, requests: vec![None; containers.len()] };
        for (at, container) in containers.iter().enumerate().filter(|(at, _)| !is_short(*at)) {
            let (request, mut used) = asking.container(at, container, false);
            asking.requests[at] = request;
            mappings.append(&mut used);
        }
        let (mut largest, mut replaced, mut short) = (None, Vec::new(), Vec::new());
        for (at, container) in containers.iter().enumerate().filter(|(at, _)| is_short(*at)) {
            let (request, mut used) = asking.container(at, container, true);
            short.append(&mut used);
            let Some(request) = request else { continue };
            replaced.push(request.name.clone());
            if largest.as_ref().is_none_or(|largest| count(largest) < count(&request)) {
                largest = Some(request);
            }
        }
        if let Some(largest) = &largest {
            for mapping in &mut short {
                if replaced.contains(&mapping.request_name) {
                    mapping.request_name.clone_from(&largest.name);
                }
            }
        }
        requests.extend(largest.into_iter().chain(asking.requests.into_iter().flatten()));
        mappings.append(&mut short);
    }
    requests.sort_by(|a: &DeviceRequest, b| a.name.cmp(&b.name));
    (requests, mappings)
}

fn count(request: &DeviceRequest) -> i64 {
    request.exactly.as_ref().and_then(|exactly| exactly.count).unwrap_or(0)
}

/// Requests for one resource.
struct Asking<'a> {
    resource: &'a str,
    class: &'a Arc<DeviceClass>,
    /// Of containers that run to the pod's end, by position.
    requests: Vec<Option<DeviceRequest>>,
}

impl Asking<'_> {
    /// What the container needs, and of which requests it uses devices; of those of later containers
    /// first, if it may.
    fn container(
        &self,
        at: usize,
        container: &Container,
        reuses: bool,
    ) -> (Option<DeviceRequest>, Vec<ContainerExtendedResourceRequest>) {
        let mut mappings = Vec::new();
        let asked = container.resources.as_ref().and_then(|it| it.requests.as_ref());
        let amount = asked.and_then(|asked| Quantity::try_from(asked.get(self.resource)?).ok());
        let amount = amount.map_or(0, Quantity::value);
        if amount == 0 {
            return (None, mappings);
        }
        let mapping = |request: &str| ContainerExtendedResourceRequest {
            container_name: container.name.clone(),
            resource_name: self.resource.to_owned(),
            request_name: request.to_owned(),
        };
        let mut there = 0;
        for request in self.requests[at..].iter().flatten().filter(|_| reuses) {
            there += count(request);
            mappings.push(mapping(&request.name));
            if there >= amount {
                return (None, mappings);
            }
        }
        let position = asked.into_iter().flatten().position(|(name, _)| name == self.resource);
        let name = format!("container-{at}-request-{}", position.unwrap_or(0));
        mappings.push(mapping(&name));
        let exactly = ExactDeviceRequest {
            device_class_name: self.class.metadata.name.clone().unwrap_or_default(),
            allocation_mode: Some("ExactCount".to_owned()),
            count: Some(amount - there),
            ..ExactDeviceRequest::default()
        };
        (Some(DeviceRequest { name, exactly: Some(exactly), first_available: None }), mappings)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(name: &str, amount: i64, restarts: Option<&str>) -> Value {
        let requests = json!({"cpu": "1", "e.com/gpu": amount.to_string()});
        json!({"name": name, "resources": {"requests": requests}, "restartPolicy": restarts})
    }

    /// `NAME=COUNT` of each request, and `CONTAINER:REQUEST` of each mapping.
    fn made(init: &[Value], main: &[Value]) -> (Vec<String>, Vec<String>) {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"initContainers": init, "containers": main}});
        let pod = PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap()));
        let class = serde_json::from_value(json!({"metadata": {"name": "gpu"}, "spec": {}}));
        let class = Arc::new(class.unwrap());
        let (requests, mappings) = requests(&pod, [("e.com/gpu", &class)].into_iter());
        let requests = requests.iter().map(|it| format!("{}={}", it.name, count(it)));
        let mappings =
            mappings.iter().map(|it| format!("{}:{}", it.container_name, it.request_name));
        (requests.collect(), mappings.collect())
    }

    #[test]
    fn each_container_has_a_request() {
        let main = vec![container("a", 2, None), container("b", 1, None)];
        let (requests, mappings) = made(&[], &main);
        assert_eq!(requests, ["container-0-request-1=2", "container-1-request-1=1"]);
        assert_eq!(mappings, ["a:container-0-request-1", "b:container-1-request-1"]);
    }

    #[test]
    fn what_ends_early_uses_what_comes_later() {
        let init = vec![
            container("i", 1, None),
            container("j", 5, None),
            container("s", 1, Some("Always")),
            container("k", 4, None),
        ];
        let (requests, mappings) = made(&init, &[container("m", 2, None)]);
        // The second wants two more than the sidecar and the container have, as does the last.
        assert_eq!(
            requests,
            ["container-1-request-1=2", "container-2-request-1=1", "container-4-request-1=2"]
        );
        assert_eq!(
            mappings,
            [
                "s:container-2-request-1",
                "m:container-4-request-1",
                "i:container-2-request-1",
                "j:container-2-request-1",
                "j:container-4-request-1",
                "j:container-1-request-1",
                "k:container-4-request-1",
                "k:container-1-request-1",
            ]
        );
    }
}
