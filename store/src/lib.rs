//! A revisioned key-value store with transactions, watch and compaction: what etcd is to
//! kube-apiserver.
//!
//! Every committed transaction that writes takes the next [`Revision`] of one global counter. Keys
//! are opaque bytes in lexicographic order; values are opaque bytes. The store knows nothing of
//! Kubernetes. [`EmbeddedStore`] is the engine inside the process: a table in memory behind a
//! write-ahead log; `docs/store.md` tells its design and file format.
#![forbid(unsafe_code)]

mod embedded;
mod log;
mod mvcc;
mod options;
mod types;

pub use crate::log::RecoverError;
pub use embedded::{EmbeddedStore, OpenError, Stats};
pub use options::Options;
pub use types::{
    Compare, Event, KeyValue, Op, RangeRequest, RangeResponse, Revision, Store, StoreError, Txn,
    TxnResponse, WatchBatch, WatchRequest, WatchStream,
};
