use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::*;
use crate::cache::{Cache, Object};
use crate::framework::PluginName;
use crate::reference::{self, Evaluation, NodeVerdict};
use crate::testing::{self, named, plain_pod};

/// A step in the life of a cluster (numbers are taken modulo what is there) in which pods come from few templates, so that classes are used
/// again while nodes change.
#[derive(Clone, Debug)]
enum Step {
    SetNode(Arc<Node>),
    RemoveNode(usize),
    SetObject(Object),
    Schedule(usize),
    DeletePod(usize),
    Forget(usize),
    /// A pod of a template waits and is nominated for a node; it may come again.
    Nominate(usize, usize),
    /// A pod that was nominated comes.
    ScheduleNominated(usize),
    EndNomination(usize),
}

/// Enough that few changed rows are patched and not all filled anew.
const NODES_MAX: usize = 40;

fn node() -> impl Strategy<Value = Arc<Node>> {
    (0..NODES_MAX).prop_flat_map(|n| testing::node(format!("n{n}")))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => node().prop_map(Step::SetNode),
        1 => any::<usize>().prop_map(Step::RemoveNode),
        1 => testing::owner().prop_map(Step::SetObject),
        12 => any::<usize>().prop_map(Step::Schedule),
        3 => any::<usize>().prop_map(Step::DeletePod),
        1 => any::<usize>().prop_map(Step::Forget),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(pod, at)| Step::Nominate(pod, at)),
        1 => any::<usize>().prop_map(Step::ScheduleNominated),
        1 => any::<usize>().prop_map(Step::EndNomination),
    ]
}

/// Mostly pods that the index holds.
fn template() -> impl Strategy<Value = Pod> {
    let pods = (testing::pod("t".to_owned()), prop::bool::weighted(0.5));
    pods.prop_map(|(pod, is_plain)| plain_pod(pod, is_plain))
}

/// Pods that plugins of wider view that the counters answer for have something to say of.
fn spread_template() -> impl Strategy<Value = Pod> {
    let concerns = |pod: &Pod| {
        let asks = PodInfo::new(Arc::new(pod.clone())).signature.asks;
        asks.spread || asks.pod_affinity
    };
    let pods = testing::pod("t".to_owned()).prop_filter("a pod that is not plain", concerns);
    pods.prop_map(|mut pod| {
        let spec = pod.spec.get_or_insert_default();
        spec.volumes = None;
        spec.resource_claims = None;
        pod
    })
}

/// The totals of the feasible nodes by name, as the reference has them.
fn expected(profile: &Profile, cache: &Cache, pod: &PodInfo) -> BTreeMap<String, i64> {
    let snapshot = cache.snapshot();
    by_name(snapshot, &reference::evaluate(profile, snapshot, pod).nodes)
}

fn by_name(snapshot: &Snapshot, verdicts: &[NodeVerdict]) -> BTreeMap<String, i64> {
    let nodes = snapshot.nodes().iter().zip(verdicts);
    let totals = nodes.filter_map(|(node, verdict)| match verdict {
        NodeVerdict::Feasible { total, .. } => Some((node.name().to_string(), *total)),
        NodeVerdict::Rejected { .. } => None,
    });
    totals.collect()
}

/// The node that the reference and the draw make it.
fn chosen(snapshot: &Snapshot, expected: &Evaluation, draw: Draw) -> usize {
    assert!(!expected.best.is_empty());
    draw.choose(snapshot.nodes().len(), &expected.best)
}

fn actual(class: &Class, snapshot: &Snapshot) -> BTreeMap<String, i64> {
    let totals = class.totals();
    let nodes = snapshot.nodes().iter().zip(totals);
    nodes.filter_map(|(node, total)| Some((node.name().to_string(), total?))).collect()
}

/// The class of a pod of which no plugin of wider view has anything to say.
fn plain<'a>(
    engine: &'a mut Indexed,
    profile: &Profile,
    snapshot: &Snapshot,
    pod: &Arc<PodInfo>,
) -> Option<&'a Class> {
    engine.class_at(profile, snapshot, pod);
    let at = engine.class_at(profile, snapshot, pod)?;
    let class = &engine.classes[at];
    engine.plans[class.plan].wide(pod, snapshot).is_empty().then_some(class)
}

