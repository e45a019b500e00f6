//! The ResourceClaim controller: makes claims for pods from templates, and ends reservations.
//!
//! Mirrors pkg/controller/resourceclaim. This half makes the claims: a pod that names a
//! ResourceClaimTemplate gets a claim of its own, whose name goes into the pod's
//! `status.resourceClaimStatuses`, where the scheduler looks for it. The other half is
//! [`reservation`]. Not here: reserving claims for pods that were bound without the scheduler.

pub(crate) mod reservation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodResourceClaim, PodResourceClaimStatus};
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use pintle_client::{EventRecord, EventRecorder, Informer, ObjectKey, reference_to};
use serde_json::json;

use crate::owner::{controller_of, controller_reference};
use crate::work_queue::WorkQueue;
use crate::worker::Sync;
use crate::{Error, pod};

/// Says which of the pod's claims a claim was made for (`podResourceClaimAnnotation`).
const POD_CLAIM_NAME: &str = "resource.kubernetes.io/pod-claim-name";

/// The longest name that is made up before the random end (`maxGeneratedNameLength`).
const BASE_NAME_LENGTH_MAX: usize = 57;

/// For more pods than this it is not kept which claims were made: their status is written at once,
/// so only those whose writes fail are kept for long.
const MADE_MAX: usize = 10_000;

/// Works on pods.
pub(crate) struct ResourceClaimController {
    pub(crate) client: Client,
    pub(crate) claims: Informer<ResourceClaim>,
    /// The claims made for entries of pods, by the pod's uid: the cache may not show them yet.
    pub(crate) made: Mutex<HashMap<String, Vec<PodResourceClaimStatus>>>,
    pub(crate) pods: Informer<Pod>,
    pub(crate) queue: WorkQueue<ObjectKey>,
    pub(crate) recorder: EventRecorder,
    pub(crate) templates: Informer<ResourceClaimTemplate>,
}

impl ResourceClaimController {
    /// Let pods with templates queue themselves, and templates that appear the pods that wait.
    pub(crate) fn subscribe(&self) {
        let queue = self.queue.clone();
        self.pods.on_change(move |change| {
            if change.new.as_ref().is_some_and(|pod| from_templates(pod).next().is_some()) {
                queue.add(ObjectKey::of(&**change.latest()));
            }
        });
        let (queue, pods) = (self.queue.clone(), self.pods.clone());
        self.templates.on_change(move |change| {
            let Some(template) = &change.new else { return };
            let names = |wanted: &PodResourceClaim| {
                wanted.resource_claim_template_name == template.metadata.name
            };
            for pod in pods.in_namespace(template.metadata.namespace.as_deref().unwrap_or_default())
            {
                if from_templates(&pod).any(names) {
                    queue.add(ObjectKey::of(&*pod));
                }
            }
        });
    }

    /// The claim that was made for this entry of the pod, if there is one.
    async fn find_or_make(&self, pod: &Pod, wanted: &PodResourceClaim) -> Result<String, Error> {
        let claims =
            self.claims.in_namespace(pod.metadata.namespace.as_deref().unwrap_or_default());
        if let Some(name) = made_for(pod, wanted, &claims) {
            return Ok(name);
        }
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let known = self.made.lock().get(&uid).and_then(|made| {
            made.iter().find(|made| made.name == wanted.name)?.resource_claim_name.clone()
        });
        if let Some(name) = known {
            return Ok(name);
        }
        let template = wanted.resource_claim_template_name.as_deref().unwrap_or_default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let Some(template) = self.templates.get(&ObjectKey::new(namespace, template)) else {
            return Err(Error::Object(format!(
                "resource claim template \"{template}\": \
                 resourceclaimtemplate.resource.k8s.io \"{template}\" not found"
            )));
        };
        let api: Api<ResourceClaim> = Api::namespaced(self.client.clone(), namespace);
        let claim = draft(pod, wanted, &template);
        let act = format!("create resource claim for pod {}", ObjectKey::of(pod));
        let made = api.create(&PostParams::default(), &claim).await.map_err(Error::api(act))?;
        let status = PodResourceClaimStatus {
            name: wanted.name.clone(),
            resource_claim_name: made.metadata.name.clone(),
        };
        let mut all = self.made.lock();
        if all.len() >= MADE_MAX {
            all.clear();
        }
        all.entry(uid).or_default().push(status);
        Ok(made.metadata.name.unwrap_or_default())
    }

