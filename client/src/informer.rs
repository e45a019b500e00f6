//! A shared informer: one list and watch of a kind, its cache with indices, and handlers that see
//! every change with the object before and after it.
//!
//! Mirrors client-go's SharedIndexInformer over `kube::runtime::watcher`. Differences to
//! `kube::runtime::reflector`: handlers get the old object too, objects that vanished during a
//! disconnect are reported as deleted, and reads by namespace or index do not scan the whole cache.
//! It does not resync on a timer.

mod cache;

use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt as _;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

pub use cache::{Cache, Change, Indexer, ObjectKey};

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// One kind's cache and its subscribers. Cheap to clone; clones share everything.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    cache: RwLock<Cache<K>>,
    handlers: RwLock<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K: kube::Resource> Informer<K> {
    /// An empty informer with the given indices. It fills once [`Informer::run`] is polled.
    #[must_use]
    pub fn new(indexers: &[Indexer<K>]) -> Self {
        let shared = Shared {
            cache: RwLock::new(Cache::new(indexers)),
            handlers: RwLock::default(),
            synced: watch::Sender::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Call `handler` after every change of the cache, in order, on the informer's task: it must
    /// not block. Changes before this call are not repeated, so subscribe before `run`.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.shared.handlers.write().push(Box::new(handler));
    }

    /// The cached object, if there is one.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.shared.cache.read().get(key)
    }

    /// All cached objects, ordered by namespace and name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.cache.read().list()
    }

    /// The objects of one namespace, ordered by name.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.shared.cache.read().in_namespace(namespace)
    }

    /// The objects to which the index `name` gave `value`, ordered by namespace and name.
    #[must_use]
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        self.shared.cache.read().by_index(name, value)
    }

    /// Whether the first list is complete.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Wait for the first complete list.
    pub async fn synced(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.shared.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Apply one event of a watch: change the cache, then tell the handlers.
    pub fn apply(&self, event: watcher::Event<K>) {
        let done = matches!(event, watcher::Event::InitDone);
        let changes = self.shared.cache.write().apply(event);
        let handlers = self.shared.handlers.read();
        for change in &changes {
            for handler in handlers.iter() {
                handler(change);
            }
        }
        drop(handlers);
        if done {
            self.shared.synced.send_replace(true);
        }
    }
}

impl<K> Informer<K>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// List and watch through `api` for as long as the future is polled. Failures are logged and
    /// tried again with back-off; it never returns of itself.
    pub async fn run(self, api: Api<K>, config: watcher::Config) {
        let name = api.resource_url().to_owned();
        self.follow(&name, watcher(api, config)).await;
    }
}

impl<K> Informer<K>
where
    K: kube::Resource + Send + Sync + 'static,
{
    /// Follow an event stream, such as one of `kube::runtime::metadata_watcher`, until it ends.
    pub async fn follow(
        self,
        name: &str,
        stream: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    ) {
        let stream = stream.default_backoff();
        let mut stream = std::pin::pin!(stream);
        while let Some(result) = stream.next().await {
            match result {
                Ok(event) => self.apply(event),
                Err(error) => tracing::warn!(resource = name, %error, "watch again"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
