use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde_json::json;

use super::super::tests::{amount, any_pod};
use super::*;
use crate::cache::Cache;
use crate::engine::plan::Plan;
use crate::framework::Profile;

/// A node's CPU, memory and storage, and pods on it.
fn node() -> impl Strategy<Value = (i64, i64, i64, Vec<Arc<crate::pod::PodInfo>>)> {
    let like = prop_oneof![3 => Just((4_000, 32 << 30, 0)), 1 => (amount(), amount(), amount())];
    (like, vec(any_pod(), 0..3)).prop_map(|((cpu, memory, storage), on)| (cpu, memory, storage, on))
}

fn add(cache: &mut Cache, n: usize, cpu: i64, memory: i64, storage: i64) {
    let node = json!({"metadata": {"name": format!("n{n}")}, "status": {"allocatable": {
        "cpu": format!("{cpu}m"), "memory": memory.to_string(),
        "ephemeral-storage": storage.to_string(), "pods": "3"}}});
    cache.set_node(Arc::new(serde_json::from_value(node).unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_found_is_best(
        nodes in vec(node(), 0..300),
        wanted in vec((any_pod(), any::<usize>()), 1..12),
        most_allocated in any::<bool>(),
        base in vec(prop_oneof![1 => Just(NONE), 4 => 0..5_i32], 300),
    ) {
        let (mut cache, mut random) = (Cache::default(), SmallRng::seed_from_u64(1));
        for (n, (cpu, memory, storage, on)) in nodes.iter().enumerate() {
            add(&mut cache, n, *cpu, *memory, *storage);
            for (at, pod) in on.iter().enumerate() {
                let mut pod = (*pod.pod).clone();
                pod.metadata.uid = Some(format!("{n}-{at}"));
                let pod = Arc::new(crate::pod::PodInfo::new(Arc::new(pod)));
                let _ = cache.assume(&pod, &format!("n{n}"));
            }
        }
        let mut arithmetic = Plan::new(&Profile::default_plugins("s")).arithmetic.unwrap();
        arithmetic.most_allocated = most_allocated;
        let (mut columns, mut blocks) = (Columns::default(), Blocks::default());
        for (number, (pod, on)) in wanted.into_iter().enumerate() {
            let Some(demand) = Demand::new(arithmetic, &pod) else { continue };
            let snapshot = cache.snapshot();
            let changes = snapshot.changes().unwrap();
            columns.catch_up(snapshot, changes);
            if !columns.is_regular() {
                continue;
            }
            blocks.catch_up(&columns, changes);
            let base = &base[..nodes.len()];
            let base_max = base.iter().copied().max().unwrap_or(NONE);
            let mut totals = vec![NONE; nodes.len()];
            columns.score_all(&demand, base, &mut totals);
            let highest = totals.iter().copied().max().filter(|highest| *highest != NONE);
            let search = Wanted { demand: &demand, base, base_max };
            prop_assert_eq!(blocks.highest(search), highest);
            for _ in 0..4 {
                let draw = Draw::new(&mut random);
                let best = (0..nodes.len()).filter(|row| Some(totals[*row]) == highest);
                let best: Vec<usize> = best.collect();
                let chosen = highest.map(|_| draw.choose(nodes.len(), &best));
                let found = highest.and_then(|h| blocks.choose(search, &columns, h, draw));
                prop_assert_eq!(found, chosen);
            }
            if let Some(row) = on.checked_rem(nodes.len()) {
                let mut pod = (*pod.pod).clone();
                pod.metadata.uid = Some(format!("w{number}"));
                let pod = Arc::new(crate::pod::PodInfo::new(Arc::new(pod)));
                let _ = cache.assume(&pod, &format!("n{row}"));
            }
        }
    }
}
