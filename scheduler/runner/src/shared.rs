//! The core behind a lock, shared by the informers' handlers, the loop and the writers.
//!
//! A decision holds the lock; informers wait for it rather than pile up changes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use parking_lot::{Mutex, MutexGuard};
use pintle_client::Change;
use pintle_scheduler_core::cache::Object;
use pintle_scheduler_core::{PodUid, Scheduler, Time};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::seen::SeenPod;

/// Cheap to clone; clones share the core.
#[derive(Clone)]
pub(crate) struct Shared {
    inner: Arc<Inner>,
}

struct Inner {
    scheduler: Mutex<Scheduler>,
    changed: Notify,
    origin: Instant,
}

impl Shared {
    pub(crate) fn new(scheduler: Scheduler) -> Self {
        let inner = Inner {
            scheduler: Mutex::new(scheduler),
            changed: Notify::new(),
            origin: Instant::now(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Now, as the core counts time.
    pub(crate) fn now(&self) -> Time {
        Time::new(self.inner.origin.elapsed())
    }

    /// The moment at which [`Shared::now`] will be `time`.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.inner.origin + time.since_origin()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Scheduler> {
        self.inner.scheduler.lock()
    }

    /// Returns once something changed since the last call returned.
    pub(crate) async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    pub(crate) fn pod_changed(&self, change: &Change<SeenPod>) {
        let info = |pod: &Option<Arc<SeenPod>>| {
            pod.as_ref().filter(|pod| !pod.is_finished).map(|pod| Arc::clone(&pod.info))
        };
        let (old, new) = (info(&change.old), info(&change.new));
        self.lock().pod_info_changed(old.as_ref(), new.as_ref(), self.now());
        self.inner.changed.notify_one();
    }

    pub(crate) fn node_changed(&self, change: &Change<Node>) {
        self.lock().node_changed(change.old.as_ref(), change.new.as_ref(), self.now());
        self.inner.changed.notify_one();
    }

    pub(crate) fn object_changed(&self, object: Object) {
        self.lock().object_changed(object, self.now());
        self.inner.changed.notify_one();
    }

    pub(crate) fn bound(&self, uid: &PodUid) {
        self.lock().bound(uid);
    }

    pub(crate) fn preempted(&self, uid: &PodUid, succeeded: bool) {
        self.lock().preempted(uid, succeeded, self.now());
        self.inner.changed.notify_one();
    }

    pub(crate) fn binding_failed(&self, uid: &PodUid) {
        self.lock().binding_failed(uid, self.now());
        self.inner.changed.notify_one();
    }
}
