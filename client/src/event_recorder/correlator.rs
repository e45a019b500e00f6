//! Decides whether an event is new, a repetition or spam. Pure: the time is an argument.

use std::collections::HashMap;

use tokio::time::Instant;

use super::{BURST, EventRecord, REFILL, REMEMBERED_MAX};

/// What to do with an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Too many about this object.
    Drop,
    /// Write it as a new object.
    First,
    /// Raise the count of an earlier one.
    Repeat { name: String, count: i32 },
}

#[derive(Default)]
pub(super) struct Correlator {
    written: HashMap<(String, EventRecord), (String, i32)>,
    buckets: HashMap<String, Bucket>,
}

struct Bucket {
    tokens: u32,
    refilled: Instant,
}

impl Correlator {
    /// Decide on one event about the object `uid`.
    pub(super) fn observe(&mut self, uid: &str, record: &EventRecord, now: Instant) -> Outcome {
        if !self.take_token(uid, now) {
            return Outcome::Drop;
        }
        match self.written.get_mut(&(uid.to_owned(), record.clone())) {
            None => Outcome::First,
            Some((name, count)) => {
                *count = count.saturating_add(1);
                Outcome::Repeat { name: name.clone(), count: *count }
            }
        }
    }

    /// Remember that `record` is written as the object `name`. When the memory is full it starts
    /// afresh: at worst a repetition becomes a second object.
    pub(super) fn wrote(&mut self, uid: &str, record: &EventRecord, name: String) {
        if self.written.len() >= REMEMBERED_MAX {
            self.written.clear();
        }
        self.written.insert((uid.to_owned(), record.clone()), (name, 1));
    }

    fn take_token(&mut self, uid: &str, now: Instant) -> bool {
        if self.buckets.len() >= REMEMBERED_MAX && !self.buckets.contains_key(uid) {
            self.buckets.clear();
        }
        let full = Bucket { tokens: BURST, refilled: now };
        let bucket = self.buckets.entry(uid.to_owned()).or_insert(full);
        while bucket.tokens < BURST && now.duration_since(bucket.refilled) >= REFILL {
            bucket.tokens += 1;
            bucket.refilled += REFILL;
        }
        if bucket.tokens == BURST {
            bucket.refilled = now;
        }
        if bucket.tokens == 0 {
            return false;
        }
        bucket.tokens -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_event_raises_the_count() {
        let mut correlator = Correlator::default();
        let now = Instant::now();
        let record = EventRecord::normal("Created", "pod a");
        assert_eq!(correlator.observe("u", &record, now), Outcome::First);
        correlator.wrote("u", &record, "e.1".to_owned());
        let repeat = Outcome::Repeat { name: "e.1".to_owned(), count: 2 };
        assert_eq!(correlator.observe("u", &record, now), repeat);
        assert_eq!(correlator.observe("other", &record, now), Outcome::First);
    }

    #[test]
    fn one_object_may_burst_and_then_drip() {
        let mut correlator = Correlator::default();
        let start = Instant::now();
        let observe = |correlator: &mut Correlator, n: u32, now| {
            correlator.observe("u", &EventRecord::normal("R", n.to_string()), now)
        };
        for n in 0..BURST {
            assert_eq!(observe(&mut correlator, n, start), Outcome::First);
        }
        assert_eq!(observe(&mut correlator, 99, start), Outcome::Drop);
        assert_eq!(observe(&mut correlator, 99, start + REFILL), Outcome::First);
        assert_eq!(observe(&mut correlator, 99, start + REFILL), Outcome::Drop);
    }
}
