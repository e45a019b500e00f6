//! One watch: first what happened since, from the history; then what happens, from the buffer.
//!
//! The buffer is subscribed before the history is read, so nothing falls between the two; a batch
//! that is in both is told by its revision, as a group of transactions is applied and published
//! whole. When the buffer overflows, the watch goes back to the
//! history, and ends with [`StoreError::Lagged`] only when that has been compacted meanwhile.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::Shared;
use super::watch::{Buffer, Taken};
use crate::mvcc::KeyRange;
use crate::types::{Event, Revision, StoreError, WatchBatch, WatchRequest, WatchStream};

/// Begin a watch; see [`crate::Store::watch`].
pub(super) fn open(
    shared: Arc<Shared>,
    request: WatchRequest,
    progress_interval: Duration,
) -> Result<WatchStream, StoreError> {
    let range = KeyRange { start: request.start, end: request.end };
    let buffer = shared.hub.subscribe(&range);
    let watcher = Watcher {
        shared,
        range,
        buffer,
        progress_interval,
        delivered: request.after,
        source: Source::History,
    };
    watcher.shared.table.read().check_readable(watcher.delivered)?;
    let step = |mut watcher: Watcher| async { Some((watcher.next().await?, watcher)) };
    Ok(futures::stream::unfold(watcher, step).boxed())
}

struct Watcher {
    shared: Arc<Shared>,
    range: KeyRange,
    buffer: Arc<Buffer>,
    progress_interval: Duration,
    /// Everything up to here has been delivered.
    delivered: Revision,
    source: Source,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Buffer,
    Ended,
    History,
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<WatchBatch, StoreError>> {
        loop {
            let batch = match self.source {
                Source::Buffer => self.next_of_buffer().await,
                Source::Ended => return None,
                Source::History => self.next_of_history().await.transpose(),
            };
            match batch {
                Some(Err(error)) => {
                    self.source = Source::Ended;
                    return Some(Err(error));
                }
                Some(Ok(batch)) => return Some(Ok(batch)),
                None => {}
            }
        }
    }

    async fn next_of_history(&mut self) -> Result<Option<WatchBatch>, StoreError> {
        let read = self.shared.table.read().events_after(self.delivered, &self.range, SCAN_EVENTS);
        let piece = read.map_err(|error| match error {
            StoreError::Compacted { .. } => StoreError::Lagged(self.delivered),
            other => other,
        })?;
        let advanced = piece.revision > self.delivered;
        self.delivered = piece.revision;
        if piece.complete {
            self.source = Source::Buffer;
        } else if piece.events.is_empty() {
            tokio::task::yield_now().await;
            return Ok(None);
        }
        Ok(advanced.then_some(WatchBatch { revision: piece.revision, events: piece.events }))
    }

    /// The next batch from the buffer; `None` if the source has changed.
    async fn next_of_buffer(&mut self) -> Option<Result<WatchBatch, StoreError>> {
        loop {
            // Read first: with nothing in the buffer after that, all up to there is delivered.
            let published = self.shared.hub.published();
            match self.buffer.take() {
                Taken::Batch(batch) if batch.revision <= self.delivered => {}
                Taken::Batch(batch) => {
                    return Some(Ok(self.deliver(batch.revision, &batch.events)));
                }
                Taken::Closed => {
                    self.source = Source::Ended;
                    return None;
                }
                Taken::Nothing => {
                    let changed = self.buffer.changed.notified();
                    if tokio::time::timeout(self.progress_interval, changed).await.is_err()
                        && published > self.delivered
                    {
                        return Some(Ok(self.deliver(published, &[])));
                    }
                }
                Taken::Overflowed => {
                    self.source = Source::History;
                    return None;
                }
            }
        }
    }

    fn deliver(&mut self, revision: Revision, events: &[Event]) -> WatchBatch {
        self.delivered = revision;
        WatchBatch { revision, events: events.to_vec() }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.hub.unsubscribe(&self.range, &self.buffer);
    }
}

/// Changes looked at under one hold of the table's lock.
const SCAN_EVENTS: usize = 2048;
