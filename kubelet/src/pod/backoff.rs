//! How long a container that ends again and again waits before its next start.
//!
//! client-go's flowcontrol.Backoff as the kubelet uses it: the first restart is at once, the next
//! waits 10 s after the container ended, then double that, at most 5 min. A container that ended
//! more than twice the maximum after its last start begins anew.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// One container's waiting time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    /// How long to wait, and when that was decided (the last restart).
    entry: Option<(SignedDuration, Timestamp)>,
}

impl Backoff {
    /// When a container that ended at `finished_at` may start again; `None`: now.
    #[must_use]
    pub fn until(&self, finished_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let (delay, _) = self.entry.filter(|entry| !expired(*entry, finished_at))?;
        finished_at.checked_add(delay).ok().filter(|until| *until > now)
    }

    /// The delay that is in force.
    #[must_use]
    pub fn delay(&self) -> SignedDuration {
        self.entry.map_or(SignedDuration::ZERO, |(delay, _)| delay)
    }

    /// Note a restart, now, of a container that ended at `finished_at`.
    pub fn restarted(&mut self, finished_at: Timestamp, now: Timestamp) {
        let delay = match self.entry.filter(|entry| !expired(*entry, finished_at)) {
            Some((delay, _)) => (delay * 2).min(MAX),
            None => INITIAL,
        };
        self.entry = Some((delay, now));
    }
}

fn expired((_, restarted_at): (SignedDuration, Timestamp), finished_at: Timestamp) -> bool {
    finished_at.duration_since(restarted_at) > MAX * 2
}

const INITIAL: SignedDuration = SignedDuration::from_secs(10);
const MAX: SignedDuration = SignedDuration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn waits_double_up_to_five_minutes() {
        let mut backoff = Backoff::default();
        let mut now = 1000;
        let mut waits = Vec::new();
        for _ in 0..8 {
            // The container ends one second after its start.
            let finished = now + 1;
            let until = backoff.until(at(finished), at(finished));
            now = until.map_or(finished, Timestamp::as_second);
            waits.push(now - finished);
            backoff.restarted(at(finished), at(now));
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_long_run_begins_anew() {
        let mut backoff = Backoff::default();
        backoff.restarted(at(0), at(0));
        backoff.restarted(at(5), at(15));
        assert_eq!(backoff.until(at(615), at(615)), Some(at(635)));
        assert_eq!(backoff.until(at(616), at(616)), None);
        backoff.restarted(at(616), at(616));
        assert_eq!(backoff.delay(), INITIAL);
    }
}
