//! The binding of a pod to a node, as DefaultBinder writes it.

use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use pintle_scheduler_core::PodInfo;
use serde::de::IgnoredAny;

/// POSTs `pods/NAME/binding`. The pod's uid goes with it, so that a pod created again under the
/// same name is not bound by mistake.
pub(crate) async fn write(client: &Client, pod: &PodInfo, node: &str) -> kube::Result<()> {
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
            uid: pod.pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    }
}
