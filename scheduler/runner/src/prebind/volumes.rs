//! Volumes before a pod is bound: the scheduler writes its choice, and waits for those who carry it
//! out.
//!
//! Mirrors `bindAPIUpdate` and `BindPodVolumes` of kube-scheduler's volume binder. What is looked at
//! while waiting is what the informers saw. It differs in one thing: a volume that another pod's turn
//! bound to the same claim meanwhile is taken as it is, where upstream tries the pod again.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::framework::Step;
use pintle_scheduler_core::plugins::volume_binding::is_carried_out;

use crate::shared::Shared;

/// How often it is looked whether the claims are bound, among what the informers saw.
const POLL: Duration = Duration::from_millis(200);

/// Writes the volume with its `claimRef`, at the version that the decision was made from.
pub(super) async fn bind(
    client: &Client,
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
) -> kube::Result<()> {
    let api: Api<PersistentVolume> = Api::all(client.clone());
    let name = volume.name_any();
    match api.replace(&name, &PostParams::default(), volume).await {
        Err(kube::Error::Api(status)) if status.is_conflict() => {
            let latest = api.get(&name).await?;
            let refused = Err(kube::Error::Api(status));
            if is_bound_to(&latest, claim) { Ok(()) } else { refused }
        }
        written => written.map(|_| ()),
    }
}

fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    reference.is_some_and(|reference| reference.uid.is_some() && reference.uid == claim.uid())
}

/// Writes the claim with its selected node, at the version that the decision was made from.
pub(super) async fn provision(client: &Client, claim: &PersistentVolumeClaim) -> kube::Result<()> {
    let namespace = claim.namespace().unwrap_or_default();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    api.replace(&claim.name_any(), &PostParams::default(), claim).await.map(|_| ())
}

/// Whether the step has to be waited for.
pub(super) fn must_wait(step: &Step) -> bool {
    match step {
        Step::BindVolume { .. } | Step::ProvisionVolume { .. } | Step::AwaitVolume { .. } => true,
        Step::CreateClaim { .. } | Step::DeleteClaim { .. } | Step::WriteClaim { .. } => false,
    }
}

/// Waits until the claims of all steps are bound; the error is why they never will be, or that
/// they are late.
pub(super) async fn wait(
    shared: &Shared,
    pod: &PodInfo,
    node: &str,
    steps: &[Step],
    timeout: Duration,
) -> Result<(), String> {
    let all = async {
        while !are_carried_out(shared, pod, node, steps)? {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    };
    let late = |_| "context deadline exceeded".to_owned();
    tokio::time::timeout(timeout, all).await.map_err(late)?
}

fn are_carried_out(
    shared: &Shared,
    pod: &PodInfo,
    node: &str,
    steps: &[Step],
) -> Result<bool, String> {
    let scheduler = shared.lock();
    let snapshot = scheduler.snapshot();
    let place = snapshot.get(node);
    if place.is_some_and(|place| place.pods().iter().all(|other| other.uid != pod.uid)) {
        return Err(format!("pod does not exist any more: pod {:?} not found", pod.name()));
    }
    for step in steps {
        if !is_carried_out(step, node, snapshot)? {
            return Ok(false);
        }
    }
    Ok(true)
}