/// What became of a history: how many decisions the index made.
fn run(nodes: Vec<Arc<Node>>, templates: &[Pod], steps: Vec<Step>, seed: u64) -> IndexCounts {
    let mut profile = Profile::default_plugins("default-scheduler");
    if seed.is_multiple_of(4) {
        // Then they only score.
        let is_wide =
            |name| matches!(name, PluginName::InterPodAffinity | PluginName::PodTopologySpread);
        profile.filter.retain(|plugin| !is_wide(plugin.name()));
    }
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut cache, mut engine) = (Cache::default(), Indexed::default());
    let mut pods: Vec<Arc<PodInfo>> = Vec::new();
    let mut nominated: Vec<Arc<PodInfo>> = Vec::new();
    nodes.into_iter().for_each(|node| cache.set_node(node));
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::SetNode(node) => cache.set_node(node),
            Step::SetObject(object) => cache.apply(&object),
            Step::RemoveNode(at) => {
                let nodes = cache.snapshot().nodes().len();
                if nodes == 0 {
                    continue;
                }
                let name = cache.snapshot().nodes()[at % nodes].name().clone();
                cache.remove_node(&name);
            }
            Step::Nominate(at, row) => {
                let rows = cache.snapshot().nodes().len();
                if rows > 0 {
                    let pod = named(&templates[at % templates.len()], format!("w{number}"));
                    let name = Arc::clone(cache.snapshot().nodes()[row % rows].name());
                    cache.nominate(&pod, &name);
                    nominated.push(pod);
                }
            }
            Step::EndNomination(at) => {
                if let Some(at) = at.checked_rem(nominated.len()) {
                    cache.end_nomination(&nominated.swap_remove(at).uid);
                }
            }
            Step::ScheduleNominated(at) => {
                let Some(at) = at.checked_rem(nominated.len()) else { continue };
                let pod = nominated.swap_remove(at);
                let snapshot = cache.snapshot();
                let expected = reference::evaluate(&profile, snapshot, &pod);
                let draw = Draw::new(&mut random);
                match engine.decide(&profile, snapshot, &pod, draw) {
                    Ok(node) => {
                        let printed = testing::printed("nominated", snapshot, &pod);
                        assert_eq!(node, chosen(snapshot, &expected, draw), "{printed}");
                        let name = snapshot.nodes()[node].name().clone();
                        cache.assume(&pod, &name).unwrap();
                        cache.end_nomination(&pod.uid);
                        pods.push(pod);
                    }
                    Err(diagnosis) => {
                        assert!(expected.best.is_empty());
                        assert_eq!(*diagnosis, expected.diagnosis);
                        nominated.push(pod);
                    }
                }
            }
            Step::Schedule(at) => {
                let pod = named(&templates[at % templates.len()], format!("p{number}"));
                let snapshot = cache.snapshot();
                let expected = reference::evaluate(&profile, snapshot, &pod);
                let printed = || testing::printed("index", snapshot, &pod);
                // The first of a signature is decided in another way than the others.
                let draw = Draw::new(&mut random);
                if let Some(row) = engine.find(&profile, snapshot, &pod, draw) {
                    assert_eq!(row, chosen(snapshot, &expected, draw), "{}", printed());
                }
                if let Some(class) = plain(&mut engine, &profile, snapshot, &pod) {
                    let expected = by_name(snapshot, &expected.nodes);
                    assert_eq!(actual(class, snapshot), expected, "{}", printed());
                }
                for best in engine.best(&profile, snapshot, &pod).into_iter().flatten() {
                    assert_eq!(best, expected.best, "{}", printed());
                }
                // What is drawn is what the draw says, however often.
                for _ in 0..8 {
                    let draw = Draw::new(&mut random);
                    if let Some(row) = engine.find(&profile, snapshot, &pod, draw) {
                        assert_eq!(row, chosen(snapshot, &expected, draw), "{}", printed());
                    }
                }
                let draw = Draw::new(&mut random);
                match engine.decide(&profile, snapshot, &pod, draw) {
                    Ok(node) => {
                        assert_eq!(node, chosen(snapshot, &expected, draw), "{}", printed());
                        cache.assume_at(&pod, node).unwrap();
                        pods.push(pod);
                    }
                    Err(diagnosis) => {
                        assert!(expected.best.is_empty(), "{}", printed());
                        assert_eq!(*diagnosis, expected.diagnosis, "{}", printed());
                    }
                }
            }
            Step::DeletePod(_) | Step::Forget(_) if pods.is_empty() => {}
            Step::DeletePod(at) => {
                let pod = pods.swap_remove(at % pods.len());
                assert!(cache.remove_pod(&pod.uid));
            }
            Step::Forget(at) => {
                let pod = pods.swap_remove(at % pods.len());
                cache.forget(&pod.uid).unwrap();
            }
        }
    }
    engine.counts()
}

