//! The changes since the compacted revision, in order: what a watch from the past reads.

use std::collections::VecDeque;

use super::{KeyRange, Table};
use crate::types::{Event, KeyValue, Revision, StoreError};

/// A queue of changes with an account of what they hold in memory.
#[derive(Debug, Default)]
pub(super) struct History {
    events: VecDeque<Event>,
    bytes: usize,
}

impl History {
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, event: Event) {
        self.bytes += footprint(&event);
        self.events.push_back(event);
    }

    pub(super) fn pop_through(&mut self, revision: Revision) -> Option<Event> {
        let event = self.events.pop_front_if(|event| event.revision() <= revision)?;
        self.bytes -= footprint(&event);
        Some(event)
    }

    /// The revision of the change at `index`, oldest first.
    pub(super) fn revision_at(&self, index: usize) -> Option<Revision> {
        self.events.get(index).map(Event::revision)
    }

    /// How many bytes the oldest `count` changes hold.
    pub(super) fn front(&self) -> impl Iterator<Item = (Revision, usize)> {
        self.events.iter().map(|event| (event.revision(), footprint(event)))
    }
}

/// A piece of the past for a watch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Catchup {
    /// The changes inside the range, up to and including `revision`.
    pub(crate) events: Vec<Event>,
    /// How far this piece goes; always the end of a whole transaction.
    pub(crate) revision: Revision,
    /// Whether that is the newest revision.
    pub(crate) complete: bool,
}

impl Table {
    /// The changes of `range` after `after`, looking at about `scan_max` changes of the history.
    pub(crate) fn events_after(
        &self,
        after: Revision,
        range: &KeyRange,
        scan_max: usize,
    ) -> Result<Catchup, StoreError> {
        self.check_readable(after)?;
        let first = self.history.events.partition_point(|event| event.revision() <= after);
        let last = first.saturating_add(scan_max).saturating_sub(1);
        let revision = self.history.revision_at(last).unwrap_or_else(|| self.revision());
        let scanned = self.history.events.range(first..);
        let events = scanned
            .take_while(|event| event.revision() <= revision)
            .filter(|event| range.contains(event.key()))
            .cloned()
            .collect();
        Ok(Catchup { events, revision, complete: revision == self.revision() })
    }

    /// Bytes that the history holds, replaced states included.
    pub(crate) fn history_bytes(&self) -> usize {
        self.history.bytes()
    }
}

/// Bytes of keys and values that an event keeps in memory, with its own size.
fn footprint(event: &Event) -> usize {
    let put = match event {
        Event::Delete { .. } => 0,
        Event::Put { kv, .. } => kv.value.len(),
    };
    let previous = event.previous().map_or(0, |kv: &KeyValue| kv.value.len());
    size_of::<Event>() + event.key().len() + put + previous
}
