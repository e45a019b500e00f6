//! The engine inside the process: an [`mvcc`](crate::mvcc) table behind a write-ahead log.
//!
//! One thread decides, logs and applies all transactions, in groups that share one flush to disk;
//! readers and watchers only ever see what is durable. Stands where kube-apiserver has an etcd
//! server with one member; it does not replicate.

mod directory;
mod range;
mod snapshot;
mod watch;
mod watcher;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};

use crate::log::{self, Disk, RealDisk, RecoverError};
use crate::mvcc::{Retention, Table, check_txn};
use crate::options::Options;
use crate::types::{
    RangeRequest, RangeResponse, Revision, Store, StoreError, Txn, TxnResponse, WatchRequest,
    WatchStream,
};
use directory::DirectoryLock;
use watch::Hub;
use writer::{Request, Writer};

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory open.
    #[error("data directory {} is in use by another process{}", dir.display(), of(*pid))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process, if it could be told.
        pid: Option<u32>,
    },
    /// The directory could not be created, opened or locked.
    #[error("{act} data directory {}", dir.display())]
    Directory {
        /// The act that failed.
        act: &'static str,
        /// The directory.
        dir: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// What the directory holds could not be read back.
    #[error("recover the store in {}", dir.display())]
    Recover {
        /// The directory.
        dir: PathBuf,
        /// The reason.
        #[source]
        source: RecoverError,
    },
    /// The writer thread could not be started.
    #[error("start the store's writer thread")]
    Thread(#[source] io::Error),
}

fn of(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// Figures for metrics and for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Groups of transactions made durable, each with one flush.
    pub commits: u64,
    /// The newest compacted revision.
    pub compacted: Revision,
    /// Changes in the history.
    pub history_events: usize,
    /// Bytes that the history holds in memory.
    pub history_bytes: usize,
    /// Keys that exist.
    pub keys: usize,
    /// Bytes of these keys and their values.
    pub live_bytes: u64,
    /// Bytes of log that a restart would replay.
    pub log_bytes: u64,
    /// The newest durable revision.
    pub revision: Revision,
    /// Open watches.
    pub watchers: usize,
}

/// A durable store in one directory. Dropping the last handle stops its threads, after what is
/// queued has been written, and unlocks the directory; open watches end.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    options: Options,
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What the writer, the readers and the watchers share.
struct Shared {
    table: RwLock<Table>,
    hub: Hub,
    /// Why writing stopped for good, once it has.
    failed: Mutex<Option<String>>,
    counters: writer::Counters,
}

impl EmbeddedStore {
    /// Open the store in `dir`, which is created with mode 0700 if it is missing, and recover what
    /// it holds. Blocks for as long as that takes: about a second for 500 MB.
    pub fn open(dir: &Path, options: Options) -> Result<Arc<EmbeddedStore>, OpenError> {
        let directory =
            |act| move |source| OpenError::Directory { act, dir: dir.to_owned(), source };
        directory::create(dir).map_err(directory("create"))?;
        let lock = DirectoryLock::take(dir)?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir).map_err(directory("open"))?);
        EmbeddedStore::start(disk, options, Some(lock)).map_err(|error| match error {
            StartError::Recover(source) => OpenError::Recover { dir: dir.to_owned(), source },
            StartError::Thread(source) => OpenError::Thread(source),
        })
    }

    fn start(
        disk: Arc<dyn Disk>,
        options: Options,
        lock: Option<DirectoryLock>,
    ) -> Result<Arc<EmbeddedStore>, StartError> {
        let mut retention = Retention::new(&options);
        let recovered = log::recover(&*disk, |table| writer::retain(table, &mut retention, 0))
            .map_err(StartError::Recover)?;
        let shared = Arc::new(Shared {
            hub: Hub::new(recovered.table.revision(), options.watch_buffer_events_max),
            table: RwLock::new(recovered.table),
            failed: Mutex::new(None),
            counters: writer::Counters::default(),
        });
        let (requests, queue) = mpsc::channel(QUEUE_TXNS_MAX);
        let log = log::Log::new(disk.clone(), options.segment_bytes, recovered.next_segment);
        let sizes = snapshot::Sizes::new(recovered.log_bytes, recovered.snapshot_bytes, &options);
        let snapshots = snapshot::Snapshots::new(disk, shared.clone(), sizes);
        let writer = Writer::new(shared.clone(), queue, log, retention, snapshots, lock);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(StartError::Thread)?;
        Ok(Arc::new(EmbeddedStore {
            shared,
            options,
            requests: Mutex::new(Some(requests)),
            writer: Mutex::new(Some(thread)),
        }))
    }

    /// Write what is queued, then stop; later writes are refused with [`StoreError::Closed`], reads
    /// still answer. Blocks until it is done, and the directory is unlocked then.
    pub fn close(&self) {
        self.requests.lock().take();
        if let Some(thread) = self.writer.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }

    /// An error once a failed write has stopped the store for good.
    pub fn health(&self) -> Result<(), StoreError> {
        match &*self.shared.failed.lock() {
            Some(reason) => Err(StoreError::Closed(reason.clone())),
            None => Ok(()),
        }
    }

    /// Figures as of now.
    pub fn stats(&self) -> Stats {
        let table = self.shared.table.read();
        Stats {
            compacted: table.compacted(),
            history_events: table.history_events(),
            history_bytes: table.history_bytes(),
            keys: table.live_keys(),
            live_bytes: table.live_bytes(),
            revision: table.revision(),
            watchers: self.shared.hub.watchers(),
            ..self.shared.counters.read()
        }
    }

    async fn submit(&self, txn: Txn) -> Result<TxnResponse, StoreError> {
        check_txn(&txn)?;
        let sender = self.requests.lock().clone().ok_or_else(|| self.closed())?;
        let (reply, response) = oneshot::channel();
        sender.send(Request { txn, reply }).await.map_err(|_| self.closed())?;
        drop(sender);
        response.await.map_err(|_| self.closed())?
    }

    fn closed(&self) -> StoreError {
        let failed = self.shared.failed.lock().clone();
        StoreError::Closed(failed.unwrap_or_else(|| "shutting down".into()))
    }
}

enum StartError {
    Recover(RecoverError),
    Thread(io::Error),
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for EmbeddedStore {
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.shared.table.write().compact(revision)?;
            while self.shared.table.write().purge(PURGE_EVENTS) {
                tokio::task::yield_now().await;
            }
            Ok(())
        }
        .boxed()
    }

    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse, StoreError>> {
        range::read(&self.shared, request).boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, StoreError>> {
        std::future::ready(Ok(self.shared.table.read().revision())).boxed()
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, StoreError>> {
        self.submit(txn).boxed()
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, StoreError>> {
        let stream = watcher::open(self.shared.clone(), request, self.options.progress_interval);
        std::future::ready(stream).boxed()
    }
}

/// Transactions that may wait for the writer thread; further callers wait in line for a place.
const QUEUE_TXNS_MAX: usize = 4096;
/// Changes freed under one hold of the table's lock: well below a millisecond.
const PURGE_EVENTS: usize = 1024;

#[cfg(test)]
mod tests;