proptest! {
    #![proptest_config(testing::clusters(256))]

    #[test]
    fn the_index_agrees_with_the_reference_on_every_total(
        nodes in vec(node(), 0..60),
        templates in vec(template(), 1..5),
        steps in vec(step(), 1..60),
        seed in any::<u64>(),
    ) {
        run(nodes, &templates, steps, seed);
    }
}

/// A history of pods that are spread, attracted and repelled, on few or many nodes. None is nominated:
/// such pods are scanned for then.
fn spread_history() -> impl Strategy<Value = (Vec<Arc<Node>>, Vec<Pod>, Vec<Step>, u64)> {
    let steps = vec(step(), 20..100).prop_map(|mut steps| {
        steps.retain(|step| !matches!(step, Step::Nominate(..)));
        steps
    });
    (vec(node(), 0..60), vec(spread_template(), 1..4), steps, any::<u64>())
}

proptest! {
    #![proptest_config(testing::clusters(256))]

    #[test]
    fn groups_of_nodes_agree_with_the_reference(history in spread_history()) {
        let (nodes, templates, steps, seed) = history;
        run(nodes, &templates, steps, seed);
    }
}

#[test]
fn every_way_of_deciding_is_taken_in_such_histories() {
    let mut runner = TestRunner::deterministic();
    let mut sum = IndexCounts::default();
    for _ in 0..40 {
        let (nodes, templates, steps, seed) =
            spread_history().new_tree(&mut runner).unwrap().current();
        let counts = run(nodes, &templates, steps, seed);
        sum.indexed += counts.indexed;
        sum.grouped += counts.grouped;
        sum.overlaid += counts.overlaid;
    }
    assert!(sum.grouped > 1000 && sum.overlaid > 20, "{sum:?}");
}

#[test]
fn the_choice_among_equals_of_several_groups_is_uniform() {
    let zones = ["a", "b", "c"];
    let mut cache = Cache::default();
    // Six nodes a zone but for the last, which has two.
    for n in 0..14 {
        let node = serde_json::json!({"metadata": {"name": format!("n{n}"), "labels": {
            "zone": zones[n / 6], "kubernetes.io/hostname": format!("n{n}")}},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}});
        cache.set_node(Arc::new(object(node)));
    }
    let pod: Pod = object(serde_json::json!({"metadata": {"name": "p", "labels": {"app": "x"}},
        "spec": {"containers": [], "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app": "x"}}}]}}));
    let profile = Profile::default_plugins("default-scheduler");
    let (mut engine, mut random) = (Indexed::default(), SmallRng::seed_from_u64(7));
    let mut chosen = [0_u32; 14];
    for _ in 0..14_000 {
        let row = engine.decide(
            &profile,
            cache.snapshot(),
            &named(&pod, "p".into()),
            Draw::new(&mut random),
        );
        chosen[row.unwrap()] += 1;
    }
    assert!(engine.counts().grouped > 13_990);
    // 1000 expected, standard deviation 30: five of them either way.
    assert!(chosen.iter().all(|count| (850..=1150).contains(count)), "{chosen:?}");
}

