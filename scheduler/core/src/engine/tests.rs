use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::*;
use crate::cache::{Cache, Object};
use crate::reference::{self, NodeVerdict};
use crate::testing;

/// A step in the life of a cluster. Indices are taken modulo what is there.
#[derive(Clone, Debug)]
enum Step {
    SetNode(Arc<Node>),
    RemoveNode(usize),
    SetObject(Object),
    /// A pod comes to wait, nominated for a node.
    Nominate(Box<Pod>, u8),
    Schedule(Box<Pod>),
    Bound(usize),
    Forget(usize),
    DeletePod(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6).prop_flat_map(|n| testing::node(format!("n{n}"))).prop_map(Step::SetNode),
        1 => (0..6_usize).prop_map(Step::RemoveNode),
        6 => testing::other().prop_map(Step::SetObject),
        1 => ((0..30).prop_flat_map(|n| testing::pod(format!("p{n}"))), 0..6_u8)
            .prop_map(|(pod, node)| Step::Nominate(Box::new(pod), node)),
        8 => (0..30).prop_flat_map(|n| testing::pod(format!("p{n}"))).prop_map(|pod| Step::Schedule(Box::new(pod))),
        2 => any::<usize>().prop_map(Step::Bound),
        1 => any::<usize>().prop_map(Step::Forget),
        1 => any::<usize>().prop_map(Step::DeletePod),
    ]
}

/// The same cluster kept plainly: objects, from which a cache is built afresh when asked.
#[derive(Default)]
struct Objects {
    nodes: Vec<Arc<Node>>,
    pods: Vec<(Pod, String)>,
    others: Vec<Object>,
    nominated: Vec<(Arc<PodInfo>, String)>,
}

impl Objects {
    fn cache(&self) -> Cache {
        let mut cache = Cache::default();
        self.nodes.iter().for_each(|node| cache.set_node(Arc::clone(node)));
        self.others.iter().for_each(|object| cache.apply(object));
        self.pods.iter().for_each(|(pod, node)| cache.set_pod(testing::bound(pod, node)));
        self.nominated.iter().for_each(|(info, node)| cache.nominate(info, node));
        cache
    }

    fn set_node(&mut self, node: Arc<Node>) {
        self.nodes.retain(|other| other.metadata.name != node.metadata.name);
        self.nodes.push(node);
    }

    fn pick(&mut self, at: usize) -> Option<(Pod, String)> {
        let at = at.checked_rem(self.pods.len())?;
        Some(self.pods.swap_remove(at))
    }
}

/// Nodes by name, so that caches of different histories compare.
fn names(snapshot: &Snapshot, nodes: &[usize]) -> Vec<Arc<str>> {
    let mut names: Vec<_> = nodes.iter().map(|&n| snapshot.nodes()[n].name().clone()).collect();
    names.sort_unstable();
    names
}

/// On every node the sums are those of its pods, and within its limits unless it is one of those
/// whose limits changed under their pods.
fn assert_not_overcommitted(snapshot: &Snapshot, shrunk: &[String]) {
    for info in snapshot.nodes() {
        let cpu: i64 = info.pods().iter().map(|pod| pod.requests.milli_cpu).sum();
        let memory: i64 = info.pods().iter().map(|pod| pod.requests.memory_bytes).sum();
        assert_eq!((cpu, memory), (info.requested().milli_cpu, info.requested().memory_bytes));
        if shrunk.iter().any(|name| **name == **info.name()) {
            continue;
        }
        let has = info.allocatable();
        assert!(cpu <= has.milli_cpu && memory <= has.memory_bytes, "{} is over", info.name());
        assert!(info.pod_count() as i64 <= info.allowed_pods(), "{} is over", info.name());
        for (name, used) in &info.requested().scalar {
            let there = has.scalar.get(name).copied().unwrap_or(0);
            // That devices are held once the tests of the ledger see.
            let by_devices = there == 0 && name == testing::DEVICES_STAND_FOR;
            assert!(by_devices || *used <= there, "{} is over in {name}", info.name());
        }
    }
}

