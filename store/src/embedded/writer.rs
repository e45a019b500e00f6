//! The writer thread: the only one that decides and applies transactions.
//!
//! It takes whatever is queued, decides it in order against the table and against what was decided
//! just before, writes one log frame, flushes once, applies, tells the watchers, and answers. While
//! it flushes, the next group gathers in the queue. As a group is applied before the next one is
//! decided, "pending" never outlives a group.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::directory::DirectoryLock;
use super::snapshot::Snapshots;
use super::{PURGE_EVENTS, Shared, Stats};
use crate::log::{Log, LogError, encode_events};
use crate::mvcc::{Pending, Retention, Table};
use crate::types::{Op, StoreError, Txn, TxnResponse};

/// A transaction and who waits for it.
pub(super) struct Request {
    pub(super) txn: Txn,
    pub(super) reply: oneshot::Sender<Result<TxnResponse, StoreError>>,
}

/// Figures that the writer keeps.
#[derive(Default)]
pub(super) struct Counters {
    commits: AtomicU64,
    log_bytes: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> Stats {
        Stats {
            commits: self.commits.load(Ordering::Relaxed),
            log_bytes: self.log_bytes.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }
}

/// The state of the thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Request>,
    log: Log,
    /// The frame under way; kept for its memory.
    payload: Vec<u8>,
    retention: Retention,
    snapshots: Snapshots,
    started: Instant,
    last_flush: Duration,
    last_group: usize,
    /// Let go of last, when nothing writes to the directory any more.
    _lock: Option<DirectoryLock>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        queue: mpsc::Receiver<Request>,
        log: Log,
        retention: Retention,
        snapshots: Snapshots,
        lock: Option<DirectoryLock>,
    ) -> Writer {
        Writer {
            shared,
            queue,
            log,
            payload: Vec::new(),
            retention,
            snapshots,
            started: Instant::now(),
            last_flush: Duration::ZERO,
            last_group: 0,
            _lock: lock,
        }
    }

    /// Serve until all senders are gone or a write fails for good.
    pub(super) fn run(mut self) {
        // Else a wait of some microseconds takes 50 more. If that is refused, it does.
        let _ = nix::sys::prctl::set_timerslack(TIMER_SLACK_NS);
        let mut group = Vec::new();
        while self.queue.blocking_recv_many(&mut group, GROUP_TXNS_MAX) > 0 {
            self.gather(&mut group);
            while !group.is_empty() {
                let rest = group.split_off(group_length(&group));
                self.commit(std::mem::replace(&mut group, rest));
            }
        }
        self.snapshots.stop();
        self.shared.hub.close();
    }

    /// Wait a moment for callers that were answered just now and are about to write again: without
    /// it the first of them gets a flush for itself, and all others wait for that and for their own.
    /// Waits while fewer are here than last time and more keep coming, no longer than a flush takes.
    fn gather(&mut self, group: &mut Vec<Request>) {
        let patience = self.last_flush.min(GATHER_MAX);
        let mut waited = Duration::ZERO;
        while group.len() < self.last_group && waited < patience {
            let step = (patience / GATHER_STEPS).max(GATHER_STEP_MIN);
            // Asleep: who is about to write needs the processor.
            std::thread::sleep(step);
            waited += step;
            if self.take_queued(group) == 0 {
                break;
            }
        }
        self.last_group = group.len();
    }

    /// Take what waits by now; how many that were.
    fn take_queued(&mut self, group: &mut Vec<Request>) -> usize {
        let before = group.len();
        while group.len() < GROUP_TXNS_MAX
            && let Ok(request) = self.queue.try_recv()
        {
            group.push(request);
        }
        group.len() - before
    }

    fn commit(&mut self, group: Vec<Request>) {
        let (outcomes, pending) = self.decide(&group);
        if let Some(reason) = self.shared.failed.lock().clone() {
            return refuse(group, &StoreError::Closed(reason));
        }
        match self.make_durable(pending) {
            Ok(()) => {
                for (request, outcome) in group.into_iter().zip(outcomes) {
                    // A caller that went away does not need its answer.
                    let _ = request.reply.send(Ok(outcome));
                }
            }
            Err(error) => refuse(group, &error),
        }
    }

    fn decide(&self, group: &[Request]) -> (Vec<TxnResponse>, Pending) {
        let table = self.shared.table.read();
        let mut pending = Pending::new(&table);
        let outcomes = group.iter().map(|request| pending.stage(&table, &request.txn)).collect();
        (outcomes, pending)
    }

    fn make_durable(&mut self, pending: Pending) -> Result<(), StoreError> {
        let events = pending.into_events();
        if events.is_empty() {
            return Ok(());
        }
        encode_events(&mut self.payload, &events);
        let start = Instant::now();
        let bytes = self.log.append(&self.payload).map_err(|error| self.failed(&error))?;
        self.last_flush = start.elapsed();
        self.payload.shrink_to(PAYLOAD_BYTES_KEPT);
        let now_ms = self.started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        let revision = {
            let mut table = self.shared.table.write();
            table.apply(events.clone());
            retain(&mut table, &mut self.retention, now_ms);
            // Twice as fast as it grows, so that it cannot outgrow its limits.
            table.purge(events.len() * 2);
            table.revision()
        };
        self.shared.hub.publish(revision, &events);
        let log_bytes = self.snapshots.grown(bytes, revision, &mut self.log);
        self.shared.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.shared.counters.log_bytes.store(log_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn failed(&self, error: &LogError) -> StoreError {
        match error {
            LogError::NoSpace { source, .. } => StoreError::NoSpace(format!("{error}: {source}")),
            LogError::Failed { source, .. } => {
                let reason = format!("{error}: {source}");
                tracing::error!(reason, "the store takes no more writes until it is restarted");
                *self.shared.failed.lock() = Some(reason.clone());
                StoreError::Closed(reason)
            }
        }
    }
}

/// Compact and free history as the retention rule says.
pub(super) fn retain(table: &mut Table, retention: &mut Retention, now_ms: u64) {
    if let Some(target) = retention.observe(table, now_ms) {
        // Only ever forward and never beyond the newest revision, so it cannot be refused.
        let compacted = table.compact(target);
        debug_assert!(compacted.is_ok(), "{compacted:?}");
    }
    table.purge(PURGE_EVENTS);
}

fn refuse(group: Vec<Request>, error: &StoreError) {
    for request in group {
        let _ = request.reply.send(Err(error.clone()));
    }
}

/// How many of the waiting transactions go into one frame.
fn group_length(group: &[Request]) -> usize {
    let mut bytes = 0;
    let fits = |request: &&Request| {
        let Txn { ops, then, .. } = &request.txn;
        bytes += ops.iter().chain(then).map(op_bytes).sum::<usize>();
        bytes <= GROUP_BYTES_MAX
    };
    group.iter().take_while(fits).count().max(1)
}

fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Delete { key } => key.len(),
        Op::Put { key, value } => key.len() + value.len(),
    }
}

/// How late a wait of this thread may end: little beside a flush.
const TIMER_SLACK_NS: u64 = 2_000;
/// Longest wait for a group to gather, however slow the disk: not worth noticing for a person.
const GATHER_MAX: Duration = Duration::from_millis(1);
/// Looks at the queue while a group gathers: a flush that nobody else would join is put off by a
/// quarter of one at most.
const GATHER_STEPS: u32 = 4;
/// A shorter sleep costs more processor time than it is long.
const GATHER_STEP_MIN: Duration = Duration::from_micros(10);
/// Transactions that share a flush: beyond this the flush is no longer what takes the time.
const GROUP_TXNS_MAX: usize = 512;
/// A group of this size is common enough to keep its buffer.
const PAYLOAD_BYTES_KEPT: usize = 4 << 20;
/// Bytes that share a flush, so that a small write does not wait behind many large ones.
const GROUP_BYTES_MAX: usize = 8 << 20;
