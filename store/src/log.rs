//! The write-ahead log and the snapshots: what makes the table survive the process.
//!
//! The log is a row of preallocated segment files. Each holds frames, one for every group of
//! transactions that became durable together. A snapshot is the newest state of every key at one
//! revision; the segments before it are removed. `docs/store.md` has the format and the invariants.
//! It knows frames and revisions, and nothing of what a transaction decides.

mod codec;
mod disk;
mod frame;
mod open;
mod segment;
mod snapshot;

pub(crate) use codec::{decode_events, encode_events};
pub(crate) use disk::{Disk, DiskFile, RealDisk};
pub(crate) use open::recover;
pub(crate) use segment::Log;
pub(crate) use snapshot::{SnapshotWriter, remove_superseded};

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::io;

/// Why the log could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The write or the flush failed: what is on disk is not known, so nothing may follow it.
    #[error("{act} {file}")]
    Failed { act: &'static str, file: String, source: io::Error },
    /// No space for another segment. The log stands as it stood.
    #[error("allocate {file}")]
    NoSpace { file: String, source: io::Error },
}

/// Why the log could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A file holds something that no crash can explain.
    #[error("{file} is corrupt at byte {offset}: {what}")]
    Corrupt {
        /// The file's name in the data directory.
        file: String,
        /// Where in it.
        offset: u64,
        /// What was found there.
        what: String,
    },
    /// A file could not be read, written or removed.
    #[error("{act} {file}")]
    Io {
        /// The act that failed.
        act: &'static str,
        /// The file's name in the data directory.
        file: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

impl RecoverError {
    fn io(act: &'static str, file: &str) -> impl FnOnce(io::Error) -> RecoverError {
        move |source| RecoverError::Io { act, file: file.to_owned(), source }
    }

    fn corrupt(file: &str, offset: u64, what: impl Into<String>) -> RecoverError {
        RecoverError::Corrupt { file: file.to_owned(), offset, what: what.into() }
    }
}
