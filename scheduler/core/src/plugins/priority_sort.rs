//! PrioritySort: the order of the active queue.

use std::cmp::Reverse;

use crate::time::Time;

/// Orders pods: the smaller key goes first.
pub type SortKey = (Reverse<i32>, Time);

/// Higher priority first; among equals the one that has been in the queue for longer.
pub fn sort_key(priority: i32, queued_at: Time) -> SortKey {
    (Reverse(priority), queued_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_then_time() {
        let key = |priority, millis| sort_key(priority, Time::from_millis(millis));
        assert!(key(10, 5) < key(0, 1));
        assert!(key(0, 1) < key(0, 2));
        assert!(key(-1, 1) > key(0, 2));
    }
}
