//! The table itself: keys in order, each with its versions.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::history::History;
use super::stage::KEY_BYTES_MAX;
use crate::types::{Event, KeyValue, RangeRequest, RangeResponse, Revision, StoreError};

/// A half-open range of keys, or a single key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyRange {
    /// First key.
    pub(crate) start: Bytes,
    /// Key after the last; `None` is the single key `start`.
    pub(crate) end: Option<Bytes>,
}

impl KeyRange {
    /// All keys from `start` on.
    pub(crate) fn starting_at(start: Bytes) -> KeyRange {
        const AFTER_ALL: [u8; KEY_BYTES_MAX + 1] = [0xff; KEY_BYTES_MAX + 1];
        KeyRange { start, end: Some(Bytes::from_static(&AFTER_ALL)) }
    }

    /// Whether `key` lies inside.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            None => self.start == key,
            Some(end) => self.start <= key && key < &end[..],
        }
    }

    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let end = match &self.end {
            None => Bound::Included(&self.start[..]),
            // An end before the start is an empty range, over which `BTreeMap` would panic.
            Some(end) => Bound::Excluded((&end[..]).max(&self.start[..])),
        };
        (Bound::Included(&self.start[..]), end)
    }
}

/// All keys with all their readable versions, and the history of changes.
#[derive(Debug, Default)]
pub(crate) struct Table {
    keys: BTreeMap<Bytes, Versions>,
    pub(super) history: History,
    revision: Revision,
    compacted: Revision,
    /// Revisions that reads in progress hold on to, with how many of them.
    pins: BTreeMap<Revision, usize>,
    live_keys: usize,
    live_bytes: u64,
}

impl Table {
    /// A table whose history begins after `revision`, holding `kvs`.
    pub(crate) fn restore(revision: Revision, kvs: Vec<KeyValue>) -> Table {
        let mut table = Table { revision, compacted: revision, ..Table::default() };
        for kv in kvs {
            table.live_keys += 1;
            table.live_bytes += size(&kv);
            table.keys.insert(kv.key.clone(), Versions::new(kv));
        }
        table
    }

    /// The revision of the newest applied change.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// The newest revision whose change is no longer in the history; readable itself.
    pub(crate) fn compacted(&self) -> Revision {
        self.compacted
    }

    /// How many keys exist.
    pub(crate) fn live_keys(&self) -> usize {
        self.live_keys
    }

    /// Bytes of the existing keys and their values.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// How many changes the history holds.
    pub(crate) fn history_events(&self) -> usize {
        self.history.len()
    }

