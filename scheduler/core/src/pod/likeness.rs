//! The objects of pods, kept once for all that differ in nothing but their identity.
//!
//! What is a pod's own is in its [`super::PodInfo`]: name, uid, version, node, and of its status what
//! is read again. Everything else of the object is its *likeness*, which the pods of a controller
//! share. Pods that are being deleted keep their object to themselves.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pintle_api::resources::{Resources, placed_pod_requests_nonzero};
use rustc_hash::{FxHashMap, FxHasher};

use super::{AffinityTerms, Template, not_negative};

/// What pods that are alike share.
#[derive(Clone, Debug)]
pub(super) struct Likeness {
    pub(super) pod: Arc<Pod>,
    pub(super) template: Arc<Template>,
    pub(super) affinity: Option<Arc<AffinityTerms>>,
    /// `None` if it is what the template's `requests_nonzero` is.
    pub(super) placed_nonzero: Option<Arc<Resources>>,
}

impl Likeness {
    /// Works out what scheduling needs of the pod.
    pub(super) fn of(pod: Arc<Pod>) -> Self {
        Self {
            template: Arc::new(Template::new(&pod)),
            affinity: AffinityTerms::of(&pod).map(Arc::from),
            placed_nonzero: placed_pod_requests_nonzero(&pod).map(not_negative).map(Arc::new),
            pod,
        }
    }
}

/// The known likenesses, by a hash of some of what they are about.
#[derive(Debug, Default)]
pub(super) struct Likenesses {
    by_hash: FxHashMap<u64, Vec<Likeness>>,
    count: usize,
}

/// More than so many with one hash are not kept: pods that look alike to the hash and are not, such
/// as those with an annotation of their own, must not be compared with all before them.
const SAME_HASH_MAX: usize = 4;

/// More than so many are not kept: then all are forgotten. Pods that are there keep theirs.
const LIKENESSES_MAX: usize = 1 << 16;

impl Likenesses {
    /// What the pod shares with those like it; `make` works it out if there is none before it.
    pub(super) fn share(&mut self, pod: &Pod, make: impl FnOnce(Arc<Pod>) -> Likeness) -> Likeness {
        if self.count >= LIKENESSES_MAX {
            *self = Self::default();
        }
        let known = self.by_hash.entry(hash(pod)).or_default();
        if let Some(likeness) = known.iter().find(|known| is_alike(&known.pod, pod)) {
            return likeness.clone();
        }
        let likeness = make(Arc::new(without_identity(pod)));
        if known.len() == SAME_HASH_MAX {
            known.remove(0);
            self.count -= 1;
        }
        self.count += 1;
        known.push(likeness.clone());
        likeness
    }
}

