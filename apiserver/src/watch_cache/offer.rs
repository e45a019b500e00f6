//! The facts of objects whose writes are under way, so that the cache need not decode what this
//! server encoded.
//!
//! Found by the address of the stored form, which the store hands on as it is. An offer holds these
//! bytes, so the address is nobody else's meanwhile. One that is not found costs a decoding, no more:
//! another store may copy the bytes, or the server was just started.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::WatchCache;
use crate::facts::Facts;

#[derive(Default)]
pub(super) struct Offers(Mutex<HashMap<usize, (Bytes, Arc<Facts>)>>);

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
            self.offers.0.lock().remove(&address);
        }
    }
}

impl WatchCache {
    /// Offer an object's facts before its stored form `bytes` is written.
    pub(crate) fn offer(&self, bytes: &Bytes, facts: &Arc<Facts>) -> Offer<'_> {
        let mut offers = self.offers.0.lock();
        let address = (offers.len() < OFFERS_MAX).then_some(bytes.as_ptr() as usize);
        if let Some(address) = address {
            offers.insert(address, (bytes.clone(), Arc::clone(facts)));
        }
        Offer { offers: &self.offers, address }
    }
}

impl Offers {
    pub(super) fn take(&self, bytes: &Bytes) -> Option<Arc<Facts>> {
        self.0.lock().remove(&(bytes.as_ptr() as usize)).map(|(_, facts)| facts)
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
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
        cache.offer(&bytes, &facts).keep();
        assert!(cache.offers.take(&other).is_none());
        assert!(cache.offers.take(&bytes.clone()).is_some());
        assert!(cache.offers.take(&bytes).is_none());
    }

    #[test]
    fn a_failed_write_withdraws_its_offer() {
        let cache = WatchCache::new();
        let bytes = Bytes::from(vec![b'x'; 9]);
        drop(cache.offer(&bytes, &Arc::new(Facts::of(Kind::Pod, &json!({})))));
        assert!(cache.offers.take(&bytes).is_none());
    }
}
