use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::super::plan::Plan;
use super::super::probe::Probe;
use super::*;
use crate::cache::Cache;
use crate::framework::Profile;

/// Small, round, huge, and beyond what the columns hold.
pub(super) fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![
        0..5_i64,
        0..1_000_i64,
        (0..64_i64).prop_map(|n| n << 30),
        0..AMOUNT_MAX,
        AMOUNT_MAX - 3..AMOUNT_MAX + 3,
    ]
}

fn pod(cpu: Option<i64>, memory: Option<i64>, storage: i64) -> Arc<PodInfo> {
    let mut requests = json!({"ephemeral-storage": storage.to_string()});
    if let Some(cpu) = cpu {
        requests["cpu"] = json!(format!("{cpu}m"));
    }
    if let Some(memory) = memory {
        requests["memory"] = json!(memory.to_string());
    }
    let pod = json!({"metadata": {"name": "p", "uid": format!("{requests}")}, "spec":
        {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap())))
}

pub(super) fn any_pod() -> impl Strategy<Value = Arc<PodInfo>> {
    let asked = || prop::option::weighted(0.8, amount());
    (asked(), asked(), prop_oneof![Just(0), amount()])
        .prop_map(|(cpu, memory, storage)| pod(cpu, memory, storage))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn columns_score_as_the_plugins(
        has in (amount(), amount(), amount(), 0..4_i64),
        on in prop::collection::vec(any_pod(), 0..3),
        wanted in any_pod(),
    ) {
        let node = json!({"metadata": {"name": "n"}, "status": {"allocatable": {
            "cpu": format!("{}m", has.0), "memory": has.1.to_string(),
            "ephemeral-storage": has.2.to_string(), "pods": has.3.to_string()}}});
        let mut cache = Cache::default();
        cache.set_node(Arc::new(serde_json::from_value(node).unwrap()));
        for pod in &on {
            let _ = cache.assume(pod, "n");
        }
        let snapshot = cache.snapshot();
        let plan = Plan::new(&Profile::default_plugins("s"));
        let probe =
            Probe::new(&plan.moving_filters, &plan.moving_scores, &wanted, snapshot).unwrap();
        let expected = probe.ask(&snapshot.nodes()[0]).unwrap();
        let demand = Demand::new(plan.arithmetic.unwrap(), &wanted);
        let row = Row::of(&snapshot.nodes()[0]);
        if let (Some(demand), Some(row)) = (demand, row) {
            prop_assert_eq!(demand.score(&row), expected);
            let mut columns = Columns::default();
            columns.catch_up(snapshot, snapshot.changes().unwrap());
            let mut out = vec![0];
            columns.score_all(&demand, &[3], &mut out);
            prop_assert_eq!(out[0], sum(3, expected));
        }
    }
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "small enough to be exact")]
fn amounts_that_divide_exactly_are_told_from_others() {
    let mut random = 1_u64;
    for round in 0..200_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let above = (random >> 20) as i64;
        let amount = match round {
            0 => 32_000 << 30,
            _ => (1 << 44) + above,
        };
        if !is_divisor(amount as f64) {
            continue;
        }
        // The worst are just below and just at a multiple.
        for quotient in [1, 50, 63, 64, 99, 100] {
            for part in [quotient * amount - 1, quotient * amount] {
                let inverse = 1.0 / amount as f64;
                let found = rounded((part as f64 + 0.5) * inverse - 0.5);
                assert_eq!(found as i64, part / amount, "{part} / {amount}");
            }
        }
    }
    assert!(is_divisor((32_000_i64 << 30) as f64), "31 TiB, as benchmarks' biggest node has");
}
