//! The facts of objects whose writes are under way, so that the cache need not decode what this
//! server encoded; and pods as they were read to be created, for who follows pods in this process.
//!
//! Found by the address of the stored form, which the store hands on as it is. An offer holds these
//! bytes, so the address is nobody else's meanwhile. One that is not found costs a decoding, no more:
//! another store may copy the bytes, or the server was just started.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use super::WatchCache;
use crate::facts::Facts;
use crate::storage::Stored;

#[derive(Default)]
pub(super) struct Offers {
    offered: Mutex<HashMap<usize, Offered>>,
    /// How many take pods that were read.
    readers: Arc<AtomicUsize>,
}

struct Offered {
    bytes: Bytes,
    facts: Arc<Facts>,
    read: Option<Box<Pod>>,
}

/// Held by who takes pods that were read.
pub(crate) struct ReadPods(Arc<AtomicUsize>);

impl Drop for ReadPods {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Withdrawn when dropped, unless [kept](Offer::keep): the write may have failed.
pub(crate) struct Offer<'a> {
    offers: &'a Offers,
    address: Option<usize>,
}

impl Offer<'_> {
    /// The write is done: the cache takes the facts when it learns of it.
    pub(crate) fn keep(mut self) {
        self.address = None;
    }
}

impl Drop for Offer<'_> {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            self.offers.offered.lock().remove(&address);
        }
    }
}

impl WatchCache {
    /// Offer what there is to know of an object before its stored form `bytes` is written.
    pub(crate) fn offer(
        &self,
        bytes: &Bytes,
        facts: &Arc<Facts>,
        read: Option<Box<Pod>>,
    ) -> Offer<'_> {
        let is_wanted = self.offers.readers.load(Ordering::Relaxed) > 0;
        let read = read.filter(|_| is_wanted);
        let mut offers = self.offers.offered.lock();
        let address = (offers.len() < OFFERS_MAX).then_some(bytes.as_ptr() as usize);
        if let Some(address) = address {
            let (bytes, facts) = (bytes.clone(), Arc::clone(facts));
            offers.insert(address, Offered { bytes, facts, read });
        }
        Offer { offers: &self.offers, address }
    }

    /// Keep pods as they were read for as long as the answer is held.
    pub(crate) fn wants_read_pods(&self) -> ReadPods {
        self.offers.readers.fetch_add(1, Ordering::Relaxed);
        ReadPods(Arc::clone(&self.offers.readers))
    }
}

impl Offers {
    /// The object of these bytes at a revision, if it was offered.
    pub(super) fn take(&self, bytes: &Bytes, revision: u64) -> Option<Stored> {
        let offered = self.offered.lock().remove(&(bytes.as_ptr() as usize))?;
        let Offered { bytes, facts, read } = offered;
        Some(Stored::new(facts, bytes, revision).with_read(read))
    }

    pub(super) fn clear(&self) {
        self.offered.lock().clear();
    }
}

/// More than there are writes under way. Kept offers pile up only while the store's watch is broken.
const OFFERS_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use pintle_api::scheme::Kind;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_offer_is_taken_once_and_by_its_own_bytes() {
        let cache = WatchCache::new();
        let (bytes, other) = (Bytes::from(vec![b'x'; 9]), Bytes::from(vec![b'x'; 9]));
        let facts = Arc::new(Facts::of(Kind::Pod, &json!({})));
        cache.offer(&bytes, &facts, None).keep();
        assert!(cache.offers.take(&other, 1).is_none());
        assert!(cache.offers.take(&bytes.clone(), 1).is_some());
        assert!(cache.offers.take(&bytes, 1).is_none());
    }

    #[test]
    fn a_pod_that_was_read_is_kept_for_who_wants_it() {
        let cache = WatchCache::new();
        let facts = Arc::new(Facts::of(Kind::Pod, &json!({})));
        let is_kept = || {
            let bytes = Bytes::from(vec![b'x'; 9]);
            cache.offer(&bytes, &facts, Some(Box::default())).keep();
            let stored = cache.offers.take(&bytes, 1).unwrap();
            (stored.take_read().is_some(), stored.take_read().is_some())
        };
        assert_eq!(is_kept(), (false, false));
        let wanted = cache.wants_read_pods();
        assert_eq!(is_kept(), (true, false));
        drop(wanted);
        assert_eq!(is_kept(), (false, false));
    }

    #[test]
    fn a_failed_write_withdraws_its_offer() {
        let cache = WatchCache::new();
        let bytes = Bytes::from(vec![b'x'; 9]);
        drop(cache.offer(&bytes, &Arc::new(Facts::of(Kind::Pod, &json!({}))), None));
        assert!(cache.offers.take(&bytes, 1).is_none());
    }
}
