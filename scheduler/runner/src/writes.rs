//! Writes to pods: through an API server in the same process where there is one, else by requests
//! whose answers are passed over rather than decoded, which would cost more than the rest of them.

use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Client, Resource as _};
use pintle_client::{PodBinding, PodDeletion, PodEviction, PodStatusChange};
use pintle_scheduler_core::PodInfo;
use serde::de::IgnoredAny;

use crate::config::InProcessWriter;

/// Who writes pods. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writes {
    pub(crate) client: Client,
    pub(crate) in_process: Option<InProcessWriter>,
}

impl Writes {
    /// POSTs `pods/NAME/binding`.
    pub(crate) async fn bind(&self, binding: PodBinding<'_>) -> kube::Result<()> {
        if let Some(InProcessWriter(api_server)) = &self.in_process {
            return api_server.bind(binding).await;
        }
        let body = serde_json::to_vec(&body_of(&binding)).map_err(kube::Error::SerdeError)?;
        let request = pods(binding.namespace);
        let params = PostParams::default();
        self.send(request.create_subresource("binding", binding.name, &params, body)).await
    }

    /// PATCHes `pods/NAME/status`, strategically.
    pub(crate) async fn change_status(&self, change: PodStatusChange<'_>) -> kube::Result<()> {
        if let Some(InProcessWriter(api_server)) = &self.in_process {
            return api_server.change_status(change).await;
        }
        let (patch, params) = (Patch::Strategic(change.patch()), PatchParams::default());
        let request = pods(change.namespace);
        self.send(request.patch_subresource("status", change.name, &params, &patch)).await
    }

    /// DELETEs the pod.
    pub(crate) async fn delete(&self, deletion: PodDeletion<'_>) -> kube::Result<()> {
        if let Some(InProcessWriter(api_server)) = &self.in_process {
            return api_server.delete(deletion).await;
        }
        let uid = deletion.uid.map(str::to_owned);
        let preconditions = Some(Preconditions { uid, resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        self.send(pods(deletion.namespace).delete(deletion.name, &params)).await
    }

    /// Says why, and DELETEs the pod.
    pub(crate) async fn evict(&self, eviction: PodEviction<'_>) -> kube::Result<()> {
        if let Some(InProcessWriter(api_server)) = &self.in_process {
            return api_server.evict(eviction).await;
        }
        self.change_status(eviction.change()).await?;
        self.delete(eviction.deletion).await
    }

    async fn send(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> kube::Result<()> {
        let request = request.map_err(kube::Error::BuildRequest)?;
        self.client.request::<IgnoredAny>(request).await.map(|_| ())
    }
}

/// The pod, as an event's `involvedObject`.
pub(crate) fn reference(pod: &PodInfo) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.name().to_owned()),
        namespace: Some(pod.namespace().to_owned()),
        resource_version: pod.resource_version().map(str::to_owned),
        uid: pod.object_uid(),
        ..ObjectReference::default()
    }
}

fn pods(namespace: &str) -> Request {
    Request::new(Pod::url_path(&(), Some(namespace)))
}

fn body_of(binding: &PodBinding<'_>) -> Binding {
    Binding {
        metadata: ObjectMeta {
            name: Some(binding.name.to_owned()),
            namespace: Some(binding.namespace.to_owned()),
            uid: binding.uid.map(str::to_owned),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(binding.node.to_owned()),
            ..ObjectReference::default()
        },
    }
}