fn hash(pod: &Pod) -> u64 {
    let mut hasher = FxHasher::default();
    let ObjectMeta { namespace, labels, generate_name, owner_references, .. } = &pod.metadata;
    (namespace, labels, generate_name).hash(&mut hasher);
    owner_references.iter().flatten().for_each(|owner| owner.uid.hash(&mut hasher));
    for container in pod.spec.iter().flat_map(|spec| &spec.containers) {
        (&container.name, &container.image).hash(&mut hasher);
        let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        for (name, amount) in requests.into_iter().flatten() {
            (name, &amount.0).hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn without_identity(pod: &Pod) -> Pod {
    let mut pod = Pod { status: None, ..pod.clone() };
    let ObjectMeta { annotations, generate_name, labels, namespace, owner_references, .. } =
        std::mem::take(&mut pod.metadata);
    pod.metadata = ObjectMeta {
        annotations,
        generate_name,
        labels,
        namespace,
        owner_references,
        ..ObjectMeta::default()
    };
    if let Some(spec) = &mut pod.spec {
        spec.node_name = None;
    }
    pod
}

/// Whether they differ in nothing but what is a pod's own.
pub(super) fn is_metadata_alike(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    a.namespace == b.namespace
        && a.labels == b.labels
        && a.annotations == b.annotations
        && a.generate_name == b.generate_name
        && a.owner_references == b.owner_references
}

/// Whether a likeness is that of the pod.
fn is_alike(likeness: &Pod, pod: &Pod) -> bool {
    is_metadata_alike(&likeness.metadata, &pod.metadata)
        && match (&likeness.spec, &pod.spec) {
            (Some(a), Some(b)) => is_spec_alike(a, b),
            (a, b) => a.is_none() && b.is_none(),
        }
}

macro_rules! alike_but {
    ($a:expr, $b:expr, $but:ident, $($field:ident)*) => {{
        // Every field is named, so that a new one has to be thought about.
        let PodSpec { $but: _, $($field: _),* } = $a;
        true $(&& $a.$field == $b.$field)*
    }};
}

/// Whether the specs differ in nothing but the node.
fn is_spec_alike(a: &PodSpec, b: &PodSpec) -> bool {
    alike_but!(
        a, b, node_name,
        containers affinity node_selector tolerations topology_spread_constraints volumes priority
        init_containers active_deadline_seconds automount_service_account_token dns_config
        dns_policy enable_service_links ephemeral_containers host_aliases host_ipc host_network
        host_pid host_users hostname hostname_override image_pull_secrets os overhead
        preemption_policy priority_class_name readiness_gates resource_claims resources
        restart_policy runtime_class_name scheduler_name scheduling_gates security_context
        service_account service_account_name set_hostname_as_fqdn share_process_namespace subdomain
        termination_grace_period_seconds workload_ref
    )
}

/// Whether the pod's status says of its requests something else than its spec does: a container is
/// being resized.
pub(super) fn is_resized(pod: &Pod) -> bool {
    let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else { return false };
    let statuses = status.container_statuses.iter().chain(&status.init_container_statuses);
    statuses.flatten().any(|status| {
        let Some(actuated) = &status.resources else { return false };
        let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let container = containers.find(|container| container.name == status.name);
        let asked = container.and_then(|c| c.resources.as_ref()?.requests.as_ref());
        let allocated = status.allocated_resources.as_ref();
        actuated.requests.as_ref() != asked || allocated.is_some_and(|some| Some(some) != asked)
    })
}

/// What is read again of the status of a pod: of one without a node everything, if it says anything;
/// of one with a node which claims were made for it, and whether it is to be disrupted.
pub(super) fn kept_status(pod: &Pod) -> Option<Box<PodStatus>> {
    let status = pod.status.as_ref()?;
    let is_bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let mut kept = if is_bound {
        PodStatus {
            conditions: status.conditions.clone(),
            resource_claim_statuses: status.resource_claim_statuses.clone(),
            ..PodStatus::default()
        }
    } else {
        status.clone()
    };
    if let Some(conditions) = kept.conditions.as_mut().filter(|_| is_bound) {
        conditions.retain(|condition| condition.type_ == DISRUPTION_TARGET);
    }
    kept.conditions = kept.conditions.filter(|conditions| !conditions.is_empty());
    let says_something = kept.conditions.is_some()
        || kept.resource_claim_statuses.is_some()
        || kept.nominated_node_name.is_some();
    says_something.then(|| Box::new(kept))
}

/// The condition of a pod that is about to be evicted.
pub(crate) const DISRUPTION_TARGET: &str = "DisruptionTarget";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pod::{PodInfo, Templates};
    use crate::testing;

    /// What a container's status says that it has of CPU; nothing, or what it asks for.
    fn resized() -> impl Strategy<Value = Option<String>> {
        prop_oneof![
            2 => Just(None),
            1 => Just(Some(String::new())),
            1 => (1..9_u32).prop_map(|cpu| Some(cpu.to_string())),
        ]
    }

    fn resize(pod: &mut Pod, cpu: &str) {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let statuses = containers.map(|container| {
            let asked = container.resources.as_ref().and_then(|r| r.requests.as_ref());
            let mut has = serde_json::json!(asked.cloned().unwrap_or_default());
            if !cpu.is_empty() {
                has["cpu"] = cpu.into();
            }
            serde_json::json!({"name": container.name, "image": "", "imageID": "", "ready": true,
                "restartCount": 0, "resources": {"requests": has}, "allocatedResources": has})
        });
        let statuses: Vec<_> = statuses.collect();
        let statuses = serde_json::from_value(statuses.into()).unwrap();
        pod.status.get_or_insert_default().container_statuses = Some(statuses);
    }

    proptest! {
        #[test]
        fn a_shared_pod_is_the_pod(
            pods in proptest::collection::vec((0..4, testing::pod("p".to_owned())), 1..6),
            repeated in proptest::collection::vec((0..6_usize, 0..3_u8, resized()), 1..20),
        ) {
            let mut templates = Templates::default();
            for (number, (at, node, resized)) in repeated.into_iter().enumerate() {
                let mut pod = pods[at % pods.len()].1.clone();
                pod.metadata.name = Some(format!("p{number}"));
                pod.metadata.uid = Some(format!("{number:08x}-0000-4000-8000-000000000000"));
                pod.metadata.resource_version = Some(number.to_string());
                pod.spec.get_or_insert_default().node_name = (node > 0).then(|| format!("n{node}"));
                if let Some(cpu) = &resized {
                    resize(&mut pod, cpu);
                }
                let pod = Arc::new(pod);
                let (own, shared) =
                    (PodInfo::new(Arc::clone(&pod)), PodInfo::shared(Arc::clone(&pod), &mut templates));
                if resized.is_none() {
                    prop_assert_eq!(&shared.object(), &*pod);
                    prop_assert_eq!(own.object(), shared.object());
                }
                prop_assert_eq!(&own.uid, &shared.uid);
                if node == 0 {
                    prop_assert_eq!(&own.template, &shared.template);
                }
                prop_assert_eq!(&own.requests, &shared.requests);
                prop_assert_eq!(&own.requests_nonzero, &shared.requests_nonzero);
                prop_assert_eq!(own.placed_nonzero(), shared.placed_nonzero());
                prop_assert_eq!(&own.host_ports, &shared.host_ports);
                prop_assert_eq!(own.scheduler_name(), shared.scheduler_name());
                prop_assert_eq!(own.name(), shared.name());
                prop_assert_eq!(own.node_name(), shared.node_name());
                prop_assert_eq!(own.object_uid(), shared.object_uid());
            }
        }
    }

    #[test]
    fn pods_of_one_template_share_and_others_do_not() {
        let pod = |name: &str, app: &str, node: Option<&str>| {
            let pod = serde_json::json!({"metadata": {"name": name, "labels": {"app": app}},
                "spec": {"containers": [{"name": "c"}], "nodeName": node}});
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let mut templates = Templates::default();
        let mut shared = |pod| PodInfo::shared(pod, &mut templates).pod;
        let a = shared(pod("a", "x", None));
        assert!(Arc::ptr_eq(&a, &shared(pod("b", "x", Some("n")))));
        assert!(!Arc::ptr_eq(&a, &shared(pod("a", "y", None))));
    }

    #[test]
    fn likenesses_are_bounded() {
        let mut likenesses = Likenesses::default();
        for number in 0..100 {
            let pod = serde_json::json!({"metadata": {"annotations": {"a": number.to_string()}}});
            likenesses.share(&serde_json::from_value(pod).unwrap(), Likeness::of);
        }
        assert_eq!((likenesses.count, likenesses.by_hash.len()), (SAME_HASH_MAX, 1));
    }
}
