//! The store as one would write it without a thought for speed: a copy of everything at every
//! revision. What the table and the embedded store are held against.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::KeyRange;
use crate::types::{Compare, Event, KeyValue, Op, RangeRequest, Revision, Txn, TxnResponse};

/// Every state there ever was, by revision, and every change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    states: Vec<BTreeMap<Bytes, KeyValue>>,
    events: Vec<Event>,
}

impl Model {
    pub(crate) fn new() -> Model {
        Model { states: vec![BTreeMap::new()], events: Vec::new() }
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision(self.states.len() as u64 - 1)
    }

    pub(crate) fn txn(&mut self, txn: &Txn) -> TxnResponse {
        let state = self.states.last().unwrap();
        let revision_of =
            |key: &Bytes| state.get(key).map_or(Revision(0), |kv: &KeyValue| kv.mod_revision);
        let succeeded = txn.compare.iter().all(|c| revision_of(&c.key) == c.mod_revision);
        for ops in [&txn.ops, &txn.then].into_iter().filter(|_| succeeded) {
            self.write(ops);
        }
        let newest = self.states.last().unwrap();
        let current = txn.compare.iter().map(|c| newest.get(&c.key).cloned()).collect();
        TxnResponse { succeeded, revision: self.revision(), current }
    }

    fn write(&mut self, ops: &[Op]) {
        let mut state = self.states.last().unwrap().clone();
        let revision = self.revision().next();
        let events: Vec<Event> =
            ops.iter().filter_map(|op| apply(&mut state, op, revision)).collect();
        if !events.is_empty() {
            self.states.push(state);
            self.events.extend(events);
        }
    }

    /// The keys found, and how many more there are.
    pub(crate) fn range(&self, request: &RangeRequest) -> (Vec<KeyValue>, usize) {
        let at = request.revision.unwrap_or(self.revision());
        let range = KeyRange { start: request.start.clone(), end: request.end.clone() };
        let state = &self.states[at.0 as usize];
        let all = state.values().filter(|kv| range.contains(&kv.key));
        let mut kvs: Vec<KeyValue> = all.cloned().collect();
        let limit = if request.limit == 0 { kvs.len() } else { request.limit.min(kvs.len()) };
        let remaining = kvs.split_off(limit).len();
        (kvs, remaining)
    }

    pub(crate) fn events(&self, range: &KeyRange, after: Revision) -> Vec<Event> {
        let wanted = |e: &&Event| e.revision() > after && range.contains(e.key());
        self.events.iter().filter(wanted).cloned().collect()
    }

    /// Forget what came after `revision`: a crash before it was acknowledged.
    pub(crate) fn truncate(&mut self, revision: Revision) {
        self.states.truncate(revision.0 as usize + 1);
        self.events.retain(|event| event.revision() <= revision);
    }
}

fn apply(state: &mut BTreeMap<Bytes, KeyValue>, op: &Op, revision: Revision) -> Option<Event> {
    match op {
        Op::Delete { key } => {
            let previous = state.remove(key)?;
            Some(Event::Delete { key: key.clone(), revision, previous })
        }
        Op::Put { key, value } => {
            let previous = state.get(key).cloned();
            let kv = KeyValue {
                key: key.clone(),
                value: value.clone(),
                create_revision: previous.as_ref().map_or(revision, |kv| kv.create_revision),
                mod_revision: revision,
                version: previous.as_ref().map_or(0, |kv| kv.version) + 1,
            };
            state.insert(key.clone(), kv.clone());
            Some(Event::Put { kv, previous })
        }
    }
}

/// A key out of eight.
pub(crate) fn any_key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "a/", "a/1", "a/2", "b", "b/1", "c", "d"]).prop_map(Bytes::from)
}

/// A range that may be a single key, empty or upside down.
pub(crate) fn any_range() -> impl Strategy<Value = KeyRange> {
    (any_key(), prop::option::of(any_key())).prop_map(|(start, end)| KeyRange { start, end })
}

/// A transaction whose comparisons have a fair chance to hold among a few revisions.
pub(crate) fn any_txn() -> impl Strategy<Value = Txn> {
    let compare = (any_key(), 0..12u64)
        .prop_map(|(key, revision)| Compare { key, mod_revision: Revision(revision) });
    let compare = prop::collection::vec(compare, 0..2);
    (prop::bool::weighted(0.4), compare, any_ops(), prop::option::weighted(0.3, any_ops()))
        .prop_map(|(conditional, compare, ops, then)| Txn {
            compare: if conditional { compare } else { Vec::new() },
            ops,
            then: then.unwrap_or_default(),
        })
}

/// Writes of as many keys.
fn any_ops() -> impl Strategy<Value = Vec<Op>> {
    let ops = prop::collection::btree_map(any_key(), prop::option::of("[a-z]{0,3}"), 0..3);
    ops.prop_map(|ops| {
        let op = |(key, value): (Bytes, Option<String>)| match value {
            None => Op::Delete { key },
            Some(value) => Op::Put { key, value: value.into() },
        };
        ops.into_iter().map(op).collect()
    })
}
