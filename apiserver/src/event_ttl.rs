//! Events end an hour after they were last written: kube-apiserver's `--event-ttl`, which it has etcd
//! keep by leases.
//!
//! The store has no leases, and an object does not say when it was last written. So the server notes
//! at which revision it stood when, and removes the Events whose last write is older than a note that
//! is as old as the time they have. The notes are not kept: after a start the time begins anew, as
//! leases do when etcd's leader changes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use pintle_api::scheme::{self, Kind, Resource};
use pintle_api::status::Status;
use tokio::time::MissedTickBehavior;

use crate::server::Core;
use crate::storage::{self, Stored};

/// Remove Events in time until the server is shut down.
pub(crate) async fn run(core: Arc<Core>) {
    let Some(resource) = scheme::of(Kind::Event) else { return };
    let ttl = core.config.event_ttl;
    let mut ticks = tokio::time::interval((ttl / NOTES_MAX).max(PERIOD_MIN));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut notes = Notes::default();
    while core.daemon.shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let ended = notes.note(Instant::now(), core.cache.revision(), ttl);
        if let Some(revision) = ended
            && let Err(error) = remove(&core, resource, revision).await
        {
            tracing::warn!(%error, "remove Events that have ended");
        }
    }
}

/// Remove what was last written at `revision` or before.
async fn remove(core: &Core, resource: &Resource, revision: u64) -> Result<(), Status> {
    let (entries, _) = core.cache.list(resource, "");
    let ended = entries.into_iter().filter(|entry| entry.revision <= revision);
    let removals = ended.map(|entry| remove_one(core, resource, entry));
    let mut removals = futures::stream::iter(removals).buffer_unordered(REMOVALS_AT_ONCE);
    while let Some(removed) = removals.next().await {
        removed?;
    }
    Ok(())
}

/// Remove the Event, unless it was written meanwhile or is gone.
async fn remove_one(core: &Core, resource: &Resource, entry: Arc<Stored>) -> Result<(), Status> {
    let key = storage::key(resource, entry.facts.namespace(), entry.facts.name());
    core.storage.remove(key, entry.revision).await.map(drop)
}

/// At which revision the server stood when, oldest first.
#[derive(Debug, Default)]
struct Notes(VecDeque<(Instant, u64)>);

impl Notes {
    /// Notes that the server stands at `revision`. Returns the newest revision that is at least `age`
    /// old, once for each.
    fn note(&mut self, now: Instant, revision: u64, age: Duration) -> Option<u64> {
        let mut ended = None;
        while let Some(&(at, revision)) = self.0.front()
            && now.saturating_duration_since(at) >= age
        {
            ended = Some(revision);
            self.0.pop_front();
        }
        self.0.push_back((now, revision));
        ended
    }
}

/// How many notes there are at once; an Event ends late by at most this part of its time.
const NOTES_MAX: u32 = 60;
/// Between two looks, however short the time of Events is.
const PERIOD_MIN: Duration = Duration::from_millis(10);
/// So many share a flush of the store, and leave room for other writers.
const REMOVALS_AT_ONCE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_enough_ends_once() {
        let (start, age) = (Instant::now(), Duration::from_secs(60));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut notes = Notes::default();
        assert_eq!(notes.note(at(0), 5, age), None);
        assert_eq!(notes.note(at(30), 7, age), None);
        assert_eq!(notes.note(at(59), 8, age), None);
        assert_eq!(notes.note(at(60), 8, age), Some(5));
        assert_eq!(notes.note(at(61), 9, age), None);
        // After a pause the newest of several.
        assert_eq!(notes.note(at(120), 10, age), Some(8));
        assert_eq!(notes.0.len(), 2);
    }
}
