//! What a controller wrote and has not seen come back through its cache.
//!
//! Mirrors the EndpointSliceTracker: an owner is not planned for while the cache lags behind the
//! controller's own writes of its children, or the plan would write them again. The generation says
//! how far a child is, as each change of its contents raises it. A write that never shows up (a lost
//! watch event) expires.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use pintle_client::ObjectKey;
use tokio::time::Instant;

/// The writes of every owner. Shared by a controller's workers and its informers' handlers.
#[derive(Default)]
pub(crate) struct Written {
    by_owner: Mutex<HashMap<ObjectKey, Writes>>,
}

/// The last write of each child by uid, and when it was.
type Writes = HashMap<String, (Outstanding, Instant)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outstanding {
    /// The child must show at least this generation.
    Generation(i64),
    /// The child must vanish.
    Gone,
}

impl Written {
    /// The child whose metadata the server answered with was created or changed.
    pub(crate) fn wrote(&self, owner: &ObjectKey, child: &ObjectMeta, now: Instant) {
        self.expect(owner, child, Outstanding::Generation(child.generation.unwrap_or(0)), now);
    }

    /// The child was deleted.
    pub(crate) fn deleted(&self, owner: &ObjectKey, child: &ObjectMeta, now: Instant) {
        self.expect(owner, child, Outstanding::Gone, now);
    }

    fn expect(&self, owner: &ObjectKey, child: &ObjectMeta, what: Outstanding, now: Instant) {
        let uid = child.uid.clone().unwrap_or_default();
        self.by_owner.lock().entry(owner.clone()).or_default().insert(uid, (what, now));
    }

    /// The cache showed the end of a child: nothing of it is to be waited for.
    pub(crate) fn vanished(&self, owner: &ObjectKey, child: &ObjectMeta) {
        if let Some(writes) = self.by_owner.lock().get_mut(owner) {
            writes.remove(child.uid.as_deref().unwrap_or_default());
        }
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &ObjectKey) {
        self.by_owner.lock().remove(owner);
    }

    /// Whether the cached children show all that was written, but for what was given up.
    pub(crate) fn is_seen(&self, owner: &ObjectKey, cached: &[&ObjectMeta], now: Instant) -> bool {
        let mut by_owner = self.by_owner.lock();
        let Some(writes) = by_owner.get_mut(owner) else { return true };
        writes.retain(|uid, (outstanding, since)| {
            let found = cached.iter().find(|meta| meta.uid.as_ref() == Some(uid));
            let waiting = match (*outstanding, found) {
                (Outstanding::Generation(wanted), Some(meta)) => {
                    meta.generation.unwrap_or(0) < wanted
                }
                (Outstanding::Generation(_), None) => true,
                (Outstanding::Gone, found) => found.is_some(),
            };
            waiting && now.duration_since(*since) < WRITTEN_TIMEOUT
        });
        if writes.is_empty() {
            by_owner.remove(owner);
            return true;
        }
        false
    }
}

/// As long as the ReplicaSets' expectations: no watch is behind for longer.
pub(crate) const WRITTEN_TIMEOUT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(uid: &str, generation: i64) -> ObjectMeta {
        ObjectMeta {
            generation: Some(generation),
            uid: Some(uid.to_owned()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_lagging_cache_is_noticed_until_it_catches_up() {
        let written = Written::default();
        let owner = ObjectKey::new("default", "web");
        let now = Instant::now();
        let seen = |cached: &[ObjectMeta], now| {
            written.is_seen(&owner, &cached.iter().collect::<Vec<_>>(), now)
        };
        assert!(seen(&[], now));
        written.wrote(&owner, &meta("a", 2), now);
        assert!(!seen(&[], now));
        assert!(!seen(&[meta("a", 1)], now));
        assert!(seen(&[meta("a", 2)], now));
        written.deleted(&owner, &meta("a", 2), now);
        assert!(!seen(&[meta("a", 2)], now));
        assert!(seen(&[], now));
        written.wrote(&owner, &meta("b", 1), now);
        written.vanished(&owner, &meta("b", 1));
        assert!(seen(&[], now));
        written.wrote(&owner, &meta("c", 1), now);
        assert!(seen(&[], now + WRITTEN_TIMEOUT));
    }
}