fn object<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn sized(name: &str, cpu: &str) -> Arc<Node> {
    Arc::new(object(serde_json::json!({"metadata": {"name": name},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}}})))
}

#[test]
fn plain_pods_are_decided_by_the_index() {
    let nodes = (0..NODES_MAX).map(|n| sized(&format!("n{n}"), "4")).collect();
    let pod: Pod = object(serde_json::json!({"metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}}}]}}));
    let steps = vec![Step::Schedule(0); 100];
    let counts = run(nodes, &[pod], steps, 7);
    assert_eq!(counts, IndexCounts { indexed: 100, searched: 1, ..IndexCounts::default() });
}

/// Nodes come to have it, lose it, and go; each answer is compared with the reference's.
#[test]
fn a_resource_of_few_nodes_is_looked_for_on_these() {
    let rare = |name: usize, resource: usize| -> Step {
        Step::SetNode(Arc::new(object(
            serde_json::json!({"metadata": {"name": format!("n{name}")},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10",
                format!("example.com/rare-{resource}"): "2"}}}),
        )))
    };
    let pod = |resource: usize| -> Pod {
        let requests = serde_json::json!({"cpu": "100m",
            format!("example.com/rare-{resource}"): "1"});
        object(serde_json::json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "resources": {"requests": requests}}]}}))
    };
    let pods: Vec<Pod> = (0..8).map(pod).collect();
    let mut steps: Vec<Step> = (0..20).map(|name| rare(name, name % 4)).collect();
    steps.extend((0..4).flat_map(|at| vec![Step::Schedule(at); 2]));
    steps.extend([rare(3, 5), rare(4, 6), rare(8, 6), Step::RemoveNode(3), Step::RemoveNode(0)]);
    steps.extend((0..8).flat_map(|at| vec![Step::Schedule(at); 12]));
    let nodes = (0..NODES_MAX).map(|n| sized(&format!("n{n}"), "4")).collect();
    let counts = run(nodes, &pods, steps, 7);
    // Of the other two there is none, and no node with the fifth is left.
    assert_eq!((counts.searched, counts.scanned), (5, 0), "{counts:?}");
}

#[test]
fn classes_beyond_the_bound_are_given_up() {
    let profile = Profile::default_plugins("default-scheduler");
    let mut cache = Cache::default();
    cache.set_node(sized("n", "4"));
    let mut engine = Indexed::default();
    let pods = (0..2 * CLASSES_MAX as u64 + 10).map(|memory| {
        let pod = serde_json::json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "resources": {"requests": {"memory": memory.to_string()}}}]}});
        Arc::new(PodInfo::new(Arc::new(object(pod))))
    });
    for pod in pods {
        let class = plain(&mut engine, &profile, cache.snapshot(), &pod).unwrap();
        assert_eq!(actual(class, cache.snapshot()), expected(&profile, &cache, &pod));
    }
    assert_eq!(engine.classes.len(), CLASSES_MAX);
    assert_eq!(engine.by_signature[0].len(), CLASSES_MAX);
    assert_eq!(engine.fixed.iter().map(|fixed| fixed.users).sum::<usize>(), CLASSES_MAX);
}

#[test]
fn another_cache_is_told_apart() {
    let profile = Profile::default_plugins("default-scheduler");
    let mut engine = Indexed::default();
    let pod = Arc::new(PodInfo::new(Arc::default()));
    for cpu in ["1", "2", "3"] {
        let mut cache = Cache::default();
        cache.set_node(sized("n", cpu));
        cache.set_node(sized("m", "2"));
        let class = plain(&mut engine, &profile, cache.snapshot(), &pod).unwrap();
        assert_eq!(actual(class, cache.snapshot()), expected(&profile, &cache, &pod));
        // A copy of the snapshot logs nothing, so the index does not answer for it.
        assert!(engine.class_at(&profile, &cache.snapshot().clone(), &pod).is_none());
    }
}
