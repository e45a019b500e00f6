//! How long a refused pod waits before it is tried again.

use std::time::Duration;

use super::QueuedPod;
use crate::time::Time;

/// Back-off ends in windows of this, so that among pods that end about together the priority
/// decides (`backoffQOrderingWindowDuration`).
const WINDOW_MS: u128 = 1000;

/// The window in which a back-off ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Window(u64);

impl Window {
    fn of(time: Time) -> Self {
        let windows = time.since_origin().as_millis() / WINDOW_MS;
        Self(u64::try_from(windows).unwrap_or(u64::MAX))
    }

    /// The first moment after the window.
    pub(super) fn end(self) -> Time {
        Time::new(Duration::from_secs(self.0.saturating_add(1)))
    }
}

/// Doubles from `initial` to `max`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) initial: Duration,
    pub(super) max: Duration,
}

impl Backoff {
    /// The window in which the pod's back-off ends; `None` if it was never refused. Errors in a row
    /// count by themselves.
    pub(super) fn window(self, pod: &QueuedPod) -> Option<Window> {
        let count = match pod.consecutive_errors {
            0 => pod.unschedulable_count,
            errors => errors,
        };
        (count > 0).then(|| Window::of(pod.queued_at.plus(self.duration(count))))
    }

    fn duration(self, count: u32) -> Duration {
        let doublings = count.saturating_sub(1);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.initial.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_limit() {
        let backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(10) };
        for (count, expected) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (40, 10)] {
            assert_eq!(backoff.duration(count), Duration::from_secs(expected), "{count}");
        }
    }

    #[test]
    fn windows_are_whole_seconds() {
        assert_eq!(Window::of(Time::from_millis(1500)).end(), Time::from_millis(2000));
        assert_eq!(Window::of(Time::from_millis(1000)).end(), Time::from_millis(2000));
        assert_eq!(Window::of(Time::from_millis(999)).end(), Time::from_millis(1000));
    }
}