    /// The newest state of `key`.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<&KeyValue> {
        self.keys.get(key)?.newest.live()
    }

    /// Apply changes as [`super::Pending`] staged them, of whole revisions, in order.
    pub(crate) fn apply(&mut self, events: Vec<Event>) {
        for event in events {
            debug_assert!(event.revision() >= self.revision, "events in order of revision");
            self.revision = event.revision();
            self.apply_one(&event);
            self.history.push(event);
        }
    }

    fn apply_one(&mut self, event: &Event) {
        if let Some(previous) = event.previous() {
            self.live_keys -= 1;
            self.live_bytes -= size(previous);
        }
        let version = match event {
            Event::Delete { revision, .. } => Version::Deleted(*revision),
            Event::Put { kv, .. } => {
                self.live_keys += 1;
                self.live_bytes += size(kv);
                Version::Live(kv.clone())
            }
        };
        match self.keys.get_mut(event.key()) {
            Some(versions) => versions.push(version),
            None => {
                let versions = Versions { older: Vec::new(), newest: version };
                self.keys.insert(event.key().clone(), versions);
            }
        }
    }

    /// Read a range as [`crate::Store::range`] does.
    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, StoreError> {
        let at = request.revision.unwrap_or(self.revision);
        self.check_readable(at)?;
        let range = KeyRange { start: request.start.clone(), end: request.end.clone() };
        let mut found = self.live_at(&range, at);
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let kvs = found.by_ref().take(limit).cloned().collect();
        Ok(RangeResponse { revision: self.revision, kvs, remaining: found.count() })
    }

    /// The first `limit` keys of `range` as of `at`, which must be readable or pinned.
    pub(crate) fn page(&self, range: &KeyRange, at: Revision, limit: usize) -> Vec<KeyValue> {
        self.live_at(range, at).take(limit).cloned().collect()
    }

    /// How many keys `range` holds as of `at`, which must be readable or pinned.
    pub(crate) fn count(&self, range: &KeyRange, at: Revision) -> usize {
        self.live_at(range, at).count()
    }

    fn live_at(&self, range: &KeyRange, at: Revision) -> impl Iterator<Item = &KeyValue> {
        let versions = self.keys.range::<[u8], _>(range.bounds());
        versions.filter_map(move |(_, versions)| versions.at(at)?.live())
    }

    /// Whether the state as of `at` can be read.
    pub(crate) fn check_readable(&self, at: Revision) -> Result<(), StoreError> {
        if at < self.compacted {
            return Err(StoreError::Compacted { requested: at, compacted: self.compacted });
        }
        if at > self.revision {
            return Err(StoreError::FutureRevision { requested: at, current: self.revision });
        }
        Ok(())
    }

    /// Make everything before `revision` unreadable. [`Table::purge`] frees it. A revision already
    /// compacted is an error, as in etcd.
    pub(crate) fn compact(&mut self, revision: Revision) -> Result<(), StoreError> {
        if revision <= self.compacted {
            return Err(StoreError::Compacted { requested: revision, compacted: self.compacted });
        }
        self.check_readable(revision)?;
        self.compacted = revision;
        Ok(())
    }

    /// Free at most `events_max` changes of compacted history; whether there may be more to free.
    pub(crate) fn purge(&mut self, events_max: usize) -> bool {
        let pinned = self.pins.keys().next().copied();
        let limit = pinned.map_or(self.compacted, |pin| pin.min(self.compacted));
        for _ in 0..events_max {
            let Some(event) = self.history.pop_through(limit) else { return false };
            self.forget_versions(event.key(), limit);
        }
        true
    }

    /// Drop the versions of `key` that a reader as of `limit` or later cannot see.
    fn forget_versions(&mut self, key: &Bytes, limit: Revision) {
        let Some(versions) = self.keys.get_mut(key) else { return };
        if versions.newest.revision() > limit {
            let seen = versions.older.partition_point(|version| version.revision() <= limit);
            versions.older.drain(..seen.saturating_sub(1));
            if matches!(versions.older.first(), Some(Version::Deleted(at)) if *at <= limit) {
                versions.older.remove(0);
            }
            versions.older.shrink_to(versions.older.len() * 2);
        } else if versions.newest.live().is_some() {
            versions.older = Vec::new();
        } else {
            self.keys.remove(key);
        }
    }

    /// How many versions of keys, deletions included, are in memory.
    #[cfg(test)]
    pub(super) fn versions(&self) -> usize {
        self.keys.values().map(|versions| versions.older.len() + 1).sum()
    }

    /// Keep `revision` readable by [`Table::page`] until [`Table::unpin`].
    pub(crate) fn pin(&mut self, revision: Revision) {
        *self.pins.entry(revision).or_default() += 1;
    }

    /// Undo one [`Table::pin`].
    pub(crate) fn unpin(&mut self, revision: Revision) {
        if let Some(count) = self.pins.get_mut(&revision) {
            *count -= 1;
            if *count == 0 {
                self.pins.remove(&revision);
            }
        }
    }
}

/// The readable states of one key, oldest first. Most keys have one, which needs no allocation.
#[derive(Debug)]
struct Versions {
    older: Vec<Version>,
    newest: Version,
}

impl Versions {
    fn new(kv: KeyValue) -> Versions {
        Versions { older: Vec::new(), newest: Version::Live(kv) }
    }

    fn push(&mut self, version: Version) {
        let older = std::mem::replace(&mut self.newest, version);
        if older.revision() == self.newest.revision() {
            return; // one revision has one state of a key
        }
        self.older.push(older);
    }

    fn at(&self, revision: Revision) -> Option<&Version> {
        if self.newest.revision() <= revision {
            return Some(&self.newest);
        }
        let seen = self.older.partition_point(|version| version.revision() <= revision);
        self.older[..seen].last()
    }
}

/// One state of a key.
#[derive(Debug)]
enum Version {
    Deleted(Revision),
    Live(KeyValue),
}

impl Version {
    fn live(&self) -> Option<&KeyValue> {
        match self {
            Version::Deleted(_) => None,
            Version::Live(kv) => Some(kv),
        }
    }

    fn revision(&self) -> Revision {
        match self {
            Version::Deleted(revision) => *revision,
            Version::Live(kv) => kv.mod_revision,
        }
    }
}

fn size(kv: &KeyValue) -> u64 {
    (kv.key.len() + kv.value.len()) as u64
}
