//! What a controller has written but its cache has not shown yet.
//!
//! Mirrors UIDTrackingControllerExpectations: after creating or deleting children, a controller
//! counts them as outstanding until the informer reports them, and does not create or delete again
//! meanwhile; a stale cache can therefore not make it create too many. Outstanding work that never
//! shows up (a lost watch event) expires.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use pintle_client::ObjectKey;
use tokio::time::Instant;

/// The outstanding writes of every owner.
#[derive(Default)]
pub(crate) struct Expectations {
    by_owner: Mutex<HashMap<ObjectKey, Outstanding>>,
}

struct Outstanding {
    creations: usize,
    /// Uids, for a deletion may be seen twice: as a timestamp and as the end.
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    /// Whether everything written for `owner` has been seen, or was given up.
    pub(crate) fn are_met(&self, owner: &ObjectKey, now: Instant) -> bool {
        let by_owner = self.by_owner.lock();
        by_owner.get(owner).is_none_or(|outstanding| {
            outstanding.creations == 0 && outstanding.deletions.is_empty()
                || now.duration_since(outstanding.since) >= TIMEOUT
        })
    }

    /// About to write: these creations and deletions are outstanding. To be called before the
    /// writes, while the earlier ones are met.
    pub(crate) fn expect(
        &self,
        owner: &ObjectKey,
        creations: usize,
        deletions: impl IntoIterator<Item = String>,
        now: Instant,
    ) {
        let outstanding =
            Outstanding { creations, deletions: deletions.into_iter().collect(), since: now };
        self.by_owner.lock().insert(owner.clone(), outstanding);
    }

    /// A creation was seen, or did not happen. More of them than expected do no harm.
    pub(crate) fn creation_observed(&self, owner: &ObjectKey) {
        if let Some(outstanding) = self.by_owner.lock().get_mut(owner) {
            outstanding.creations = outstanding.creations.saturating_sub(1);
        }
    }

    /// A deletion of the child with this uid was seen, or did not happen.
    pub(crate) fn deletion_observed(&self, owner: &ObjectKey, uid: &str) {
        if let Some(outstanding) = self.by_owner.lock().get_mut(owner) {
            outstanding.deletions.remove(uid);
        }
    }

    /// Whether the child with this uid was deleted and the cache does not show it yet.
    pub(crate) fn is_deleting(&self, owner: &ObjectKey, uid: &str) -> bool {
        let by_owner = self.by_owner.lock();
        by_owner.get(owner).is_some_and(|outstanding| outstanding.deletions.contains(uid))
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &ObjectKey) {
        self.by_owner.lock().remove(owner);
    }
}

/// Upstream's ExpectationsTimeout: long enough for any watch to catch up.
const TIMEOUT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_outstanding_until_seen_or_expired() {
        let expectations = Expectations::default();
        let owner = ObjectKey::new("default", "web");
        let now = Instant::now();
        assert!(expectations.are_met(&owner, now));
        expectations.expect(&owner, 2, ["uid-1".to_owned()], now);
        expectations.creation_observed(&owner);
        expectations.creation_observed(&owner);
        assert!(!expectations.are_met(&owner, now));
        expectations.deletion_observed(&owner, "uid-other");
        assert!(expectations.is_deleting(&owner, "uid-1"));
        assert!(!expectations.are_met(&owner, now));
        expectations.deletion_observed(&owner, "uid-1");
        assert!(expectations.are_met(&owner, now));

        expectations.expect(&owner, 1, [], now);
        assert!(!expectations.are_met(&owner, now + TIMEOUT / 2));
        assert!(expectations.are_met(&owner, now + TIMEOUT));
        expectations.forget(&owner);
        assert!(expectations.are_met(&owner, now));
    }
}
