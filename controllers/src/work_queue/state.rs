//! The work queue without locks, clock or waking.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Which keys wait, are being worked on, come later, and have failed.
pub(super) struct State<T> {
    /// In order of arrival. A key is here at most once and never while it is processing.
    queue: VecDeque<(T, Instant)>,
    /// Must be worked on: in `queue`, or processing and added again.
    dirty: HashSet<T>,
    processing: HashSet<T>,
    /// By time, and by key so that each is here once, at its earliest time.
    later: BTreeSet<(Instant, T)>,
    later_at: HashMap<T, Instant>,
    failures: HashMap<T, u32>,
    adds: u64,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            later: BTreeSet::new(),
            later_at: HashMap::new(),
            failures: HashMap::new(),
            adds: 0,
        }
    }
}

impl<T: Clone + Eq + Hash + Ord> State<T> {
    pub(super) fn add(&mut self, key: T, now: Instant) {
        if !self.dirty.insert(key.clone()) {
            return;
        }
        self.adds += 1;
        if !self.processing.contains(&key) {
            self.queue.push_back((key, now));
        }
    }

    pub(super) fn add_at(&mut self, key: T, due: Instant) {
        if let Some(&earlier) = self.later_at.get(&key) {
            if earlier <= due {
                return;
            }
            self.later.remove(&(earlier, key.clone()));
        }
        self.later_at.insert(key.clone(), due);
        self.later.insert((due, key));
    }

    /// Move the keys whose time has come into the queue.
    pub(super) fn release_due(&mut self, now: Instant) {
        while self.later.first().is_some_and(|(due, _)| *due <= now) {
            let (_, key) = self.later.pop_first().expect("it has a first element");
            self.later_at.remove(&key);
            self.add(key, now);
        }
    }

    /// When the next delayed key is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.later.first().map(|(due, _)| *due)
    }

    /// The next key and how long it waited.
    pub(super) fn take(&mut self, now: Instant) -> Option<(T, Duration)> {
        let (key, since) = self.queue.pop_front()?;
        self.dirty.remove(&key);
        self.processing.insert(key.clone());
        Some((key, now.duration_since(since)))
    }

    pub(super) fn done(&mut self, key: &T, now: Instant) {
        self.processing.remove(key);
        if self.dirty.contains(key) {
            self.queue.push_back((key.clone(), now));
        }
    }

    pub(super) fn next_backoff(&mut self, key: &T) -> Duration {
        let failures = self.failures.entry(key.clone()).or_default();
        let delay = BACKOFF_BASE.saturating_mul(1 << (*failures).min(BACKOFF_DOUBLINGS_MAX));
        *failures = failures.saturating_add(1);
        delay.min(BACKOFF_MAX)
    }

    pub(super) fn forget(&mut self, key: &T) {
        self.failures.remove(key);
    }

    pub(super) fn depth(&self) -> i64 {
        i64::try_from(self.queue.len()).unwrap_or(i64::MAX)
    }

    /// Keys that became dirty so far.
    pub(super) fn adds(&self) -> u64 {
        self.adds
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.processing.is_empty()
    }
}

/// client-go's DefaultControllerRateLimiter starts here ...
pub(super) const BACKOFF_BASE: Duration = Duration::from_millis(5);

/// ... and ends here.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(1000);

/// 5 ms doubled 18 times is past the maximum; more doublings would only overflow.
const BACKOFF_DOUBLINGS_MAX: u32 = 18;
