//! Fills the watch cache from the store, and keeps it filled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use pintle_api::scheme::Kind;
use pintle_store::{Event, KeyValue, RangeRequest, Revision, Store, StoreError, WatchRequest};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::offer::Offers;
use super::{Change, State, WatchCache};
use crate::storage::{ROOT, Stored, after};

/// Told once: that the cache is whole for the first time, or why it cannot be.
pub(crate) type Loaded = oneshot::Sender<Result<(), StoreError>>;

/// Follow `store` until `shutdown`. Whenever the watch breaks, everything is read anew and every
/// watcher is told to list again.
pub(crate) async fn run(
    cache: Arc<WatchCache>,
    store: Arc<dyn Store>,
    loaded: Loaded,
    shutdown: CancellationToken,
) {
    let mut loaded = Some(loaded);
    loop {
        let outcome = tokio::select! {
            () = shutdown.cancelled() => return,
            outcome = follow(&cache, store.as_ref(), &mut loaded) => outcome,
        };
        let error = match outcome {
            Ok(()) => StoreError::Closed("its watch ended".to_owned()),
            Err(error) => error,
        };
        if let Some(loaded) = loaded.take() {
            let _ = loaded.send(Err(error));
            return;
        }
        tracing::warn!(%error, "the watch cache lost the store; reading it anew");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn follow(
    cache: &WatchCache,
    store: &dyn Store,
    loaded: &mut Option<Loaded>,
) -> Result<(), StoreError> {
    let start = Bytes::from_static(ROOT.as_bytes());
    let end = Some(after(ROOT.as_bytes()));
    let request = RangeRequest { start: start.clone(), end: end.clone(), ..Default::default() };
    let found = store.range(request).await?;
    let mut changes = store.watch(WatchRequest { start, end, after: found.revision }).await?;
    cache.load(found.revision, &found.kvs);
    if let Some(loaded) = loaded.take() {
        let _ = loaded.send(Ok(()));
    }
    while let Some(batch) = changes.next().await {
        let batch = batch?;
        cache.apply(batch.revision, &batch.events);
    }
    Ok(())
}

impl WatchCache {
    fn load(&self, revision: Revision, kvs: &[KeyValue]) {
        self.offers.clear();
        for resource in &self.resources {
            let mut state = resource.state.write();
            state.entries.clear();
            state.ring.reset(revision.0);
            // The keys are sorted, so the resource's are together.
            let prefix = resource.prefix.as_bytes();
            let first = kvs.partition_point(|kv| kv.key.as_ref() < prefix);
            for kv in kvs[first..].iter().take_while(|kv| kv.key.starts_with(prefix)) {
                state.insert(resource.kind, kv, &self.offers);
            }
        }
        self.publish(revision.0, 0..self.resources.len());
    }

    fn apply(&self, revision: Revision, events: &[Event]) {
        let mut touched = Vec::new();
        let mut rest = events;
        while let Some(event) = rest.first() {
            let Some(index) = self.index_of(event.key()) else {
                // A key of a resource that this version does not serve.
                rest = &rest[1..];
                continue;
            };
            let resource = &self.resources[index];
            let prefix = resource.prefix.as_bytes();
            let run = rest.iter().take_while(|event| event.key().starts_with(prefix)).count();
            let mut state = resource.state.write();
            for event in &rest[..run] {
                state.apply(resource.kind, event, &self.offers);
            }
            touched.push(index);
            rest = &rest[run..];
        }
        self.publish(revision.0, touched);
    }

    fn index_of(&self, key: &[u8]) -> Option<usize> {
        self.resources.iter().position(|resource| key.starts_with(resource.prefix.as_bytes()))
    }

    fn publish(&self, revision: u64, touched: impl IntoIterator<Item = usize>) {
        self.revision.send_replace(revision);
        for index in touched {
            self.resources[index].changed.send_modify(|count| *count += 1);
        }
    }
}

impl State {
    fn insert(&mut self, kind: Kind, kv: &KeyValue, offers: &Offers) -> Option<Arc<Stored>> {
        let offered = offers.take(&kv.value, kv.mod_revision.0);
        let read = offered.map_or_else(|| Stored::read(kind, kv), Ok);
        match read {
            Ok(entry) => {
                let entry = Arc::new(entry);
                self.entries.insert(kv.key.clone(), Arc::clone(&entry));
                Some(entry)
            }
            Err(error) => {
                let key = String::from_utf8_lossy(&kv.key);
                tracing::error!(%key, %error, "a stored object cannot be read and is left out");
                None
            }
        }
    }

    fn apply(&mut self, kind: Kind, event: &Event, offers: &Offers) {
        let old = self.entries.get(event.key()).cloned();
        let change = match event {
            Event::Put { kv, .. } => match self.insert(kind, kv, offers) {
                Some(new) => Change { revision: kv.mod_revision.0, old, new: Some(new) },
                None => return,
            },
            Event::Delete { key, revision, .. } => {
                self.entries.remove(key);
                let Some(old) = old else { return };
                Change { revision: revision.0, old: Some(Arc::new(old.at(revision.0))), new: None }
            }
        };
        self.ring.push(change);
    }
}

/// Long enough not to spin on a store that is broken.
const RETRY: Duration = Duration::from_millis(500);
