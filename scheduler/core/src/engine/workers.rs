//! How the workers of a batch begin and end, and what they share without waiting for each other: which
//! rows were taken so far, and who fills which class.
//!
//! What they share is modelled in `tests/models.rs`, where every order of their steps is tried.

mod claims;
mod rows_taken;
mod together;

pub(super) use claims::Claims;
pub(super) use rows_taken::RowsTaken;
pub(crate) use together::{End, together};

/// What the models replace.
mod sync {
    pub(super) use std::sync::Mutex;
    pub(super) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
}
