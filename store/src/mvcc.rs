//! The in-memory multi-version table: the newest state of every key, the older states that are
//! still readable, and the history of changes that watches read. Pure: no I/O, no clock, no locks.
//!
//! Mirrors etcd's `mvcc` package. A transaction is *staged* against the table and the transactions
//! staged before it ([`Pending`]), which yields its outcome and its events, and *applied* later,
//! once the events are durable.

mod history;
mod retention;
mod stage;
mod table;

pub(crate) use retention::Retention;
pub(crate) use stage::{Pending, check_txn};
pub(crate) use table::{KeyRange, Table};

#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod tests;
