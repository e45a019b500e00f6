//! Ends the reservations of claims for pods that are gone, and gives unused devices free.
//!
//! A claim that is reserved for no one loses its devices and the finalizer that protects them; one
//! that was made for a pod that is gone is deleted.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use pintle_client::{Informer, ObjectKey};

use crate::owner::controller_of;
use crate::work_queue::WorkQueue;
use crate::worker::Sync;
use crate::{Error, pod};

/// Keeps a claim from being deleted while it has devices (`resourceapi.Finalizer`).
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

/// Works on claims.
pub(crate) struct ReservationController {
    pub(crate) client: Client,
    pub(crate) claims: Informer<ResourceClaim>,
    pub(crate) pods: Informer<Pod>,
    pub(crate) queue: WorkQueue<ObjectKey>,
}

/// What to do about a claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The consumers that are left, if some are gone.
    pub(super) reserved_for: Option<Vec<ResourceClaimConsumerReference>>,
    /// Take its devices away.
    pub(super) deallocate: bool,
    /// Then take the finalizer away.
    pub(super) unprotect: bool,
    /// Then delete it.
    pub(super) delete: bool,
}

/// What to do about the claim, where `is_using` says of a pod whether it is there under this uid and
/// still going to use the claim.
pub(super) fn plan(claim: &ResourceClaim, is_using: impl Fn(&str, &str) -> bool) -> Plan {
    let status = claim.status.as_ref();
    let reserved = status.and_then(|status| status.reserved_for.as_deref()).unwrap_or_default();
    let is_valid = |consumer: &&ResourceClaimConsumerReference| {
        let is_pod = consumer.resource == "pods"
            && consumer.api_group.as_deref().unwrap_or_default().is_empty();
        // Others than pods are not known here.
        !is_pod || is_using(&consumer.name, &consumer.uid)
    };
    let valid: Vec<_> = reserved.iter().filter(is_valid).cloned().collect();
    let (lost, unused) = (valid.len() < reserved.len(), valid.is_empty());
    let is_allocated = status.is_some_and(|status| status.allocation.is_some());
    let is_going = claim.metadata.deletion_timestamp.is_some();
    let protected = claim.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER);
    // A claim that was never used keeps its devices: its pod is about to use it.
    let release = unused && (lost || is_going);
    let owner = controller_of(&claim.metadata).filter(|owner| owner.kind == "Pod");
    let owner_is_done = owner.is_some_and(|owner| !is_using(&owner.name, &owner.uid));
    Plan {
        deallocate: (release || (unused && owner_is_done)) && is_allocated,
        unprotect: (release || (unused && (owner_is_done || !is_allocated))) && protected,
        delete: unused && owner_is_done && !is_going,
        reserved_for: lost.then_some(valid),
    }
}

impl ReservationController {
    /// Let claims queue themselves, and pods that change the claims that they use.
    pub(crate) fn subscribe(&self) {
        let queue = self.queue.clone();
        self.claims.on_change(move |change| {
            if change.new.is_some() {
                queue.add(ObjectKey::of(&**change.latest()));
            }
        });
        let queue = self.queue.clone();
        self.pods.on_change(move |change| {
            let pod = change.latest();
            if change.new.as_ref().is_none_or(|pod| !uses_claims(pod)) {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                claim_names(pod).for_each(|name| queue.add(ObjectKey::new(namespace, name)));
            }
        });
    }

    fn is_using(&self, namespace: &str, name: &str, uid: &str) -> bool {
        let pod = self.pods.get(&ObjectKey::new(namespace, name));
        pod.is_some_and(|pod| pod.metadata.uid.as_deref() == Some(uid) && uses_claims(&pod))
    }

    async fn carry_out(&self, claim: Arc<ResourceClaim>, plan: Plan) -> Result<(), Error> {
        let key = ObjectKey::of(&*claim);
        let api: Api<ResourceClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        let mut claim = Arc::unwrap_or_clone(claim);
        if plan.reserved_for.is_some() || plan.deallocate {
            let status = claim.status.get_or_insert_default();
            if let Some(valid) = plan.reserved_for {
                status.reserved_for = (!valid.is_empty()).then_some(valid);
            }
            if plan.deallocate {
                status.allocation = None;
                status.devices = None;
            }
            let written = api.replace_status(&key.name, &PostParams::default(), &claim).await;
            claim = written.map_err(Error::api(format!("end reservations of claim {key}")))?;
        }
        if plan.unprotect {
            let finalizers = claim.metadata.finalizers.get_or_insert_default();
            finalizers.retain(|finalizer| finalizer != FINALIZER);
            let written = api.replace(&key.name, &PostParams::default(), &claim).await;
            claim = written.map_err(Error::api(format!("unprotect claim {key}")))?;
        }
        if plan.delete {
            let preconditions = Preconditions {
                uid: claim.metadata.uid,
                resource_version: claim.metadata.resource_version,
            };
            let params =
                DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            let deleted = api.delete(&key.name, &params).await;
            deleted.map_err(Error::api(format!("delete claim {key}")))?;
        }
        Ok(())
    }
}

impl Sync for ReservationController {
    const NAME: &'static str = "resource_claim_reservation";

    async fn sync(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(claim) = self.claims.get(key) else { return Ok(()) };
        let plan = plan(&claim, |name, uid| self.is_using(&key.namespace, name, uid));
        match self.carry_out(claim, plan).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }
}

/// Whether the pod may still use its claims: a pod that ended does not, nor one that was deleted
/// before it was bound.
fn uses_claims(pod: &Pod) -> bool {
    let was_never_bound = pod::node_name(pod).is_empty() && pod::is_terminating(pod);
    !pod::is_terminal(pod) && !was_never_bound
}

/// The claims of the pod, named and made.
fn claim_names(pod: &Pod) -> impl Iterator<Item = &str> {
    let named = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
    let named = named.filter_map(|claim| claim.resource_claim_name.as_deref());
    let made = super::statuses(pod).iter();
    named.chain(made.filter_map(|status| status.resource_claim_name.as_deref()))
}
