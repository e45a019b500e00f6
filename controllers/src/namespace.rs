//! The namespace controller: empties a namespace that is being deleted, then lets it go.
//!
//! Mirrors pkg/controller/namespace/deletion. All kinds are deleted by collection; the `kubernetes`
//! finalizer is removed through `/finalize` when nothing is left. Not here: the order by
//! finalizers of pods (OrderedNamespaceDeletion) beyond pods going first.

mod content;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use pintle_api::scheme::{Kind, Resource};
use pintle_client::{Informer, ObjectKey};

use crate::Error;
use crate::patch::status_patch;
use crate::stub::{self, Stub};
use crate::work_queue::WorkQueue;
use crate::worker::Sync;

use content::{Content, Remaining, retry_after, status};

/// Works on namespaces.
pub(crate) struct NamespaceController {
    pub(crate) client: Client,
    pub(crate) namespaces: Informer<Namespace>,
    pub(crate) queue: WorkQueue<ObjectKey>,
}

impl NamespaceController {
    /// Let namespaces that are being deleted queue.
    pub(crate) fn subscribe(&self) {
        let queue = self.queue.clone();
        self.namespaces.on_change(move |change| {
            if let Some(namespace) = change.new.as_ref().filter(|new| is_terminating(new)) {
                queue.add(ObjectKey::of(&**namespace));
            }
        });
    }

    /// Delete all there is of every kind, pods first, and see what remains.
    async fn empty(&self, namespace: &str) -> Content {
        let mut content = Content::default();
        let all = stub::served(&["deletecollection", "list"]).filter(|r| r.namespaced);
        let (pods, others): (Vec<_>, Vec<_>) = all.partition(|r| r.kind == Kind::Pod);
        for batch in [pods, others] {
            let results =
                join_all(batch.into_iter().map(|resource| self.empty_kind(resource, namespace)));
            for (resource, result) in results.await {
                content.add(resource, result.map_err(|error| describe(&error)));
            }
        }
        content
    }

    async fn empty_kind(
        &self,
        resource: &'static Resource,
        namespace: &str,
    ) -> (&'static Resource, Result<Remaining, Error>) {
        let api = stub::api(&self.client, resource, namespace);
        let act = format!("delete all {} in namespace {namespace}", resource.plural);
        let background = DeleteParams::background();
        let deleted = api.delete_collection(&background, &ListParams::default()).await;
        if let Err(error) = deleted.map_err(Error::api(act)) {
            return (resource, Err(error));
        }
        let act = format!("list the {} left in namespace {namespace}", resource.plural);
        let listed = api.list(&ListParams::default()).await.map_err(Error::api(act));
        (resource, listed.map(|list| remaining(&list.items)))
    }

    async fn update_status(&self, namespace: &Namespace, content: &Content) -> Result<(), Error> {
        let after = status(namespace, content, Timestamp::now());
        if namespace.status.as_ref() == Some(&after) {
            return Ok(());
        }
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        let api: Api<Namespace> = Api::all(self.client.clone());
        let patch = status_patch(&namespace.metadata, namespace.status.as_ref(), &after);
        let patched = api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        match patched.map_err(Error::api(format!("update the status of namespace {name}"))) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Remove our finalizer from the version last seen; the server deletes a namespace without any.
    async fn finalize(&self, namespace: &Namespace) -> Result<(), Error> {
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        let act = format!("finalize namespace {name}");
        let api: Api<Namespace> = Api::all(self.client.clone());
        let live = api.get_opt(name).await.map_err(Error::api(act.clone()))?;
        let Some(mut live) = live.filter(|live| live.metadata.uid == namespace.metadata.uid) else {
            return Ok(());
        };
        let spec = live.spec.get_or_insert_default();
        spec.finalizers.get_or_insert_default().retain(|finalizer| finalizer != FINALIZER);
        let body = serde_json::to_vec(&live).unwrap_or_default();
        let url = format!("/api/v1/namespaces/{name}/finalize");
        let request = http::Request::put(url)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| Error::Object(format!("{act}: {error}")))?;
        match self.client.request::<Namespace>(request).await.map_err(Error::api(act)) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Sync for NamespaceController {
    const NAME: &'static str = "namespace";

    async fn sync(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(namespace) = self.namespaces.get(key).filter(|found| is_terminating(found)) else {
            return Ok(());
        };
        if !has_finalizer(&namespace) {
            return Ok(());
        }
        let content = self.empty(&key.name).await;
        self.update_status(&namespace, &content).await?;
        if let Some(failure) = content.failure() {
            return Err(Error::Object(format!("namespace {key} is not empty: {failure}")));
        }
        match retry_after(&content) {
            Some(delay) => {
                self.queue.add_after(key.clone(), delay);
                Ok(())
            }
            None => self.finalize(&namespace).await,
        }
    }
}

fn remaining(items: &[Stub]) -> Remaining {
    let finalizers = items.iter().flat_map(|item| item.metadata.finalizers.iter().flatten());
    Remaining { finalizers: finalizers.cloned().collect(), objects: items.len() }
}

fn describe(error: &Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause}")
}

fn is_terminating(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}

fn has_finalizer(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref());
    finalizers.unwrap_or_default().iter().any(|finalizer| finalizer == FINALIZER)
}

const FINALIZER: &str = "kubernetes";
