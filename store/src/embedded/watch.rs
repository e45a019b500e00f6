//! Telling watchers what became durable: the hub that the writer publishes to, and the bounded
//! buffer of each watcher.
//!
//! Watchers of the same range form a group, and a group's events are collected once: each watcher
//! gets a pointer to them. So a change costs the writer one comparison for every distinct range
//! that begins at or before its key, and one pointer for every watcher that wants it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::mvcc::KeyRange;
use crate::types::{Event, Revision};

/// Events that became durable together, of one range.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) revision: Revision,
    pub(super) events: Vec<Event>,
    bytes: usize,
}

/// Who watches what.
pub(super) struct Hub {
    groups: Mutex<Groups>,
    /// Everything up to here is in the buffers.
    published: AtomicU64,
    buffer_events_max: usize,
}

#[derive(Default)]
struct Groups {
    /// By range; watchers of a single key are in `keys` instead.
    ranges: BTreeMap<KeyRange, Vec<Arc<Buffer>>>,
    keys: FxHashMap<KeyRange, Vec<Arc<Buffer>>>,
    closed: bool,
}

impl Groups {
    fn group(&mut self, range: &KeyRange) -> &mut Vec<Arc<Buffer>> {
        match range.end {
            None => self.keys.entry(range.clone()).or_default(),
            Some(_) => self.ranges.entry(range.clone()).or_default(),
        }
    }

    fn remove_if_empty(&mut self, range: &KeyRange) {
        if self.group(range).is_empty() {
            self.keys.remove(range);
            self.ranges.remove(range);
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Buffer>> {
        self.ranges.values().chain(self.keys.values()).flatten()
    }
}

impl Hub {
    pub(super) fn new(revision: Revision, buffer_events_max: usize) -> Hub {
        let published = AtomicU64::new(revision.0);
        Hub { groups: Mutex::default(), published, buffer_events_max }
    }

    /// Tell the watchers `events`, which end with `revision`. Called in order of revision.
    pub(super) fn publish(&self, revision: Revision, events: &[Event]) {
        let groups = self.groups.lock();
        for (range, watchers) in groups.touched(events) {
            let events: Vec<Event> =
                events.iter().filter(|event| range.contains(event.key())).cloned().collect();
            let bytes = events.iter().map(value_bytes).sum();
            let published = Arc::new(Published { revision, events, bytes });
            for buffer in watchers {
                buffer.push(&published, self.buffer_events_max);
            }
        }
        self.published.store(revision.0, Ordering::Release);
    }

    /// Everything up to this revision has been put in the buffers.
    pub(super) fn published(&self) -> Revision {
        Revision(self.published.load(Ordering::Acquire))
    }

    /// A buffer that gets everything published in `range` from now on.
    pub(super) fn subscribe(&self, range: &KeyRange) -> Arc<Buffer> {
        let buffer = Arc::new(Buffer::default());
        let mut groups = self.groups.lock();
        buffer.queue.lock().closed = groups.closed;
        groups.group(range).push(buffer.clone());
        buffer
    }

    /// Undo [`Hub::subscribe`].
    pub(super) fn unsubscribe(&self, range: &KeyRange, buffer: &Arc<Buffer>) {
        let mut groups = self.groups.lock();
        groups.group(range).retain(|other| !Arc::ptr_eq(other, buffer));
        groups.remove_if_empty(range);
    }

    /// How many watchers there are.
    pub(super) fn watchers(&self) -> usize {
        self.groups.lock().all().count()
    }

    /// End all watches, once they have read their buffers.
    pub(super) fn close(&self) {
        let mut groups = self.groups.lock();
        groups.closed = true;
        for buffer in groups.all() {
            buffer.queue.lock().closed = true;
            buffer.changed.notify_one();
        }
    }
}

type Touched<'a> = BTreeMap<&'a KeyRange, &'a Vec<Arc<Buffer>>>;

impl Groups {
    fn touched(&self, events: &[Event]) -> Touched<'_> {
        let mut touched = Touched::new();
        for event in events {
            let single = KeyRange { start: event.key().clone(), end: None };
            touched.extend(self.keys.get_key_value(&single));
            // `None < Some(_)`, and no range both begins behind its key and holds it.
            let begun = self.ranges.iter().take_while(|(range, _)| range.start <= event.key());
            touched.extend(begun.filter(|(range, _)| range.contains(event.key())));
        }
        touched
    }
}

/// What waits for one watcher.
#[derive(Default)]
pub(super) struct Buffer {
    queue: Mutex<Queue>,
    /// Wakes the watcher.
    pub(super) changed: Notify,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Arc<Published>>,
    events: usize,
    bytes: usize,
    overflowed: bool,
    closed: bool,
}

/// What a watcher finds in its buffer.
#[derive(Debug)]
pub(super) enum Taken {
    Batch(Arc<Published>),
    /// The store closed, and everything before that was taken.
    Closed,
    Nothing,
    /// Something had to be dropped: read the history.
    Overflowed,
}

impl Buffer {
    fn push(&self, published: &Arc<Published>, events_max: usize) {
        let mut queue = self.queue.lock();
        if queue.overflowed {
            return;
        }
        queue.events += published.events.len();
        queue.bytes += published.bytes;
        if queue.events > events_max || queue.bytes > BUFFER_BYTES_MAX {
            let closed = queue.closed;
            *queue = Queue { overflowed: true, closed, ..Queue::default() };
        } else {
            queue.batches.push_back(published.clone());
        }
        drop(queue);
        self.changed.notify_one();
    }

    /// The oldest of what waits.
    pub(super) fn take(&self) -> Taken {
        let mut queue = self.queue.lock();
        if std::mem::take(&mut queue.overflowed) {
            return Taken::Overflowed;
        }
        match queue.batches.pop_front() {
            Some(batch) => {
                queue.events -= batch.events.len();
                queue.bytes -= batch.bytes;
                Taken::Batch(batch)
            }
            None if queue.closed => Taken::Closed,
            None => Taken::Nothing,
        }
    }
}

fn value_bytes(event: &Event) -> usize {
    match event {
        Event::Delete { .. } => 0,
        Event::Put { kv, .. } => kv.value.len(),
    }
}

/// Bytes of values that one slow watcher may keep in memory beyond the history's own limit.
const BUFFER_BYTES_MAX: usize = 32 << 20;
