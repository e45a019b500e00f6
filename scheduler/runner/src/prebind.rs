//! Carries out what plugins reserved for a pod, before the pod is bound: upstream's PreBind.
//!
//! Volumes are bound by whoever watches them: the scheduler writes its choice and waits until the
//! claim says that it is bound. Claims of devices are written whole.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::framework::Step;
use serde::de::DeserializeOwned;

use crate::shared::Shared;

mod claims;
mod volumes;

pub(crate) use claims::unreserve;

/// Tries to write a claim that others write too.
const CLAIM_TRIES_MAX: usize = 5;

/// Why a step failed, as FailedScheduling says it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A write was refused.
    #[error("running PreBind plugin \"{plugin}\": {act}: {source}")]
    Write {
        plugin: &'static str,
        act: &'static str,
        #[source]
        source: kube::Error,
    },
    /// A volume was refused, or waited for in vain.
    #[error("running PreBind plugin \"VolumeBinding\": {0}")]
    Volume(String),
}

/// Writes what the steps say of the pod. What then has to be waited for is [`wait`]'s.
pub(crate) async fn write(client: &Client, pod: &PodInfo, steps: &[Step]) -> Result<(), Error> {
    for step in steps {
        match step {
            Step::BindVolume { volume, claim } => {
                volumes::bind(client, volume, claim).await.map_err(volume_error)?;
            }
            Step::ProvisionVolume { claim } => {
                volumes::provision(client, claim).await.map_err(volume_error)?;
            }
            Step::AwaitVolume { .. } => {}
            Step::CreateClaim { claim, mappings } => {
                let created = claims::create(client, pod, claim, mappings).await;
                created.map_err(|source| device_error("create a resource claim", source))?;
            }
            Step::DeleteClaim { claim } => {
                let deleted = claims::delete(client, claim).await;
                deleted.map_err(|source| device_error("delete a resource claim", source))?;
            }
            Step::WriteClaim { old, new } => {
                let written = write_claim(client, old, new).await;
                written.map_err(|source| device_error("write a resource claim", source))?;
            }
        }
    }
    Ok(())
}

fn device_error(act: &'static str, source: kube::Error) -> Error {
    Error::Write { plugin: "DynamicResources", act, source }
}

fn volume_error(error: kube::Error) -> Error {
    Error::Volume(match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    })
}

/// Whether [`wait`] has anything to wait for.
pub(crate) fn must_wait(steps: &[Step]) -> bool {
    steps.iter().any(volumes::must_wait)
}

/// Waits until every claim is bound, at most so long.
pub(crate) async fn wait(
    shared: &Shared,
    pod: &PodInfo,
    node: &str,
    steps: &[Step],
    timeout: Duration,
) -> Result<(), Error> {
    let waited = volumes::wait(shared, pod, node, steps, timeout).await;
    waited.map_err(|why| Error::Volume(format!("binding volumes: {why}")))
}

fn in_namespace_of<T>(client: &Client, object: &T) -> Api<T>
where
    T: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    Api::namespaced(client.clone(), namespace)
}

async fn replace<T>(api: &Api<T>, object: &T) -> kube::Result<T>
where
    T: kube::Resource<DynamicType = ()> + Clone + fmt::Debug + serde::Serialize + DeserializeOwned,
{
    api.replace(&object.name_any(), &PostParams::default(), object).await
}

/// Writes a claim's finalizers, then its status. Where others reserved the claim meanwhile, what
/// this pod needs is added to what they wrote.
async fn write_claim(
    client: &Client,
    old: &ResourceClaim,
    new: &ResourceClaim,
) -> kube::Result<()> {
    let api = in_namespace_of::<ResourceClaim>(client, new);
    let mut wanted = new.clone();
    for attempt in 1.. {
        match try_write_claim(&api, &wanted).await {
            Err(kube::Error::Api(status)) if status.is_conflict() && attempt < CLAIM_TRIES_MAX => {}
            result => return result,
        }
        let latest = api.get(&new.name_any()).await?;
        match merge(old, new, latest) {
            Some(merged) => wanted = merged,
            None => return try_write_claim(&api, &wanted).await,
        }
    }
    Ok(())
}

async fn try_write_claim(api: &Api<ResourceClaim>, wanted: &ResourceClaim) -> kube::Result<()> {
    let name = wanted.name_any();
    let mut wanted = wanted.clone();
    let seen = api.get_metadata(&name).await?;
    if seen.finalizers() != wanted.finalizers() {
        let written = replace(api, &wanted).await?;
        wanted.metadata = written.metadata;
    }
    api.replace_status(&name, &PostParams::default(), &wanted).await.map(|_| ())
}

/// What `new` adds to `old`, added to `latest`; `None` if that is no longer possible.
fn merge(
    old: &ResourceClaim,
    new: &ResourceClaim,
    mut latest: ResourceClaim,
) -> Option<ResourceClaim> {
    let wanted = new.status.as_ref()?;
    let allocation = wanted.allocation.as_ref()?;
    if latest.metadata.uid != new.metadata.uid || latest.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let status = latest.status.get_or_insert_default();
    match &status.allocation {
        Some(other) if other != allocation => return None,
        _ => status.allocation = Some(allocation.clone()),
    }
    let reserved = |claim: &ResourceClaim| -> BTreeSet<String> {
        let consumers = claim.status.iter().flat_map(|s| s.reserved_for.iter().flatten());
        consumers.map(|consumer| consumer.uid.clone()).collect()
    };
    let before = reserved(old);
    let consumers = status.reserved_for.get_or_insert_default();
    for consumer in wanted.reserved_for.iter().flatten() {
        let is_there = consumers.iter().any(|other| other.uid == consumer.uid);
        if !before.contains(&consumer.uid) && !is_there {
            consumers.push(consumer.clone());
        }
    }
    let finalizers = latest.metadata.finalizers.get_or_insert_default();
    for finalizer in new.finalizers() {
        if !finalizers.contains(finalizer) {
            finalizers.push(finalizer.clone());
        }
    }
    Some(latest)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(version: &str, allocation: &Value, reserved: &[&str]) -> ResourceClaim {
        let reserved: Vec<Value> = reserved
            .iter()
            .map(|uid| json!({"name": uid, "uid": uid, "resource": "pods"}))
            .collect();
        let status = json!({"allocation": allocation, "reservedFor": reserved});
        serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "d", "uid": "u",
            "resourceVersion": version}, "spec": {}, "status": status}))
        .unwrap()
    }

    #[test]
    fn a_claim_that_others_reserved_too_is_shared() {
        let here = json!({"allocationTimestamp": "2025-01-01T00:00:00Z"});
        let elsewhere = json!({"allocationTimestamp": "2025-01-02T00:00:00Z"});
        let old = claim("1", &Value::Null, &[]);
        let new = claim("1", &here, &["mine"]);
        let merged = merge(&old, &new, claim("2", &here, &["theirs"])).unwrap();
        assert_eq!(merged.status, claim("2", &here, &["theirs", "mine"]).status);
        assert_eq!(merged.resource_version().as_deref(), Some("2"));
        assert_eq!(merge(&old, &new, claim("2", &elsewhere, &["theirs"])), None);
        // A claim that is to lose its allocation is not insisted on.
        assert_eq!(merge(&new, &old, claim("2", &here, &["theirs"])), None);
    }
}
