//! A work queue of keys, as client-go's rate-limiting workqueue: a key waits at most once, is never
//! worked on by two workers at a time, and comes back later after a failure.
//!
//! [`State`] is the pure half: no clock, no waking. The per-key back-off is client-go's
//! ItemExponentialFailureRateLimiter (5 ms doubling to 1000 s); its overall bucket is left out, as
//! each queue's workers are few.

mod state;

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::QueueMetrics;
use state::State;

/// A queue shared by those who add keys and those who work on them. Cheap to clone.
pub(crate) struct WorkQueue<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Notify,
    metrics: QueueMetrics,
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Clone + Eq + Hash + Ord> WorkQueue<T> {
    /// An empty queue that reports to `metrics`.
    pub(crate) fn new(metrics: QueueMetrics) -> Self {
        let shared =
            Shared { state: Mutex::new(State::default()), changed: Notify::new(), metrics };
        Self { shared: Arc::new(shared) }
    }

    /// Work on `key` soon.
    pub(crate) fn add(&self, key: T) {
        self.change(|state, now| state.add(key, now));
    }

    /// Work on `key` after `delay`.
    pub(crate) fn add_after(&self, key: T, delay: Duration) {
        self.change(|state, now| state.add_at(key, now + delay));
    }

    /// Work on `key` again, later with each failure in a row.
    pub(crate) fn retry(&self, key: T) {
        self.shared.metrics.retries.inc();
        self.change(|state, now| {
            let delay = state.next_backoff(&key);
            state.add_at(key, now + delay);
        });
    }

    /// The key's failures are over: the next [`Self::retry`] is quick again.
    pub(crate) fn forget(&self, key: &T) {
        self.shared.state.lock().forget(key);
    }

    /// Whether nothing waits or is being worked on. Keys added for later do not count.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.shared.state.lock().is_idle()
    }

    /// The next key; [`Self::done`] must follow.
    pub(crate) async fn next(&self) -> T {
        loop {
            let changed = self.shared.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let now = Instant::now();
            let (taken, due) = {
                let mut state = self.shared.state.lock();
                state.release_due(now);
                let taken = state.take(now);
                self.shared.metrics.depth.set(state.depth());
                (taken, state.next_due())
            };
            if let Some((key, waited)) = taken {
                self.shared.metrics.queue_duration.observe(waited.as_secs_f64());
                // Another worker may be asleep while more keys wait.
                self.shared.changed.notify_one();
                return key;
            }
            match due {
                Some(due) => {
                    let _ = tokio::time::timeout_at(due, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Work on `key` has ended; if it was added meanwhile it is due again.
    pub(crate) fn done(&self, key: &T, worked: Duration) {
        self.shared.metrics.work_duration.observe(worked.as_secs_f64());
        self.change(|state, now| state.done(key, now));
    }

    fn change(&self, change: impl FnOnce(&mut State<T>, Instant)) {
        let mut state = self.shared.state.lock();
        let adds = state.adds();
        change(&mut state, Instant::now());
        self.shared.metrics.adds.inc_by(state.adds() - adds);
        self.shared.metrics.depth.set(state.depth());
        drop(state);
        self.shared.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
