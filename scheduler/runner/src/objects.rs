//! Informers for what decisions read besides nodes and pods.
//!
//! An API server need not serve all of these kinds. One that it does not serve (404) counts as
//! having no objects; it is asked for again now and then.

use std::fmt::Debug;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, PersistentVolume, PersistentVolumeClaim, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use k8s_openapi::api::resource::v1alpha3::DeviceTaintRule;
use k8s_openapi::api::scheduling::v1alpha1::Workload;
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use pintle_client::Informer;
use pintle_scheduler_core::cache::Kind;
use serde::de::DeserializeOwned;

use crate::shared::Shared;

/// How long after an API server did not serve a kind it is asked again.
const UNSERVED_RETRY: Duration = Duration::from_secs(30);

/// The informer of one kind, less its type.
pub(crate) struct ObjectInformer {
    /// The kind, in the plural.
    pub(crate) kind: &'static str,
    /// Whether the first list is there.
    pub(crate) is_synced: Box<dyn Fn() -> bool + Send + Sync>,
    /// Ends when the first list is there.
    pub(crate) synced: BoxFuture<'static, ()>,
    /// Lists and watches; does not end.
    pub(crate) run: BoxFuture<'static, ()>,
}

/// An informer for each kind, whose changes go to `shared`.
pub(crate) fn informers(shared: &Shared, client: &Client) -> Vec<ObjectInformer> {
    vec![
        informer::<Namespace>(shared, client),
        informer::<Service>(shared, client),
        informer::<ReplicationController>(shared, client),
        informer::<ReplicaSet>(shared, client),
        informer::<StatefulSet>(shared, client),
        informer::<PersistentVolume>(shared, client),
        informer::<PersistentVolumeClaim>(shared, client),
        informer::<StorageClass>(shared, client),
        informer::<CSINode>(shared, client),
        informer::<CSIDriver>(shared, client),
        informer::<CSIStorageCapacity>(shared, client),
        informer::<VolumeAttachment>(shared, client),
        informer::<PodDisruptionBudget>(shared, client),
        informer::<ResourceClaim>(shared, client),
        informer::<ResourceSlice>(shared, client),
        informer::<DeviceClass>(shared, client),
        informer::<DeviceTaintRule>(shared, client),
        informer::<Workload>(shared, client),
    ]
}

fn informer<T>(shared: &Shared, client: &Client) -> ObjectInformer
where
    T: Kind + k8s_openapi::Resource + kube::Resource<DynamicType = ()>,
    T: Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let informer: Informer<T> = Informer::new(&[]);
    let to = shared.clone();
    informer.on_change(move |change| {
        to.object_changed(T::change(change.old.clone(), change.new.clone()));
    });
    let api: Api<T> = Api::all(client.clone());
    let kind = <T as k8s_openapi::Resource>::URL_PATH_SEGMENT;
    let (check, waiting, running) = (informer.clone(), informer.clone(), informer);
    let watch = or_empty(kind, watcher(api, watcher::Config::default()));
    ObjectInformer {
        kind,
        is_synced: Box::new(move || check.is_synced()),
        synced: async move { waiting.synced().await }.boxed(),
        run: async move { running.follow(kind, watch).await }.boxed(),
    }
}

/// Makes of "not served" an empty list, told of once, and a pause.
fn or_empty<T: Send + 'static>(
    kind: &'static str,
    events: impl Stream<Item = watcher::Result<Event<T>>> + Send + 'static,
) -> impl Stream<Item = watcher::Result<Event<T>>> + Send {
    let mut told = false;
    events.flat_map(move |event| match event {
        Err(error) if is_not_served(&error) => {
            if !told {
                tracing::info!(resource = kind, "the API server does not serve it: none there");
            }
            told = true;
            let pause =
                stream::once(tokio::time::sleep(UNSERVED_RETRY)).filter_map(async |()| None);
            let empty = stream::iter([Ok(Event::Init), Ok(Event::InitDone)]);
            empty.chain(pause).boxed()
        }
        event => stream::once(async { event }).boxed(),
    })
}

fn is_not_served(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) =
        error
    else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}
