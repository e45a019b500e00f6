//! Writes of pods without the form of a request: what a scheduler uses whose API server is in the
//! same process, where writing and reading HTTP and JSON costs more than the write itself.

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::PodCondition;
use serde_json::{Map, Value, json};

/// A pod and the node that it is to be on.
#[derive(Clone, Copy, Debug)]
pub struct PodBinding<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub name: &'a str,
    /// The pod's uid, so that another pod of its name is not bound by mistake.
    pub uid: Option<&'a str>,
    /// The node's name.
    pub node: &'a str,
}

/// What of a pod's status is to be another.
#[derive(Clone, Copy, Debug)]
pub struct PodStatusChange<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub name: &'a str,
    /// The pod's uid, so that another pod of its name is not changed by mistake.
    pub uid: Option<&'a str>,
    /// The version that the pod must have.
    pub resource_version: Option<&'a str>,
    /// Goes in the place of the condition of its type.
    pub condition: Option<&'a PodCondition>,
    /// `status.nominatedNodeName`; `Some(None)` takes it away.
    pub nominated_node: Option<Option<&'a str>>,
}

impl PodStatusChange<'_> {
    /// The strategic merge patch of `pods/NAME/status` that says the same.
    pub fn patch(&self) -> Value {
        let texts = [("resourceVersion", self.resource_version), ("uid", self.uid)];
        let texts =
            texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?.into())));
        let metadata: Map<String, Value> = texts.collect();
        let mut status = Map::new();
        if let Some(condition) = self.condition {
            status.insert("conditions".to_owned(), json!([condition]));
        }
        if let Some(node) = self.nominated_node {
            status.insert("nominatedNodeName".to_owned(), json!(node));
        }
        json!({"metadata": metadata, "status": status})
    }
}

/// A pod that is to go, with the grace that it asks for.
#[derive(Clone, Copy, Debug)]
pub struct PodDeletion<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub name: &'a str,
    /// The pod's uid, so that another pod of its name is not deleted by mistake.
    pub uid: Option<&'a str>,
}

/// A pod that is told why it has to go, and then to go.
#[derive(Clone, Copy, Debug)]
pub struct PodEviction<'a> {
    /// The pod.
    pub deletion: PodDeletion<'a>,
    /// What it is told.
    pub condition: &'a PodCondition,
}

impl<'a> PodEviction<'a> {
    /// What is told, as a write of its own.
    pub fn change(&self) -> PodStatusChange<'a> {
        let PodDeletion { namespace, name, uid } = self.deletion;
        PodStatusChange {
            namespace,
            name,
            uid,
            resource_version: None,
            condition: Some(self.condition),
            nominated_node: None,
        }
    }
}

/// Who answers as an API server does. Refusals are those of the API, [`kube::Error::Api`].
pub trait PodWriter: Send + Sync {
    /// As a POST of `pods/NAME/binding`.
    fn bind<'a>(&'a self, binding: PodBinding<'a>) -> BoxFuture<'a, kube::Result<()>>;

    /// As a PATCH of `pods/NAME/status` with [`PodStatusChange::patch`].
    fn change_status<'a>(&'a self, change: PodStatusChange<'a>) -> BoxFuture<'a, kube::Result<()>>;

    /// As a DELETE of `pods/NAME`.
    fn delete<'a>(&'a self, deletion: PodDeletion<'a>) -> BoxFuture<'a, kube::Result<()>>;

    /// As [`PodWriter::change_status`] with what the pod is told, and then [`PodWriter::delete`].
    fn evict<'a>(&'a self, eviction: PodEviction<'a>) -> BoxFuture<'a, kube::Result<()>>;
}
