//! The queue against its promises.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::WorkQueue;
use super::state::{BACKOFF_BASE, BACKOFF_MAX, State};
use crate::metrics::QueueMetrics;

#[derive(Clone, Copy, Debug)]
enum Step {
    Add(u8),
    AddLater(u8, u64),
    Take,
    Done(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8).prop_map(Step::Add),
        (0..4_u8, 0..50_u64).prop_map(|(key, ms)| Step::AddLater(key, ms)),
        Just(Step::Take),
        (0..4_usize).prop_map(Step::Done),
        (0..40_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// A key is never taken twice at a time, and everything added is taken after it was added.
    #[test]
    fn no_key_is_lost_or_worked_on_twice(steps in proptest::collection::vec(step(), 1..80)) {
        let start = Instant::now();
        let mut now = start;
        let mut state = State::<u8>::default();
        let mut working: Vec<u8> = Vec::new();
        let mut owed: HashSet<u8> = HashSet::new();
        // A key waits for its earliest time only.
        let mut later: HashMap<u8, Instant> = HashMap::new();
        for step in steps {
            match step {
                Step::Add(key) => {
                    state.add(key, now);
                    owed.insert(key);
                }
                Step::AddLater(key, ms) => {
                    let due = now + Duration::from_millis(ms);
                    state.add_at(key, due);
                    later.entry(key).and_modify(|at| *at = due.min(*at)).or_insert(due);
                }
                Step::Take => {
                    if let Some((key, _)) = state.take(now) {
                        prop_assert!(!working.contains(&key));
                        prop_assert!(owed.remove(&key));
                        working.push(key);
                    } else {
                        prop_assert!(owed.iter().all(|key| working.contains(key)));
                    }
                }
                Step::Done(at) => {
                    if !working.is_empty() {
                        let key = working.remove(at % working.len());
                        state.done(&key, now);
                    }
                }
                Step::Pass(ms) => {
                    now += Duration::from_millis(ms);
                    state.release_due(now);
                    later.retain(|key, due| {
                        if *due <= now {
                            owed.insert(*key);
                        }
                        *due > now
                    });
                }
            }
        }
    }
}

#[test]
fn back_off_doubles_to_a_maximum_and_is_forgotten() {
    let mut state = State::<u8>::default();
    assert_eq!(state.next_backoff(&1), BACKOFF_BASE);
    assert_eq!(state.next_backoff(&1), BACKOFF_BASE * 2);
    assert_eq!(state.next_backoff(&2), BACKOFF_BASE);
    for _ in 0..100 {
        assert!(state.next_backoff(&1) <= BACKOFF_MAX);
    }
    assert_eq!(state.next_backoff(&1), BACKOFF_MAX);
    state.forget(&1);
    assert_eq!(state.next_backoff(&1), BACKOFF_BASE);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_key_wakes_a_waiting_worker_on_time() {
    let queue = WorkQueue::new(QueueMetrics::default());
    let start = Instant::now();
    queue.add_after("late", Duration::from_secs(9));
    queue.add_after("late", Duration::from_secs(30));
    let waiter = {
        let queue = queue.clone();
        tokio::spawn(async move { queue.next().await })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    queue.add_after("early", Duration::from_secs(1));
    assert_eq!(waiter.await.unwrap(), "early");
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_eq!(queue.next().await, "late");
    assert_eq!(start.elapsed(), Duration::from_secs(9));
    queue.done(&"early", Duration::ZERO);
    queue.done(&"late", Duration::ZERO);
    assert!(queue.is_idle());
}
