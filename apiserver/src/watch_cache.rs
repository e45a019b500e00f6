//! The watch cache: every object in memory, and the recent changes of each resource.
//!
//! Mirrors k8s.io/apiserver's cacher with one difference: a single store watch over all keys feeds
//! every resource, so that the cache knows exactly which revision it stands at. A watcher is a
//! cursor into its resource's ring of changes, so it costs no queue; one that falls off the ring is
//! told 410 and lists again. What this server itself writes is
//! not decoded again: the writer offers what there is to know of the object beforehand.

mod feed;
mod offer;
mod ring;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use pintle_api::scheme::{self, Kind, Resource};
use pintle_api::status::Status;
use tokio::sync::watch;

use crate::storage::{self, Stored};
use offer::Offers;

pub(crate) use feed::run;
pub(crate) use offer::ReadPods;
pub(crate) use ring::{Change, Ring};

/// All resources.
pub(crate) struct WatchCache {
    resources: Vec<ResourceCache>,
    /// Every change up to this revision is in `resources`.
    revision: watch::Sender<u64>,
    offers: Offers,
}

/// One resource. Its state and its ring change together.
pub(crate) struct ResourceCache {
    kind: Kind,
    prefix: String,
    state: RwLock<State>,
    /// Bumped after `state` has changed.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Bytes, Arc<Stored>>,
    ring: Ring,
}

impl WatchCache {
    pub(crate) fn new() -> Self {
        let resources = scheme::RESOURCES
            .iter()
            .map(|resource| ResourceCache {
                kind: resource.kind,
                prefix: storage::prefix_text(resource),
                state: RwLock::default(),
                changed: watch::Sender::new(0),
            })
            .collect();
        Self { resources, revision: watch::Sender::new(0), offers: Offers::default() }
    }

    pub(crate) fn of(&self, resource: &Resource) -> &ResourceCache {
        let index = scheme::RESOURCES.iter().position(|known| known == resource);
        &self.resources[index.expect("every resource is one of the scheme's")]
    }

    /// The revision that the cache stands at.
    pub(crate) fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// Wait until the cache has come to `revision`.
    pub(crate) async fn wait_for(&self, revision: u64) -> Result<(), Status> {
        let mut progress = self.revision.subscribe();
        let reached = progress.wait_for(|current| *current >= revision);
        match tokio::time::timeout(FRESH_WAIT, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Status::unavailable("the watch cache has stopped")),
            Err(_) => Err(Status::too_large(revision, self.revision())),
        }
    }

    /// A set of entries and the revision at which it was whole.
    pub(crate) fn list(&self, resource: &Resource, namespace: &str) -> (Vec<Arc<Stored>>, u64) {
        let (start, end) = storage::bounds(resource, namespace);
        // Before the state: what it says is then surely applied.
        let revision = self.revision();
        let state = self.of(resource).state.read();
        let entries = state.entries.range(start..end).map(|(_, entry)| Arc::clone(entry));
        (entries.collect(), revision.max(state.ring.newest()))
    }

    pub(crate) fn get(&self, resource: &Resource, ns: &str, name: &str) -> Option<Arc<Stored>> {
        self.get_by_key(resource, &storage::key(resource, ns, name))
    }

    pub(crate) fn get_by_key(&self, resource: &Resource, key: &Bytes) -> Option<Arc<Stored>> {
        self.of(resource).state.read().entries.get(key).cloned()
    }

    /// How many objects there are of each resource.
    pub(crate) fn counts(&self) -> Vec<(&'static Resource, usize)> {
        let counted = scheme::RESOURCES.iter().zip(&self.resources);
        counted.map(|(resource, cache)| (resource, cache.state.read().entries.len())).collect()
    }
}

impl ResourceCache {
    /// A receiver that wakes after each change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The revision of the newest change, or one after it.
    pub(crate) fn newest(&self) -> u64 {
        self.state.read().ring.newest()
    }

    /// The position of the first change after `revision`; 410 if the ring no longer reaches back.
    pub(crate) fn position_after(&self, revision: u64) -> Result<u64, Status> {
        self.state.read().ring.position_after(revision)
    }

    /// At most `count` changes from `position` on; `None` if they have fallen off the ring.
    pub(crate) fn changes(&self, position: u64, count: usize) -> Option<Vec<Arc<Change>>> {
        self.state.read().ring.read(position, count)
    }
}

/// k8s.io/apiserver's `blockTimeout` of the watch cache: how long a read waits for it to catch up.
const FRESH_WAIT: Duration = Duration::from_secs(3);
