//! The vocabulary of the store and the [`Store`] trait that every backend implements.
//!
//! Mirrors etcd's KV and Watch services as far as an API server needs them; leases, roles and
//! multi-member features are left out.

use std::fmt;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

/// A position in the store's history. 0 is "before the first write".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One key as it stood at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value, exactly as it was put.
    pub value: Bytes,
    /// When the key came to exist (again).
    pub create_revision: Revision,
    /// When the key was last put.
    pub mod_revision: Revision,
    /// How often the key was put since it was created; 1 after its creation.
    pub version: u64,
}

/// A condition of a transaction: the key's current mod revision equals `mod_revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key compared.
    pub key: Bytes,
    /// The expected mod revision; `Revision(0)` means that the key must not exist.
    pub mod_revision: Revision,
}

/// A write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Remove the key; no effect, and no event, if it does not exist.
    Delete {
        /// The key removed.
        key: Bytes,
    },
    /// Create or replace the key.
    Put {
        /// The key written.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
}

/// All comparisons hold, then all operations are applied at one revision, and those of `then` at the
/// next one; else none is. Nobody else writes in between, and both are durable or neither is.
/// A key may appear in at most one operation of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The conditions.
    pub compare: Vec<Compare>,
    /// The writes.
    pub ops: Vec<Op>,
    /// Writes that follow them.
    pub then: Vec<Op>,
}

/// What became of a [`Txn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnResponse {
    /// Whether the conditions held and the writes are durable.
    pub succeeded: bool,
    /// The revision of the writes, or the store's current one if nothing was written.
    pub revision: Revision,
    /// For each compared key, in order, its state: after the transaction if it succeeded, else the
    /// state that it was compared against.
    pub current: Vec<Option<KeyValue>>,
}

/// Which keys to read, and as of when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRequest {
    /// First key.
    pub start: Bytes,
    /// Key after the last; `None` reads the single key `start`.
    pub end: Option<Bytes>,
    /// As of this revision; `None` is now.
    pub revision: Option<Revision>,
    /// At most so many keys; 0 is no limit.
    pub limit: usize,
}

/// What a range read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeResponse {
    /// The store's current revision at the time of the read.
    pub revision: Revision,
    /// The keys in order.
    pub kvs: Vec<KeyValue>,
    /// How many keys the range holds beyond those returned.
    pub remaining: usize,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key was removed.
    Delete {
        /// The key.
        key: Bytes,
        /// When.
        revision: Revision,
        /// The state that was removed.
        previous: KeyValue,
    },
    /// The key was created or replaced.
    Put {
        /// The new state.
        kv: KeyValue,
        /// The state that was replaced; `None` for a creation.
        previous: Option<KeyValue>,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &Bytes {
        match self {
            Event::Delete { key, .. } => key,
            Event::Put { kv, .. } => &kv.key,
        }
    }

    /// The state before the change; `None` for a creation.
    pub fn previous(&self) -> Option<&KeyValue> {
        match self {
            Event::Delete { previous, .. } => Some(previous),
            Event::Put { previous, .. } => previous.as_ref(),
        }
    }

    /// When it changed.
    pub fn revision(&self) -> Revision {
        match self {
            Event::Delete { revision, .. } => *revision,
            Event::Put { kv, .. } => kv.mod_revision,
        }
    }
}

/// Which changes to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRequest {
    /// First key.
    pub start: Bytes,
    /// Key after the last; `None` watches the single key `start`.
    pub end: Option<Bytes>,
    /// Deliver every change after this revision (so a list's revision resumes where the list was
    /// read).
    pub after: Revision,
}

/// Changes in order of revision. Never empty of meaning: `events` may be empty when the batch only
/// tells how far the watch has come (etcd's progress notification).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// Every change of the watched range up to and including this revision has been delivered.
    pub revision: Revision,
    /// The changes.
    pub events: Vec<Event>,
}

/// The changes of a watch. Ends with an error, [`StoreError::Lagged`] among them, or when the store
/// closes.
pub type WatchStream = BoxStream<'static, Result<WatchBatch, StoreError>>;

/// What can go wrong.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// The store is shutting down, or a failed write has stopped it.
    #[error("store is closed: {0}")]
    Closed(String),
    /// The revision asked for has been compacted away: list again.
    #[error("revision {requested} has been compacted, oldest is {compacted}")]
    Compacted {
        /// What was asked for.
        requested: Revision,
        /// The newest compacted revision.
        compacted: Revision,
    },
    /// The revision asked for has not happened yet.
    #[error("revision {requested} is in the future, current is {current}")]
    FutureRevision {
        /// What was asked for.
        requested: Revision,
        /// The store's revision.
        current: Revision,
    },
    /// The request breaks a rule of the store.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The watcher was too slow and changes for it were dropped: list again.
    #[error("watch fell behind at revision {0}")]
    Lagged(Revision),
    /// Nothing more can be written until space is made; what was acknowledged is safe and readable.
    #[error("no space left for the log: {0}")]
    NoSpace(String),
}

/// A revisioned key-value store. Reads are linearizable: they see every acknowledged write.
pub trait Store: Send + Sync + 'static {
    /// Drop the history up to and including `revision`; the newest state of every key stays.
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Read keys.
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse, StoreError>>;

    /// The revision of the newest acknowledged write.
    fn revision(&self) -> BoxFuture<'_, Result<Revision, StoreError>>;

    /// Apply a transaction. Resolves only when its writes are durable.
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, StoreError>>;

    /// Follow changes. Fails with [`StoreError::Compacted`] or [`StoreError::FutureRevision`] where
    /// `after` is outside of the history.
    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, StoreError>>;
}
