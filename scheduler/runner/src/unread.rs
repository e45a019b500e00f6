//! Writes to pods whose answers are not looked at: the object that comes back is passed over rather
//! than decoded, which would cost more than the rest of the write.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::Request;
use kube::{Client, Resource as _};
use serde::de::IgnoredAny;
use serde_json::Value;

/// Patches a pod's status, strategically.
pub(crate) async fn patch_status(
    client: &Client,
    namespace: &str,
    name: &str,
    patch: &Value,
) -> kube::Result<()> {
    let patch = Patch::Strategic(patch);
    let request =
        pods(namespace).patch_subresource("status", name, &PatchParams::default(), &patch);
    send(client, request).await
}

/// Deletes a pod.
pub(crate) async fn delete(
    client: &Client,
    namespace: &str,
    name: &str,
    params: &DeleteParams,
) -> kube::Result<()> {
    send(client, pods(namespace).delete(name, params)).await
}

fn pods(namespace: &str) -> Request {
    Request::new(Pod::url_path(&(), Some(namespace)))
}

async fn send(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> kube::Result<()> {
    let request = request.map_err(kube::Error::BuildRequest)?;
    client.request::<IgnoredAny>(request).await.map(|_| ())
}
