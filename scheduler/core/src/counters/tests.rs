use k8s_openapi::api::core::v1::Pod;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::*;
use crate::cache::{Cache, Object};
use crate::framework::Verdict;
use crate::plugins::pod_topology_spread::Defaults;
use crate::testing;

/// A step in the life of a cluster. Indices are taken modulo what is there.
#[derive(Clone, Debug)]
enum Step {
    SetNode(Arc<Node>),
    RemoveNode(usize),
    SetObject(Object),
    /// A pod comes to a node, or changes there; it may be leaving.
    Place(Box<Pod>, &'static str, bool),
    Delete(usize),
    /// Compare for this pod, with the feasible nodes of these bits.
    Ask(Box<Pod>, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let node = || (0..8).prop_flat_map(|n| testing::node(format!("n{n}")));
    let pod = || (0..20).prop_flat_map(|n| testing::pod(format!("p{n}")));
    // One that is not known is among them.
    let on = select(&["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n9"][..]);
    prop_oneof![
        3 => node().prop_map(Step::SetNode),
        1 => any::<usize>().prop_map(Step::RemoveNode),
        1 => testing::other().prop_map(Step::SetObject),
        8 => (pod(), on, prop::bool::weighted(0.1))
            .prop_map(|(pod, on, leaving)| Step::Place(Box::new(pod), on, leaving)),
        2 => any::<usize>().prop_map(Step::Delete),
        4 => (pod(), any::<u64>()).prop_map(|(pod, bits)| Step::Ask(Box::new(pod), bits)),
    ]
}

fn plugins() -> Vec<Arc<dyn Plugin>> {
    let list = json!([
        {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1},
        {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "maxSkew": 2}]);
    let defaults = Defaults::List(serde_json::from_value(list).unwrap());
    vec![
        Arc::new(InterPodAffinity::default()),
        Arc::new(InterPodAffinity {
            hard_pod_affinity_weight: 7,
            ignore_preferred_terms_of_existing_pods: true,
        }),
        Arc::new(PodTopologySpread::default()),
        Arc::new(PodTopologySpread { defaults }),
    ]
}

/// What a filter says of every node, with and without the row known; `None` for Skip.
fn verdicts(pre: &PreFilter<'_>, snapshot: &Snapshot) -> Option<Vec<[Verdict; 2]>> {
    let PreFilter::Filter { filter, nodes: None } = pre else { return None };
    let nodes = snapshot.nodes().iter().enumerate();
    Some(nodes.map(|(row, node)| [filter.filter_at(row, node), filter.filter(node)]).collect())
}

/// Raw scores with and without the row known, and normalised ones; `None` for Skip.
fn scores(pre: &PreScore<'_>, snapshot: &Snapshot, feasible: &[usize]) -> Option<[Vec<i64>; 3]> {
    let PreScore::Score(score) = pre else { return None };
    let nodes = || feasible.iter().map(|&row| (row, &snapshot.nodes()[row]));
    let at: Vec<i64> = nodes().map(|(row, node)| score.score_at(row, node)).collect();
    let of: Vec<i64> = nodes().map(|(_, node)| score.score(node)).collect();
    let mut normalized = at.clone();
    score.normalize(&mut normalized);
    Some([at, of, normalized])
}

fn compare(counters: &mut Counters, snapshot: &Snapshot, pod: &PodInfo, bits: u64) {
    let rows = 0..snapshot.nodes().len();
    let feasible: Vec<usize> = rows.filter(|row| bits & (1 << (row % 64)) != 0).collect();
    for plugin in plugins() {
        let name = plugin.name();
        let expected = plugin.pre_filter(pod, snapshot);
        if let Some(actual) = counters.pre_filter(&*plugin, pod, snapshot) {
            assert_eq!(verdicts(&actual, snapshot), verdicts(&expected, snapshot), "{name}");
        } else {
            assert!(matches!(expected, PreFilter::Reject(_)), "{name}");
        }
        if counters.is_idle(&*plugin, pod, snapshot) {
            let score = plugin.pre_score(pod, snapshot, &feasible);
            assert!(matches!((expected, score), (PreFilter::Skip, PreScore::Skip)), "{name}");
        }
        let expected = plugin.pre_score(pod, snapshot, &feasible);
        if let Some(actual) = counters.pre_score(&*plugin, pod, snapshot, &feasible) {
            let expected = scores(&expected, snapshot, &feasible);
            assert_eq!(scores(&actual, snapshot, &feasible), expected, "{name}");
        }
    }
}

fn run(steps: Vec<Step>, mut counters: Counters) {
    let mut cache = Cache::default();
    let mut placed: Vec<Arc<PodInfo>> = Vec::new();
    for step in steps {
        match step {
            Step::SetNode(node) => cache.set_node(node),
            Step::RemoveNode(at) => cache.remove_node(&format!("n{}", at % 8)),
            Step::SetObject(object) => cache.apply(&object),
            Step::Place(mut pod, on, is_leaving) => {
                if is_leaving {
                    let time = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
                    pod.metadata.deletion_timestamp = Some(time);
                }
                let info = testing::bound(&pod, on);
                cache.set_pod(Arc::clone(&info));
                placed.push(info);
            }
            Step::Delete(_) if placed.is_empty() => {}
            Step::Delete(at) => {
                let info = placed.swap_remove(at % placed.len());
                cache.remove_pod(&info.uid);
            }
            Step::Ask(pod, bits) => {
                let info = PodInfo::new(Arc::new(*pod));
                compare(&mut counters, cache.snapshot(), &info, bits);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_counters_agree_with_the_plugins(steps in vec(step(), 1..80)) {
        run(steps, Counters::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn selections_that_come_and_go_agree_as_well(steps in vec(step(), 60..120)) {
        run(steps, Counters::new(Limits { bytes_max: 0, min: 1, max: 2 }));
    }
}

fn node(name: &str, zone: &str) -> Arc<Node> {
    let node = json!({"metadata": {"name": name, "labels": {"zone": zone}}});
    Arc::new(serde_json::from_value(node).unwrap())
}

fn avoiding(name: &str, key: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name, "namespace": "default", "labels": {"app": "x"}},
        "spec": {"containers": [], "affinity": {"podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": key, "labelSelector": {"matchLabels": {"app": "x"}}}]}}}}))
    .unwrap()
}

