//! Range reads, in pages so that a long list does not hold up the writer.

use super::Shared;
use crate::mvcc::KeyRange;
use crate::types::{RangeRequest, RangeResponse, Revision, StoreError};

/// Answer `request` from one revision.
pub(super) async fn read(
    shared: &Shared,
    request: RangeRequest,
) -> Result<RangeResponse, StoreError> {
    if request.end.is_none() || (1..=PAGE_KEYS).contains(&request.limit) {
        return shared.table.read().range(&request);
    }
    let (pin, revision) = Pin::take(shared, request.revision)?;
    let limit = if request.limit == 0 { usize::MAX } else { request.limit };
    let mut range = KeyRange { start: request.start, end: request.end };
    let mut kvs = Vec::new();
    loop {
        let wanted = PAGE_KEYS.min(limit - kvs.len());
        let mut page = shared.table.read().page(&range, pin.revision, wanted);
        let found = page.len();
        kvs.append(&mut page);
        if found < PAGE_KEYS || kvs.len() == limit {
            break;
        }
        range.start = after(&kvs.last().expect("a full page").key);
        tokio::task::yield_now().await;
    }
    let remaining = match kvs.last() {
        Some(last) if kvs.len() == limit => {
            range.start = after(&last.key);
            shared.table.read().count(&range, pin.revision)
        }
        _ => 0,
    };
    Ok(RangeResponse { revision, kvs, remaining })
}

/// The first key after `key`.
fn after(key: &[u8]) -> bytes::Bytes {
    [key, &[0]].concat().into()
}

/// A revision that stays readable while this lives.
struct Pin<'a> {
    shared: &'a Shared,
    revision: Revision,
}

impl Pin<'_> {
    fn take(shared: &Shared, at: Option<Revision>) -> Result<(Pin<'_>, Revision), StoreError> {
        let mut table = shared.table.write();
        let current = table.revision();
        let revision = at.unwrap_or(current);
        table.check_readable(revision)?;
        table.pin(revision);
        Ok((Pin { shared, revision }, current))
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.shared.table.write().unpin(self.revision);
    }
}

/// Keys read under one hold of the table's lock: about 100 µs.
pub(super) const PAGE_KEYS: usize = 1000;
