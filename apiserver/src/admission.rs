//! Admission of new objects: what kube-apiserver's always-on plugins do.
//!
//! NamespaceLifecycle, ServiceAccount (the name alone: pods are not refused when the account is
//! missing), DefaultTolerationSeconds, DefaultStorageClass, Priority and TaintNodesByCondition.
//! Webhooks, quotas and limit ranges are not served, and no finalizer protects volumes in use.

mod default_storage_class;
mod default_toleration_seconds;
mod namespace_lifecycle;
mod priority;
mod service_account;
mod taint_nodes_by_condition;

use pintle_api::scheme::{self, Kind, Resource};
use pintle_api::status::Status;
use serde_json::Value;

use crate::server::Core;
use crate::{object, storage};

pub(crate) use namespace_lifecycle::may_delete;

/// Change or refuse a new object, before its defaults are set.
pub(crate) async fn create(
    core: &Core,
    resource: &Resource,
    namespace: &str,
    object: &mut Value,
) -> Result<(), Status> {
    if resource.namespaced {
        check_namespace(core, resource, namespace, object::name(object)).await?;
    }
    match resource.kind {
        Kind::Node => taint_nodes_by_condition::admit(object),
        Kind::PersistentVolumeClaim => {
            let classes = scheme::of(Kind::StorageClass).map(|kind| core.cache.list(kind, "").0);
            default_storage_class::admit(object, &classes.unwrap_or_default());
        }
        Kind::Pod => {
            service_account::admit(object);
            default_toleration_seconds::admit(object);
            let classes = scheme::of(Kind::PriorityClass).map(|kind| core.cache.list(kind, "").0);
            priority::admit(object, &classes.unwrap_or_default()).map_err(|why| {
                Status::forbidden(storage::subject(resource, object::name(object)), &why)
            })?;
        }
        _ => {}
    }
    Ok(())
}

/// Refuse a new object in a namespace that is missing or on its way out.
pub(crate) async fn check_namespace(
    core: &Core,
    resource: &Resource,
    namespace: &str,
    name: &str,
) -> Result<(), Status> {
    let Some(namespaces) = scheme::of(Kind::Namespace) else { return Ok(()) };
    if let Some(entry) = core.cache.get(namespaces, "", namespace) {
        let found = Some(entry.decoded());
        return namespace_lifecycle::may_create(resource, name, namespace, found);
    }
    // It may be so new that the cache has not seen it yet.
    let kv = core.storage.raw(storage::key(namespaces, "", namespace)).await?;
    let found = kv.map(|kv| storage::decode(&kv.value)).transpose()?;
    namespace_lifecycle::may_create(resource, name, namespace, found.as_ref())
}
