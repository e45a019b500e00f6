//! When to take a snapshot, and the thread that takes it while writing goes on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::Shared;
use super::range::PAGE_KEYS;
use crate::log::{Disk, Log, SnapshotWriter, remove_superseded};
use crate::mvcc::KeyRange;
use crate::options::Options;
use crate::types::Revision;

/// The rule of when the next snapshot is due. Pure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Log since the last finished snapshot.
    log_bytes: u64,
    /// Log since a snapshot was last tried.
    tried_bytes: u64,
    snapshot_bytes: u64,
    log_bytes_min: u64,
}

impl Sizes {
    pub(super) fn new(log_bytes: u64, snapshot_bytes: u64, options: &Options) -> Sizes {
        let log_bytes_min = options.snapshot_log_bytes;
        Sizes { log_bytes, tried_bytes: log_bytes, snapshot_bytes, log_bytes_min }
    }

    /// Replaying the log then costs about as much as loading the snapshot; and writing snapshots
    /// at most doubles what is written. After a failed try it waits for a quarter more.
    fn due(&self) -> bool {
        self.log_bytes > self.log_bytes_min.max(self.snapshot_bytes)
            && self.tried_bytes > self.log_bytes_min / 4
    }

    fn grow(&mut self, bytes: u64) {
        self.log_bytes += bytes;
        self.tried_bytes += bytes;
    }

    fn finished(&mut self, snapshot_bytes: u64) {
        self.log_bytes = self.tried_bytes;
        self.snapshot_bytes = snapshot_bytes;
    }
}

/// The writer thread's hold on snapshots.
pub(super) struct Snapshots {
    disk: Arc<dyn Disk>,
    shared: Arc<Shared>,
    sizes: Sizes,
    running: Option<JoinHandle<()>>,
    outcome: Arc<Outcome>,
}

/// What the snapshot thread and the writer thread tell each other.
#[derive(Default)]
struct Outcome {
    /// Size of a finished snapshot, until the writer has taken note; 0 is none.
    finished_bytes: AtomicU64,
    stop: AtomicBool,
}

impl Snapshots {
    pub(super) fn new(disk: Arc<dyn Disk>, shared: Arc<Shared>, sizes: Sizes) -> Snapshots {
        Snapshots { disk, shared, sizes, running: None, outcome: Arc::default() }
    }

    /// Take note of `bytes` more log, up to `revision`, and begin a snapshot if one is due. The
    /// bytes of log that a restart would replay.
    pub(super) fn grown(&mut self, bytes: u64, revision: Revision, log: &mut Log) -> u64 {
        self.sizes.grow(bytes);
        match self.outcome.finished_bytes.swap(0, Ordering::Acquire) {
            0 => {}
            bytes => self.sizes.finished(bytes),
        }
        let running = self.running.as_ref().is_some_and(|thread| !thread.is_finished());
        if !running && self.sizes.due() {
            self.begin(revision, log);
        }
        self.sizes.log_bytes
    }

    /// End a snapshot in progress.
    pub(super) fn stop(&mut self) {
        self.outcome.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.running.take() {
            let _ = thread.join();
        }
    }

    fn begin(&mut self, revision: Revision, log: &mut Log) {
        self.sizes.tried_bytes = 0;
        let first_needed = log.end_segment();
        self.shared.table.write().pin(revision);
        let (disk, shared) = (self.disk.clone(), self.shared.clone());
        let outcome = self.outcome.clone();
        let work = move || {
            let result = take(&*disk, &shared, revision, first_needed, &outcome.stop);
            shared.table.write().unpin(revision);
            match result {
                Ok(bytes) => outcome.finished_bytes.store(bytes, Ordering::Release),
                Err(error) => tracing::warn!(%revision, %error, "no snapshot of the store"),
            }
        };
        match std::thread::Builder::new().name("store-snapshot".into()).spawn(work) {
            Ok(thread) => self.running = Some(thread),
            Err(error) => {
                self.shared.table.write().unpin(revision);
                tracing::warn!(%revision, %error, "no thread for a snapshot of the store");
            }
        }
    }
}

/// Write the snapshot of `revision`, then remove what it stands for. Its size in bytes.
fn take(
    disk: &dyn Disk,
    shared: &Shared,
    revision: Revision,
    first_needed: u64,
    stop: &AtomicBool,
) -> io::Result<u64> {
    let mut writer = SnapshotWriter::create(disk, revision)?;
    let written = add_all(&mut writer, shared, revision, stop);
    match written.and_then(|()| writer.finish()) {
        Ok(bytes) => {
            remove_superseded(disk, revision, first_needed)?;
            Ok(bytes)
        }
        Err(error) => {
            writer.abandon();
            Err(error)
        }
    }
}

fn add_all(
    writer: &mut SnapshotWriter<'_>,
    shared: &Shared,
    revision: Revision,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut range = KeyRange::starting_at(Bytes::new());
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("the store is closing"));
        }
        let page = shared.table.read().page(&range, revision, PAGE_KEYS);
        page.iter().try_for_each(|kv| writer.add(kv))?;
        match page.last() {
            Some(last) if page.len() == PAGE_KEYS => {
                range = KeyRange::starting_at([&last.key[..], &[0]].concat().into());
            }
            _ => return Ok(()),
        }
    }
}
