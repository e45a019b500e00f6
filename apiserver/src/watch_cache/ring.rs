//! The last changes of one resource, each at a position that only grows.

use std::collections::VecDeque;
use std::sync::Arc;

use pintle_api::status::Status;

use crate::storage::Stored;

/// One change of one object.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    /// The state before; of a removal, the last state as of the removal's revision.
    pub(crate) old: Option<Arc<Stored>>,
    /// `None`: the object was removed.
    pub(crate) new: Option<Arc<Stored>>,
}

/// A bounded queue of changes that many read at their own pace.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    changes: VecDeque<Arc<Change>>,
    /// The position of the front change.
    first: u64,
    /// Changes up to this revision are not (or no longer) here.
    floor: u64,
}

impl Ring {
    pub(super) fn push(&mut self, change: Change) {
        self.changes.push_back(Arc::new(change));
        if self.changes.len() > CHANGES_MAX
            && let Some(dropped) = self.changes.pop_front()
        {
            self.first += 1;
            self.floor = dropped.revision;
        }
    }

    /// Forget everything, as of `revision`: what happened in between is not known.
    pub(super) fn reset(&mut self, revision: u64) {
        // One position is skipped, so that a reader at the end notices too.
        self.first += self.changes.len() as u64 + 1;
        self.changes.clear();
        self.floor = revision;
    }

    /// The revision of the newest change, or of the last reset.
    pub(super) fn newest(&self) -> u64 {
        self.changes.back().map_or(self.floor, |change| change.revision)
    }

    pub(super) fn position_after(&self, revision: u64) -> Result<u64, Status> {
        if revision < self.floor {
            return Err(Status::too_old(revision, self.floor));
        }
        let skipped = self.changes.partition_point(|change| change.revision <= revision);
        Ok(self.first + skipped as u64)
    }

    pub(super) fn read(&self, position: u64, count: usize) -> Option<Vec<Arc<Change>>> {
        let offset = usize::try_from(position.checked_sub(self.first)?).ok()?;
        Some(self.changes.range(offset.min(self.changes.len())..).take(count).cloned().collect())
    }
}

/// Some seconds of writes at full speed. k8s.io/apiserver's cacher grows to 100 * 1024.
const CHANGES_MAX: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64) -> Change {
        Change { revision, old: None, new: None }
    }

    fn revisions(ring: &Ring, position: u64) -> Option<Vec<u64>> {
        ring.read(position, 10).map(|changes| changes.iter().map(|c| c.revision).collect())
    }

    #[test]
    fn a_reader_goes_on_where_its_list_was_read() {
        let mut ring = Ring::default();
        ring.reset(5);
        ring.push(change(7));
        ring.push(change(9));
        let position = ring.position_after(7).unwrap();
        assert_eq!(revisions(&ring, position), Some(vec![9]));
        assert_eq!(revisions(&ring, ring.position_after(5).unwrap()), Some(vec![7, 9]));
        assert_eq!(ring.position_after(4).unwrap_err().code(), 410);
        assert_eq!(ring.newest(), 9);
    }

    #[test]
    fn what_falls_off_is_gone_for_slow_readers() {
        let mut ring = Ring::default();
        let position = ring.position_after(0).unwrap();
        for revision in 1..=CHANGES_MAX as u64 + 3 {
            ring.push(change(revision));
        }
        assert_eq!(revisions(&ring, position), None);
        assert_eq!(ring.position_after(2).unwrap_err().code(), 410);
        assert_eq!(revisions(&ring, ring.position_after(3).unwrap()).unwrap()[0], 4);
    }

    #[test]
    fn a_reset_is_noticed_by_readers_at_the_end() {
        let mut ring = Ring::default();
        ring.push(change(1));
        let position = ring.position_after(1).unwrap();
        ring.reset(8);
        assert_eq!(revisions(&ring, position), None);
    }
}
