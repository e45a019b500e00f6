//! Which of two victims is the more important, and which of several candidates the best.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::framework::PreemptionCandidate;
use crate::pod::{PodInfo, PodUid};

/// Orders pods by importance, the most important first: by priority, then by how long they run
/// (`MoreImportantPod`). One that has not started counts as starting now. What remains is upstream's
/// to decide by chance, and here by the uid.
pub fn importance(pod: &PodInfo) -> (Reverse<i32>, i64, PodUid) {
    (Reverse(pod.priority), pod.start_seconds(), pod.uid.clone())
}

/// The candidates (indices) of which none is better than another, in order
/// (`pickOneNodeForPreemption`); the first is taken.
pub fn best(candidates: &[PreemptionCandidate]) -> Vec<usize> {
    let cost = |candidate: &PreemptionCandidate| cost(&candidate.victims, candidate.pdb_violations);
    let costs: Vec<_> = candidates.iter().map(cost).collect();
    let least = costs.iter().min();
    (0..candidates.len()).filter(|&at| Some(&costs[at]) == least).collect()
}

/// What a candidate costs; the smaller the better, the first first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cost {
    /// Budgets violated.
    pub(super) pdb_violations: usize,
    /// The priority of the most important victim.
    first: i32,
    /// The sum of priorities.
    sum: i64,
    /// How many victims.
    count: usize,
    /// When the most important of them started.
    start: Reverse<i64>,
}

/// What it costs to evict these, the most important first.
pub(super) fn cost(victims: &[Arc<PodInfo>], pdb_violations: usize) -> Cost {
    let first = victims.first().map_or(0, |victim| victim.priority);
    let highest = victims.iter().map(|victim| victim.priority).max().unwrap_or_default();
    // Each is made positive, so that few victims of negative priority are not worth more than many.
    let sum = victims.iter().map(|victim| i64::from(victim.priority) + PRIORITY_OFFSET).sum();
    let most_important = victims.iter().filter(|victim| victim.priority == highest);
    let start = most_important.map(|victim| victim.start_seconds()).min().unwrap_or(i64::MIN);
    Cost { pdb_violations, first, sum, count: victims.len(), start: Reverse(start) }
}

/// `math.MaxInt32 + 1`.
const PRIORITY_OFFSET: i64 = 1 << 31;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cache::NodeInfo;

    /// A victim of this priority that started at this second.
    fn victim((priority, start): (i32, Option<i64>)) -> Arc<PodInfo> {
        let start = start.map(|start| format!("1970-01-01T00:00:{start:02}Z"));
        let name = format!("{priority}-{start:?}");
        let object = json!({"metadata": {"name": name, "uid": name},
            "spec": {"priority": priority, "containers": []}, "status": {"startTime": start}});
        Arc::new(PodInfo::new(Arc::new(serde_json::from_value(object).unwrap())))
    }

    type Victims<'a> = (usize, &'a [(i32, Option<i64>)]);

    fn best_of(candidates: &[Victims]) -> Vec<usize> {
        let node = Arc::new(NodeInfo::new(Arc::default()));
        let candidate = |(pdb_violations, victims): &Victims| PreemptionCandidate {
            node: Arc::clone(&node),
            victims: victims.iter().copied().map(victim).collect(),
            pdb_violations: *pdb_violations,
        };
        best(&candidates.iter().map(candidate).collect::<Vec<_>>())
    }

    #[test]
    fn each_step_decides_where_those_before_it_do_not() {
        let at = Some;
        for (first, second) in [
            // Fewer budgets, whatever else.
            ((0, &[(9, at(1)), (9, at(1))][..]), (1, &[(1, at(1))][..])),
            // The most important victim is less important.
            ((0, &[(4, at(1)), (4, at(1)), (4, at(1))][..]), (0, &[(5, at(1))][..])),
            // The sum is smaller.
            ((0, &[(5, at(1)), (1, at(1))][..]), (0, &[(5, at(1)), (2, at(1))][..])),
            // Few of negative priority rather than many.
            ((0, &[(-5, at(1))][..]), (0, &[(-5, at(1)), (-5, at(1))][..])),
            // The most important started later; the others do not matter.
            ((0, &[(5, at(7)), (1, at(1))][..]), (0, &[(5, at(6)), (1, at(9))][..])),
            ((0, &[(5, None)][..]), (0, &[(5, at(9))][..])),
        ] {
            assert_eq!(best_of(&[first, second]), [0], "{first:?} over {second:?}");
            assert_eq!(best_of(&[second, first]), [1], "{first:?} over {second:?}");
        }
        let same: Victims = (0, &[(5, at(1))]);
        assert_eq!(best_of(&[same, (1, &[(5, at(1))]), same]), [0, 2]);
    }

    #[test]
    fn importance_is_priority_then_age() {
        let mut pods: Vec<_> =
            [(1, Some(1)), (2, None), (2, Some(5)), (2, Some(3))].map(victim).into();
        pods.sort_by_cached_key(|pod| importance(pod));
        let names: Vec<_> = pods.iter().map(|pod| pod.priority).collect();
        assert_eq!(names, [2, 2, 2, 1]);
        assert_eq!(pods[2].uid, victim((2, None)).uid);
        assert_eq!(pods[0].uid, victim((2, Some(3))).uid);
    }
}