#[test]
fn a_reader_that_fell_behind_the_log_starts_anew() {
    let (mut cache, mut counters) = (Cache::default(), Counters::default());
    cache.set_node(node("a", "1"));
    cache.set_node(node("b", "2"));
    assert!(counters.follow(cache.snapshot()));
    cache.set_pod(testing::bound(&avoiding("x", "zone"), "a"));
    (0..70_000).for_each(|_| cache.set_node(node("b", "3")));
    cache.remove_node("b");
    let pod = PodInfo::new(Arc::new(avoiding("p", "zone")));
    compare(&mut counters, cache.snapshot(), &pod, u64::MAX);
}

#[test]
fn copies_are_not_followed_and_other_caches_are_told_apart() {
    let mut counters = Counters::default();
    let pod = PodInfo::new(Arc::new(avoiding("p", "zone")));
    for zone in ["1", "2"] {
        let mut cache = Cache::default();
        cache.set_node(node("a", zone));
        cache.set_pod(testing::bound(&avoiding("x", "zone"), "a"));
        let copy = cache.snapshot().clone();
        assert!(counters.pre_filter(&InterPodAffinity::default(), &pod, &copy).is_none());
        compare(&mut counters, cache.snapshot(), &pod, u64::MAX);
    }
}

#[test]
fn more_keys_than_are_counted_are_left_to_the_plugin() {
    let (mut cache, mut counters) = (Cache::default(), Counters::default());
    cache.set_node(node("a", "1"));
    for n in 0..300 {
        cache.set_pod(testing::bound(&avoiding(&format!("x{n}"), &format!("key{n}")), "a"));
    }
    let pod = PodInfo::new(Arc::new(avoiding("p", "zone")));
    let plugin = InterPodAffinity::default();
    assert!(counters.pre_filter(&plugin, &pod, cache.snapshot()).is_none());
    // And when they are gone it is counted again.
    for n in 0..300 {
        cache.remove_pod(&testing::bound(&avoiding(&format!("x{n}"), "zone"), "a").uid);
    }
    let pod = PodInfo::new(Arc::new(avoiding("p", "key0")));
    compare(&mut counters, cache.snapshot(), &pod, u64::MAX);
    assert!(counters.pre_filter(&plugin, &pod, cache.snapshot()).is_some());
}

#[test]
fn numbers_of_empty_domains_are_used_again() {
    let (mut cache, mut counters) = (Cache::default(), Counters::default());
    let pod = PodInfo::new(Arc::new(avoiding("p", "zone")));
    cache.set_node(node("a", "0"));
    cache.set_pod(testing::bound(&avoiding("x", "zone"), "a"));
    for zone in 1..50 {
        cache.set_node(node("a", &zone.to_string()));
        compare(&mut counters, cache.snapshot(), &pod, u64::MAX);
    }
    let key = counters.key("zone").unwrap();
    assert!(counters.keys.get(key).sizes.len() <= 2);
}
