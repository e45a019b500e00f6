//! The `NamespaceLifecycle` admission plugin: nothing is created in a namespace that is missing or
//! on its way out, and the cluster's own namespaces stay.
//!
//! Mirrors k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle.

use pintle_api::scheme::{self, Kind, Resource};
use pintle_api::status::{Status, Subject};
use serde_json::Value;

use crate::object;
use crate::storage::subject;

/// Whether an object may be created in a namespace; `found` is the namespace, if it exists.
pub(crate) fn may_create(
    resource: &Resource,
    name: &str,
    namespace: &str,
    found: Option<&Value>,
) -> Result<(), Status> {
    let Some(found) = found else {
        let namespaces = scheme::of(Kind::Namespace);
        let plural = namespaces.map_or("namespaces", |resource| resource.plural);
        return Err(Status::not_found(Subject { group: "", kind: plural, name: namespace }));
    };
    if !object::is_deleting(found) {
        return Ok(());
    }
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    Err(Status::forbidden(subject(resource, name), &why).cause(
        "NamespaceTerminating",
        &format!("namespace {namespace} is being terminated"),
        "metadata.namespace",
    ))
}

/// Whether a namespace may be deleted.
pub(crate) fn may_delete(name: &str) -> Result<(), Status> {
    if IMMORTAL.contains(&name) {
        let subject = Subject { group: "", kind: "namespaces", name };
        return Err(Status::forbidden(subject, "this namespace may not be deleted"));
    }
    Ok(())
}

const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn configmaps() -> &'static Resource {
        scheme::of(Kind::ConfigMap).unwrap()
    }

    #[test]
    fn missing_and_terminating_namespaces_take_nothing() {
        let missing = may_create(configmaps(), "a", "team", None).unwrap_err();
        assert_eq!((missing.code(), missing.message()), (404, "namespaces \"team\" not found"));
        let dying = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let refused = may_create(configmaps(), "a", "team", Some(&dying)).unwrap_err();
        assert_eq!(refused.code(), 403);
        assert_eq!(
            refused.message(),
            "configmaps \"a\" is forbidden: unable to create new content in namespace team \
             because it is being terminated"
        );
        assert!(may_create(configmaps(), "a", "team", Some(&json!({"metadata": {}}))).is_ok());
    }

    #[test]
    fn the_clusters_own_namespaces_stay() {
        assert_eq!(may_delete("kube-system").unwrap_err().code(), 403);
        assert!(may_delete("team").is_ok());
    }
}
