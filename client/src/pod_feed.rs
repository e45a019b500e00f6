//! What happens to pods without the form of a watch: for who is in the API server's process.

use bytes::Bytes;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher;

/// A pod as the API server has it.
#[derive(Debug)]
pub struct LocalPod {
    /// The object in JSON, less its resourceVersion.
    pub json: Bytes,
    /// `metadata.resourceVersion`.
    pub resource_version: u64,
    /// The same object where it has just been read to be created.
    pub read: Option<Box<Pod>>,
}

/// Who knows of all pods what happens to them.
pub trait PodFeed: Send + Sync {
    /// As a list and a watch of all pods that the field selector selects; does not end.
    fn follow(
        &self,
        field_selector: &str,
    ) -> BoxStream<'static, watcher::Result<watcher::Event<LocalPod>>>;
}
