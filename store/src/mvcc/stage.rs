//! Deciding transactions before they are durable.
//!
//! The outcome of a transaction depends on everything decided before it, durable or not. What is
//! not durable yet lives in [`Pending`], laid over the [`Table`]; readers never see it.

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Table;
use crate::types::{Compare, Event, KeyValue, Op, Revision, StoreError, Txn, TxnResponse};

/// The transactions that are decided but not applied.
#[derive(Debug)]
pub(crate) struct Pending {
    revision: Revision,
    overlay: FxHashMap<Bytes, Option<KeyValue>>,
    events: Vec<Event>,
}

impl Pending {
    /// Nothing staged on top of `table`.
    pub(crate) fn new(table: &Table) -> Pending {
        Pending { revision: table.revision(), overlay: FxHashMap::default(), events: Vec::new() }
    }

    /// The changes of all staged transactions, in order of revision.
    pub(crate) fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// Decide `txn`, which must have passed [`check_txn`].
    pub(crate) fn stage(&mut self, table: &Table, txn: &Txn) -> TxnResponse {
        let succeeded = txn.compare.iter().all(|compare| self.holds(table, compare));
        if succeeded {
            self.stage_ops(table, &txn.ops);
            self.stage_ops(table, &txn.then);
        }
        let current = txn.compare.iter().map(|compare| self.get(table, &compare.key).cloned());
        TxnResponse { succeeded, revision: self.revision, current: current.collect() }
    }

    fn holds(&self, table: &Table, compare: &Compare) -> bool {
        let actual = self.get(table, &compare.key).map(|kv| kv.mod_revision);
        actual.unwrap_or_default() == compare.mod_revision
    }

    fn stage_ops(&mut self, table: &Table, ops: &[Op]) {
        let revision = self.revision.next();
        let staged_before = self.events.len();
        for op in ops {
            match op {
                Op::Delete { key } => self.stage_delete(table, key, revision),
                Op::Put { key, value } => self.stage_put(table, key, value, revision),
            }
        }
        if self.events.len() > staged_before {
            self.revision = revision;
        }
    }

    fn stage_delete(&mut self, table: &Table, key: &Bytes, revision: Revision) {
        let Some(previous) = self.get(table, key).cloned() else { return };
        self.overlay.insert(key.clone(), None);
        self.events.push(Event::Delete { key: key.clone(), revision, previous });
    }

    fn stage_put(&mut self, table: &Table, key: &Bytes, value: &Bytes, revision: Revision) {
        let previous = self.get(table, key).cloned();
        let kv = KeyValue {
            // One allocation of the key serves all its versions.
            key: previous.as_ref().map_or_else(|| key.clone(), |kv| kv.key.clone()),
            value: value.clone(),
            create_revision: previous.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: previous.as_ref().map_or(1, |kv| kv.version + 1),
        };
        self.overlay.insert(kv.key.clone(), Some(kv.clone()));
        self.events.push(Event::Put { kv, previous });
    }

    fn get<'a>(&'a self, table: &'a Table, key: &Bytes) -> Option<&'a KeyValue> {
        match self.overlay.get(key) {
            Some(staged) => staged.as_ref(),
            None => table.newest(key),
        }
    }
}

/// Refuse what breaks a rule of the store, before it is queued.
pub(crate) fn check_txn(txn: &Txn) -> Result<(), StoreError> {
    let ops = txn.ops.len() + txn.then.len();
    if ops > TXN_OPS_MAX || txn.compare.len() > TXN_OPS_MAX {
        return Err(StoreError::Invalid(format!(
            "transaction has {} comparisons and {ops} operations, at most {TXN_OPS_MAX} of each",
            txn.compare.len(),
        )));
    }
    txn.compare.iter().try_for_each(|compare| check_key(&compare.key))?;
    let bytes = check_ops(&txn.ops)? + check_ops(&txn.then)?;
    if bytes > TXN_BYTES_MAX {
        return Err(StoreError::Invalid(format!(
            "transaction writes {bytes} bytes, at most {TXN_BYTES_MAX}"
        )));
    }
    Ok(())
}

/// Of writes at one revision; how many bytes they are.
fn check_ops(ops: &[Op]) -> Result<usize, StoreError> {
    let mut written = FxHashSet::default();
    let mut bytes = 0;
    for op in ops {
        let (key, value_bytes) = match op {
            Op::Delete { key } => (key, 0),
            Op::Put { key, value } => (key, value.len()),
        };
        check_key(key)?;
        bytes += key.len() + value_bytes;
        if ops.len() > 1 && !written.insert(key) {
            let key = String::from_utf8_lossy(key);
            return Err(StoreError::Invalid(format!("key {key:?} is written twice")));
        }
    }
    Ok(bytes)
}

fn check_key(key: &Bytes) -> Result<(), StoreError> {
    match key.len() {
        0 => Err(StoreError::Invalid("key is empty".into())),
        len if len > KEY_BYTES_MAX => {
            Err(StoreError::Invalid(format!("key of {len} bytes, at most {KEY_BYTES_MAX}")))
        }
        _ => Ok(()),
    }
}

/// A namespace, a name and a group are at most 253 bytes each, with room for a prefix.
pub(crate) const KEY_BYTES_MAX: usize = 4096;
/// Keeps a log record well below a segment; Kubernetes takes objects of at most 3 MiB.
pub(crate) const TXN_BYTES_MAX: usize = 16 << 20;
/// As in etcd 3.6 times eight; bounds the events of one revision.
pub(crate) const TXN_OPS_MAX: usize = 1024;
