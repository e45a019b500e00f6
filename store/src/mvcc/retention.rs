//! How much history to keep: the rule, apart from the clock and from the freeing.

use std::collections::VecDeque;

use super::Table;
use crate::options::Options;
use crate::types::Revision;

/// Remembers, second by second, which revision was reached when.
#[derive(Debug)]
pub(crate) struct Retention {
    age_ms: u64,
    bytes_max: usize,
    events_max: usize,
    /// (time, revision reached by then), oldest first, at most one a second.
    marks: VecDeque<(u64, Revision)>,
}

impl Retention {
    /// The limits of `options`.
    pub(crate) fn new(options: &Options) -> Retention {
        Retention {
            age_ms: options.history_age.as_millis().try_into().unwrap_or(u64::MAX),
            bytes_max: options.history_bytes_max,
            events_max: options.history_events_max,
            marks: VecDeque::new(),
        }
    }

    /// Note that the table stands at its revision at `now_ms`, and say up to which revision its
    /// history should be compacted, if at all.
    pub(crate) fn observe(&mut self, table: &Table, now_ms: u64) -> Option<Revision> {
        if self.marks.back().is_none_or(|(at, _)| now_ms >= at.saturating_add(MARK_MS)) {
            self.marks.push_back((now_ms, table.revision()));
        }
        let by_age = self.too_old(now_ms).unwrap_or_default();
        let target = by_age.max(self.too_much(table));
        (target > table.compacted()).then_some(target)
    }

    fn too_old(&mut self, now_ms: u64) -> Option<Revision> {
        let mut reached = None;
        while let Some((at, revision)) = self.marks.front().copied()
            && at.saturating_add(self.age_ms) < now_ms
        {
            reached = Some(revision);
            self.marks.pop_front();
        }
        reached
    }

    fn too_much(&self, table: &Table) -> Revision {
        let mut events = table.history_events();
        let mut bytes = table.history_bytes();
        let mut target = Revision::default();
        for (revision, footprint) in table.history.front() {
            if events <= self.events_max && bytes <= self.bytes_max {
                break;
            }
            events -= 1;
            bytes -= footprint;
            target = revision;
        }
        target
    }
}

/// Resolution of the history's age.
const MARK_MS: u64 = 1000;