proptest! {
    #![proptest_config(testing::clusters(200))]

    #[test]
    fn the_scan_agrees_with_the_reference_and_never_overcommits(
        others in vec(testing::other(), 0..16),
        steps in vec(step(), 1..60), seed in any::<u64>(),
    ) {
        let profile = Profile::default_plugins("default-scheduler");
        let mut random = SmallRng::seed_from_u64(seed);
        let (mut cache, mut objects, mut scan) = (Cache::default(), Objects::default(), Scan::default());
        // Nodes that changed under their pods may hold more than they have.
        let mut shrunk = Vec::new();
        let steps = others.into_iter().map(Step::SetObject).chain(steps);
        for step in steps {
            match step {
                Step::SetNode(node) => {
                    let name = node.metadata.name.clone().unwrap();
                    if objects.pods.iter().any(|(_, on)| *on == name) {
                        shrunk.push(name);
                    }
                    objects.set_node(Arc::clone(&node));
                    cache.set_node(node);
                }
                Step::RemoveNode(n) => {
                    let name = format!("n{n}");
                    cache.remove_node(&name);
                    objects.nodes.retain(|node| node.metadata.name.as_ref() != Some(&name));
                }
                Step::SetObject(object) => {
                    cache.apply(&object);
                    objects.others.push(object);
                }
                Step::Nominate(pod, n) => {
                    let info = Arc::new(PodInfo::new(Arc::new(*pod)));
                    if cache.pod(&info.uid).is_none() {
                        let name = format!("n{n}");
                        cache.nominate(&info, &name);
                        objects.nominated.retain(|(other, _)| other.uid != info.uid);
                        objects.nominated.push((info, name));
                    }
                }
                Step::Schedule(pod) => {
                    let info = Arc::new(PodInfo::new(Arc::new((*pod).clone())));
                    if cache.pod(&info.uid).is_some() {
                        continue;
                    }
                    let fresh = objects.cache();
                    let expected = reference::evaluate(&profile, fresh.snapshot(), &info);
                    let actual = scan.best(&profile, cache.snapshot(), &info);
                    let printed = || testing::printed("scan", cache.snapshot(), &info);
                    match actual {
                        Ok(best) => prop_assert_eq!(
                            names(cache.snapshot(), best),
                            names(fresh.snapshot(), &expected.best),
                            "{}", printed()
                        ),
                        Err(diagnosis) => {
                            let said = (diagnosis.to_string(), diagnosis.plugins);
                            let expected_said =
                                (expected.diagnosis.to_string(), expected.diagnosis.plugins);
                            prop_assert!(expected.best.is_empty(), "{}", printed());
                            prop_assert_eq!(said, expected_said, "{}", printed());
                            continue;
                        }
                    }
                    let draw = Draw::new(&mut random);
                    let node = scan.decide(&profile, cache.snapshot(), &info, draw).unwrap();
                    let name = cache.snapshot().nodes()[node].name().to_string();
                    cache.assume(&info, &name).unwrap();
                    cache.end_nomination(&info.uid);
                    objects.nominated.retain(|(other, _)| other.uid != info.uid);
                    objects.pods.push((*pod, name));
                }
                Step::Bound(at) => {
                    if let Some((pod, node)) = objects.pick(at) {
                        cache.set_pod(testing::bound(&pod, &node));
                        objects.pods.push((pod, node));
                    }
                }
                Step::Forget(at) => {
                    if let Some((pod, node)) = objects.pick(at) {
                        let uid = testing::bound(&pod, &node).uid.clone();
                        match cache.forget(&uid) {
                            Ok(()) => {}
                            Err(_) => objects.pods.push((pod, node)),
                        }
                    }
                }
                Step::DeletePod(at) => {
                    if let Some((pod, node)) = objects.pick(at) {
                        prop_assert!(cache.remove_pod(&testing::bound(&pod, &node).uid));
                    }
                }
            }
            assert_not_overcommitted(cache.snapshot(), &shrunk);
            prop_assert_eq!(cache.pod_count(), objects.pods.len());
        }
    }

    #[test]
    fn the_reference_is_consistent_with_itself(
        nodes in vec((0..6).prop_flat_map(|n| testing::node(format!("n{n}"))), 0..6),
        others in vec(testing::other(), 0..16),
        pod in testing::pod("p".to_owned()),
    ) {
        let profile = Profile::default_plugins("default-scheduler");
        let mut cache = Cache::default();
        nodes.into_iter().for_each(|node| cache.set_node(node));
        others.iter().for_each(|object| cache.apply(object));
        let info = PodInfo::new(Arc::new(pod));
        let evaluation = reference::evaluate(&profile, cache.snapshot(), &info);
        prop_assert_eq!(evaluation.nodes.len(), cache.snapshot().nodes().len());
        for (node, verdict) in evaluation.nodes.iter().enumerate() {
            let NodeVerdict::Feasible { scores, total } = verdict else {
                prop_assert!(!evaluation.best.contains(&node));
                continue;
            };
            prop_assert!(scores.iter().all(|score| (0..=100).contains(&score.normalized)));
            let sum: i64 = scores.iter().map(|score| score.normalized * score.weight).sum();
            prop_assert_eq!(sum, *total);
        }
    }
}

#[test]
fn the_choice_among_equals_is_uniform() {
    let node = |name: &str| -> Arc<Node> {
        Arc::new(
            serde_json::from_value(serde_json::json!({"metadata": {"name": name},
                "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}}))
            .unwrap(),
        )
    };
    let mut cache = Cache::default();
    ["a", "b", "c", "d"].into_iter().for_each(|name| cache.set_node(node(name)));
    let profile = Profile::default_plugins("default-scheduler");
    let info = Arc::new(PodInfo::new(Arc::default()));
    let mut random = SmallRng::seed_from_u64(7);
    let engines: [Box<dyn Engine>; 2] = [Box::new(Scan::default()), Box::new(Indexed::default())];
    for mut engine in engines {
        let mut chosen = [0_u32; 4];
        for _ in 0..4000 {
            chosen[engine
                .decide(&profile, cache.snapshot(), &info, Draw::new(&mut random))
                .unwrap()] += 1;
        }
        // 1000 expected, standard deviation 27: five of them either way.
        assert!(chosen.iter().all(|count| (863..=1137).contains(count)), "{chosen:?}");
    }
}
