//! The binding of a pod to a node: by an extender that binds, or as DefaultBinder writes it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use pintle_client::PodBinding;
use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::framework::{Extender as _, ExtenderError};
use serde::de::IgnoredAny;

use crate::HttpExtender;
use crate::config::InProcessBind;

/// Who binds pods.
#[derive(Clone)]
pub(crate) struct Binder {
    pub(crate) client: Client,
    /// It binds the pods it is interested in.
    pub(crate) extender: Option<Arc<HttpExtender>>,
    /// It binds the others, if it is there.
    pub(crate) in_process: Option<InProcessBind>,
}

/// Why a pod is not bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// The API server refused, or could not be reached.
    #[error("running Bind plugin \"DefaultBinder\": {0}")]
    Default(kube::Error),
    /// The extender refused, or could not be reached.
    #[error("{0}")]
    Extender(ExtenderError),
}

impl BindError {
    /// Whether there is no such pod any more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Default(kube::Error::Api(status)) if status.is_not_found())
    }
}

impl Binder {
    /// Binds the pod. One that the extender fails to bind, if that may be ignored, is bound here.
    pub(crate) async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), BindError> {
        if let Some(extender) = self.extender.as_ref().filter(|it| it.is_interested(pod)) {
            match extender.bind(pod, node).await {
                Err(error) if extender.is_ignorable() => {
                    let extender = extender.name();
                    tracing::warn!(extender, %error, "bind without an extender that failed");
                }
                bound => return bound.map_err(BindError::Extender),
            }
        }
        let bound = match &self.in_process {
            Some(InProcessBind(api_server)) => {
                let uid = pod.object_uid();
                let (namespace, name) = (pod.namespace(), pod.name());
                let binding = PodBinding { namespace, name, uid: uid.as_deref(), node };
                api_server.bind(binding).await
            }
            None => write(&self.client, pod, node).await,
        };
        bound.map_err(BindError::Default)
    }
}

/// POSTs `pods/NAME/binding`. The pod's uid goes with it, so that a pod created again under the
/// same name is not bound by mistake.
async fn write(client: &Client, pod: &PodInfo, node: &str) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), pod.namespace());
    let (binding, params) = (binding(pod, node), PostParams::default());
    let answer = api.create_subresource("binding", pod.name(), &params, &binding).await;
    answer.map(|IgnoredAny| ())
}

fn binding(pod: &PodInfo, node: &str) -> Binding {
    Binding {
        metadata: ObjectMeta {
            name: Some(pod.name().to_owned()),
            namespace: Some(pod.namespace().to_owned()),
            uid: pod.object_uid(),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    }
}