    async fn write_status(
        &self,
        pod: &Pod,
        statuses: &[PodResourceClaimStatus],
    ) -> Result<(), Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        // The list is written whole, so it must be the one that was read.
        let patch = Patch::Merge(json!({
            "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
            "status": {"resourceClaimStatuses": statuses},
        }));
        let written = api.patch_status(name, &PatchParams::default(), &patch).await;
        let act = format!("write the claims of pod {}", ObjectKey::of(pod));
        written.map(|_| ()).map_err(Error::api(act))
    }
}

impl Sync for ResourceClaimController {
    const NAME: &'static str = "resource_claim";

    async fn sync(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(pod) = self.pods.get(key).filter(|pod| needs_claims(pod)) else { return Ok(()) };
        let mut statuses = statuses(&pod).to_vec();
        let missing: Vec<&PodResourceClaim> = from_templates(&pod)
            .filter(|wanted| !statuses.iter().any(|status| status.name == wanted.name))
            .collect();
        if missing.is_empty() {
            self.made.lock().remove(pod.metadata.uid.as_deref().unwrap_or_default());
            return Ok(());
        }
        for wanted in missing {
            match self.find_or_make(&pod, wanted).await {
                Ok(name) => statuses.push(PodResourceClaimStatus {
                    name: wanted.name.clone(),
                    resource_claim_name: Some(name),
                }),
                Err(error) => {
                    let message = format!(
                        "PodResourceClaim {}: {}",
                        wanted.name,
                        std::error::Error::source(&error).unwrap_or(&error)
                    );
                    let event = EventRecord::warning("FailedResourceClaimCreation", message);
                    self.recorder.record(reference_to(&*pod), event);
                    return Err(error);
                }
            }
        }
        self.write_status(&pod, &statuses).await
    }
}

/// Whether the pod is still going to use its claims.
fn needs_claims(pod: &Pod) -> bool {
    !pod::is_terminal(pod) && !pod::is_terminating(pod)
}

/// The pod's claims that are made from templates.
fn from_templates(pod: &Pod) -> impl Iterator<Item = &PodResourceClaim> {
    let claims = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref());
    let claims = claims.unwrap_or_default().iter();
    claims.filter(|claim| claim.resource_claim_template_name.is_some())
}

fn statuses(pod: &Pod) -> &[PodResourceClaimStatus] {
    let status = pod.status.as_ref();
    status.and_then(|status| status.resource_claim_statuses.as_deref()).unwrap_or_default()
}

/// The claim that the pod controls and that says that it was made for this entry.
fn made_for(pod: &Pod, wanted: &PodResourceClaim, claims: &[Arc<ResourceClaim>]) -> Option<String> {
    let is_it = |claim: &&Arc<ResourceClaim>| {
        let annotations = claim.metadata.annotations.as_ref();
        let made_for = annotations.and_then(|annotations| annotations.get(POD_CLAIM_NAME));
        claim.metadata.namespace == pod.metadata.namespace
            && claim.metadata.deletion_timestamp.is_none()
            && controller_of(&claim.metadata).map(|owner| &owner.uid) == pod.metadata.uid.as_ref()
            && made_for == Some(&wanted.name)
    };
    claims.iter().find(is_it)?.metadata.name.clone()
}

/// The claim as it is created: the template's, owned by the pod, under a made-up name.
fn draft(pod: &Pod, wanted: &PodResourceClaim, template: &ResourceClaimTemplate) -> ResourceClaim {
    let from = template.spec.metadata.clone().unwrap_or_default();
    let mut annotations: BTreeMap<String, String> = from.annotations.unwrap_or_default();
    annotations.insert(POD_CLAIM_NAME.to_owned(), wanted.name.clone());
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let mut base = format!("{pod_name}-{}-", wanted.name);
    if base.len() > BASE_NAME_LENGTH_MAX {
        base.truncate(base.floor_char_boundary(BASE_NAME_LENGTH_MAX - 1));
        base.push('-');
    }
    ResourceClaim {
        metadata: ObjectMeta {
            annotations: Some(annotations),
            generate_name: Some(base),
            labels: from.labels,
            namespace: pod.metadata.namespace.clone(),
            owner_references: Some(vec![controller_reference(pod)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.spec.clone(),
        status: None,
    }
}
