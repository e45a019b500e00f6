//! A revisioned key-value store with transactions, watch and compaction: what etcd is to
//! kube-apiserver.
//!
//! Every committed transaction that writes takes the next [`Revision`] of one global counter. Keys
//! are opaque bytes in lexicographic order; values are opaque bytes. The store knows nothing of
//! Kubernetes.
#![forbid(unsafe_code)]

mod types;

pub use types::{
    Compare, Event, KeyValue, Op, RangeRequest, RangeResponse, Revision, Store, StoreError, Txn,
    TxnResponse, WatchBatch, WatchRequest, WatchStream,
};
