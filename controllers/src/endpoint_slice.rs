//! The EndpointSlice controller: which pods answer for a Service, and on which ports.
//!
//! Mirrors pkg/controller/endpointslice and k8s.io/endpointslice. [`plan`] decides; this file reads
//! the caches and applies. Not here: topology hints (trafficDistribution), mirroring of Endpoints.

mod endpoint;
mod plan;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use pintle_api::labels::Selector;
use pintle_client::{
    Change, EventRecord, EventRecorder, Indexer, Informer, ObjectKey, reference_to,
};
use tokio::time::Instant;

use crate::Error;
use crate::work_queue::WorkQueue;
use crate::worker::Sync;
use crate::written::{WRITTEN_TIMEOUT, Written};

use plan::Action;

/// Reads caches, applies plans.
pub(crate) struct EndpointSliceController {
    pub(crate) client: Client,
    pub(crate) endpoint_slices: Informer<EndpointSlice>,
    pub(crate) max_endpoints: usize,
    pub(crate) nodes: Informer<Node>,
    pub(crate) pods: Informer<Pod>,
    pub(crate) queue: WorkQueue<ObjectKey>,
    pub(crate) recorder: EventRecorder,
    pub(crate) services: Informer<Service>,
    pub(crate) written: Arc<Written>,
}

impl EndpointSliceController {
    /// Let changes of Services, pods and slices queue the Services they concern.
    pub(crate) fn subscribe(&self) {
        let queue = self.queue.clone();
        self.services.on_change(move |change| queue.add(ObjectKey::of(&**change.latest())));
        let (queue, services) = (self.queue.clone(), self.services.clone());
        self.pods.on_change(move |change| {
            if let (Some(old), Some(new)) = (&change.old, &change.new)
                && !matters(old, new)
            {
                return;
            }
            for key in concerned(&services, change) {
                queue.add(key);
            }
        });
        let (queue, written) = (self.queue.clone(), Arc::clone(&self.written));
        self.endpoint_slices.on_change(move |change| {
            let slice = change.latest();
            if let Some(key) = service_of(slice).filter(|_| is_ours(slice)) {
                if change.new.is_none() {
                    written.vanished(&key, &slice.metadata);
                }
                queue.add(key);
            }
        });
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.namespace);
        let params = PostParams::default();
        match action {
            Action::Create(slice) => {
                let created = api.create(&params, &slice).await;
                let act = format!("create an endpoint slice of service {key}");
                let created = created.map_err(Error::api(act))?;
                self.written.wrote(key, &created.metadata, Instant::now());
            }
            Action::Update(slice) => {
                let name = slice.metadata.name.clone().unwrap_or_default();
                let act = format!("update endpoint slice {}/{name}", key.namespace);
                let updated = api.replace(&name, &params, &slice).await;
                let updated = updated.map_err(Error::api(act))?;
                self.written.wrote(key, &updated.metadata, Instant::now());
            }
            Action::Delete(slice) => self.delete(&api, key, &slice).await?,
        }
        Ok(())
    }

    async fn delete(
        &self,
        api: &Api<EndpointSlice>,
        key: &ObjectKey,
        slice: &EndpointSlice,
    ) -> Result<(), Error> {
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        let act = format!("delete endpoint slice {}/{name}", key.namespace);
        let same = Preconditions { uid: slice.metadata.uid.clone(), resource_version: None };
        let deleted = api.delete(name, &DeleteParams::default().preconditions(same)).await;
        match deleted.map_err(Error::api(act)) {
            Ok(_) => {
                self.written.deleted(key, &slice.metadata, Instant::now());
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The slices of a Service that is gone or has lost its selector go with it.
    async fn delete_all(
        &self,
        key: &ObjectKey,
        slices: Vec<Arc<EndpointSlice>>,
    ) -> Result<(), Error> {
        for slice in slices {
            self.act(key, Action::Delete(slice)).await?;
        }
        self.written.forget(key);
        Ok(())
    }
}

impl Sync for EndpointSliceController {
    const NAME: &'static str = "endpoint_slice";

    async fn sync(&self, key: &ObjectKey) -> Result<(), Error> {
        let mut slices = self.endpoint_slices.by_index(BY_SERVICE, &key.to_string());
        slices.retain(|slice| is_ours(slice));
        let Some(service) = self.services.get(key) else {
            return self.delete_all(key, slices).await;
        };
        let Some(selector) = selector(&service) else {
            // Someone else's slices, or none; ours stay as upstream leaves them.
            return Ok(());
        };
        let cached: Vec<_> = slices.iter().map(|slice| &slice.metadata).collect();
        if !self.written.is_seen(key, &cached, Instant::now()) {
            // The cache will tell when it has caught up; if it never does, look again.
            self.queue.add_after(key.clone(), WRITTEN_TIMEOUT);
            return Ok(());
        }
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| selector.matches(&pod.metadata.labels));
        let node_of = |name: &str| self.nodes.get(&ObjectKey::cluster(name));
        for action in plan::plan(&service, &pods, &slices, node_of, self.max_endpoints) {
            if let Err(error) = self.act(key, action).await {
                if !error.is_conflict() {
                    let message =
                        format!("Error updating Endpoint Slices for Service {key}: {error}");
                    let event = EventRecord::warning("FailedToUpdateEndpointSlices", message);
                    self.recorder.record(reference_to(&*service), event);
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

/// The Service's selector. Without one, or for an ExternalName, slices are not this controller's.
fn selector(service: &Service) -> Option<Selector> {
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
    (spec.type_.as_deref() != Some("ExternalName")).then(|| Selector::from_labels(selector))
}

/// Whether a pod's change can change an endpoint.
fn matters(old: &Pod, new: &Pod) -> bool {
    let facts = |pod: &Pod| {
        let status = pod.status.as_ref();
        (
            status.and_then(|status| status.pod_ips.clone()),
            status.and_then(|status| status.pod_ip.clone()),
            crate::pod::is_ready(pod),
            crate::pod::is_terminating(pod),
            crate::pod::is_terminal(pod),
            crate::pod::node_name(pod).to_owned(),
            pod.metadata.labels.clone(),
            pod.metadata.uid.clone(),
        )
    };
    facts(old) != facts(new)
}

fn concerned(services: &Informer<Service>, change: &Change<Pod>) -> Vec<ObjectKey> {
    let namespace = change.latest().metadata.namespace.as_deref().unwrap_or_default();
    let sides = || [&change.old, &change.new].into_iter().flatten();
    let selects = |service: &&Arc<Service>| {
        selector(service)
            .is_some_and(|selector| sides().any(|pod| selector.matches(&pod.metadata.labels)))
    };
    let all = services.in_namespace(namespace);
    all.iter().filter(selects).map(|service| ObjectKey::of(&**service)).collect()
}

fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(ObjectKey::new(slice.metadata.namespace.as_deref().unwrap_or_default(), name))
}

fn is_ours(slice: &EndpointSlice) -> bool {
    let labels = slice.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
}

/// Slices by their Service, as `namespace/name`.
pub(crate) const BY_SERVICE_INDEXER: Indexer<EndpointSlice> =
    Indexer { name: BY_SERVICE, value: |slice| service_of(slice).map(|key| key.to_string()) };

const BY_SERVICE: &str = "service";
const HEADLESS: &str = "service.kubernetes.io/headless";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

#[cfg(test)]
mod tests;
