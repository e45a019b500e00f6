//! Which nodes changed, in order: what lets an engine look at the changed nodes alone.
//!
//! Two logs of row numbers (indices into [`super::Snapshot::nodes`]). A reader keeps its own position
//! and asks for what came after it. The logs are bounded; a reader that fell behind is told so and
//! starts anew. A row that is past the end by the time it is read was a node that is gone.

use std::sync::Arc;

/// How many changes are kept at most. Half of them are dropped when there are more, so a reader may
/// fall 32,768 binds behind, by which point going over all nodes again is cheaper for most clusters.
const ENTRIES_MAX: usize = 1 << 16;

/// Row numbers in the order in which the rows changed.
#[derive(Debug, Default)]
pub struct RowLog {
    rows: Vec<u32>,
    /// The position of the first of `rows`.
    first: u64,
}

impl RowLog {
    /// The position after the latest change.
    pub fn end(&self) -> u64 {
        self.first + self.rows.len() as u64
    }

    /// The rows that changed since `position`, the same row possibly several times; `None` if some
    /// of them are no longer kept.
    pub fn since(&self, position: u64) -> Option<&[u32]> {
        let skip = usize::try_from(position.checked_sub(self.first)?).ok()?;
        self.rows.get(skip..)
    }

    fn push(&mut self, row: usize) {
        if self.rows.len() == ENTRIES_MAX {
            let dropped = ENTRIES_MAX / 2;
            self.rows.drain(..dropped);
            self.first += dropped as u64;
        }
        // More than 2^32 nodes do not fit into memory.
        self.rows.push(u32::try_from(row).unwrap_or(u32::MAX));
    }
}

/// The changes of one cache's nodes since it was made.
#[derive(Debug, Default)]
pub struct ChangeLog {
    /// Nodes of which anything changed: the object, the pods on it, or those nominated for it.
    pub rows: RowLog,
    /// Nodes whose object changed.
    pub objects: RowLog,
    /// Grows when what ImageLocality reads of all nodes together may have changed: how many there
    /// are, and which images they hold.
    pub images: u64,
    /// Grows when a PodDisruptionBudget changes.
    pub budgets: u64,
    /// Which cache this is. Positions in one cache's log mean nothing in another's.
    cache: Arc<()>,
}

/// Names the cache that a [`ChangeLog`] belongs to.
#[derive(Clone, Debug)]
pub struct CacheId(Arc<()>);

impl PartialEq for CacheId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for CacheId {}

impl ChangeLog {
    /// Whose changes these are.
    pub fn cache(&self) -> CacheId {
        CacheId(Arc::clone(&self.cache))
    }

    /// Whether these are the changes of that cache.
    pub fn is_of(&self, cache: &CacheId) -> bool {
        Arc::ptr_eq(&self.cache, &cache.0)
    }

    /// The pods on a node changed, or those nominated for it.
    pub(super) fn pods_changed(&mut self, row: usize) {
        self.rows.push(row);
    }

    /// A node's object changed, or another node stands in this row now.
    pub(super) fn object_changed(&mut self, row: usize) {
        self.rows.push(row);
        self.objects.push(row);
    }

    /// A PodDisruptionBudget changed.
    pub(super) fn budgets_changed(&mut self) {
        self.budgets += 1;
    }

    /// The number of nodes or the images they hold changed.
    pub(super) fn images_changed(&mut self) {
        self.images += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_that_fall_behind_are_told() {
        let mut log = RowLog::default();
        (0..ENTRIES_MAX).for_each(|row| log.push(row));
        assert_eq!(log.since(0).map(<[u32]>::len), Some(ENTRIES_MAX));
        log.push(7);
        assert_eq!(log.since(0), None);
        assert_eq!(log.since(ENTRIES_MAX as u64), Some(&[7][..]));
        assert_eq!(log.since(log.end()), Some(&[][..]));
        assert_eq!(log.since(log.end() + 1), None);
    }
}
