//! Schedulers that decide in batches, with any number of workers, beside one that decides pod by pod:
//! the same events, the same answers.

use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde_json::json;

use super::*;
use crate::engine::Indexed;
use crate::framework::Profiles;
use crate::pod::HostPort;
use crate::queue::Options;
use crate::testing;

/// What happens to both. Numbers are taken modulo what is there.
#[derive(Clone, Debug)]
enum Step {
    SetNode(Arc<Node>),
    RemoveNode(usize),
    /// So many pods of a template; if told so, each with another request.
    Create(usize, usize, bool),
    /// Decides until no pod is ready.
    Drain,
    Fail(usize),
    Delete(usize),
}

fn node() -> impl Strategy<Value = Arc<Node>> {
    let sized = (0..12_usize, 1..6_u32, 1..12_u32).prop_map(|(n, cpu, pods)| sized(n, cpu, pods));
    let any = (0..12).prop_flat_map(|n| testing::node(format!("n{n}")));
    prop_oneof![9 => sized, 1 => any]
}

fn sized(number: usize, cpu: u32, pods: u32) -> Arc<Node> {
    let name = format!("n{number}");
    object(json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {
            "cpu": cpu.to_string(), "memory": "4Gi", "pods": pods.to_string()}}}))
}

/// Pods from which a batch is made, and others.
fn template() -> impl Strategy<Value = Pod> {
    let plain = (1..20_u32, 0..3_i32).prop_map(|(tenths, priority)| plain(tenths, priority));
    prop_oneof![3 => plain, 1 => testing::pod("t".to_owned())]
}

fn plain(tenths: u32, priority: i32) -> Pod {
    let requests = json!({"cpu": format!("{tenths}00m"), "memory": "100Mi"});
    Arc::unwrap_or_clone(object(json!({"metadata": {"name": "t", "namespace": "default"},
        "spec": {"priority": priority, "containers": [
            {"name": "c", "resources": {"requests": requests}}]}})))
}

fn object<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => node().prop_map(Step::SetNode),
        1 => any::<usize>().prop_map(Step::RemoveNode),
        6 => (any::<usize>(), 1..20_usize, any::<bool>())
            .prop_map(|(template, count, differ)| Step::Create(template, count, differ)),
        4 => Just(Step::Drain),
        1 => any::<usize>().prop_map(Step::Fail),
        2 => any::<usize>().prop_map(Step::Delete),
    ]
}

/// A scheduler, and what became of the pods.
struct Side {
    scheduler: Scheduler,
    pod_by_pod: bool,
    random: SmallRng,
    said: Vec<String>,
    bound: Vec<(Arc<Pod>, Arc<str>)>,
}

impl Side {
    /// Pod by pod, or with so many workers.
    fn new(workers: Option<usize>, seed: u64) -> Self {
        let profiles = Profiles::single(Profile::default_plugins("default-scheduler"));
        let engine = Indexed::default();
        let mut scheduler = Scheduler::new(Arc::new(profiles), Options::default(), engine);
        scheduler.set_workers(workers.unwrap_or(1));
        (scheduler.batches.size_min, scheduler.batches.stream_min) = (2, 3);
        (scheduler.batches.rest_min, scheduler.batches.next_rest) = (1, 1);
        let random = SmallRng::seed_from_u64(seed);
        let pod_by_pod = workers.is_none();
        Self { scheduler, pod_by_pod, random, said: Vec::new(), bound: Vec::new() }
    }

    fn drain(&mut self, now: Time) {
        loop {
            let mut attempts = Vec::new();
            if self.pod_by_pod {
                attempts.extend(self.scheduler.schedule_next(now, &mut self.random));
            } else {
                self.scheduler.schedule_many(now, &mut self.random, 37, &mut attempts);
            }
            if attempts.is_empty() {
                return;
            }
            for Attempt { pod, outcome } in attempts {
                self.said.push(format!(
                    "{} {} {:?} {:?}",
                    pod.info.uid, pod.attempts, pod.refused_by, outcome
                ));
                match outcome {
                    Outcome::Bind { node, .. } => {
                        self.bound.push((Arc::new(pod.info.object()), node));
                    }
                    Outcome::Unschedulable { preemption: Some(_), .. } => {
                        self.scheduler.preempted(&pod.info.uid, true, now);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Everything that the two sides must agree on.
    fn state(&self) -> Vec<String> {
        let snapshot = self.scheduler.snapshot();
        let node = |node: &Arc<crate::cache::NodeInfo>| {
            let pods: Vec<String> = node.pods().iter().map(|pod| pod.uid.to_string()).collect();
            let (name, generation) = (node.name(), node.generation());
            format!("{name} {generation} {pods:?} {:?} {:?}", node.requested(), node.used_ports())
        };
        let mut state: Vec<String> = snapshot.nodes().iter().map(node).collect();
        state.push(format!("{:?}", self.scheduler.counts()));
        state.push(format!(
            "{} {}",
            self.scheduler.cache.pod_count(),
            self.scheduler.binding.len()
        ));
        state
    }

    fn apply(&mut self, step: &Step, templates: &[Pod], number: usize, now: Time) {
        let scheduler = &mut self.scheduler;
        match step {
            Step::SetNode(node) => {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                let old = scheduler.snapshot().get(name);
                let old = old.map(|info| Arc::new(info.object().into_owned()));
                scheduler.node_changed(old.as_ref(), Some(node), now);
            }
            Step::RemoveNode(at) => {
                let nodes = scheduler.snapshot().nodes();
                let Some(at) = at.checked_rem(nodes.len()) else { return };
                let node = Arc::new(nodes[at].object().into_owned());
                scheduler.node_changed(Some(&node), None, now);
            }
            Step::Create(template, count, differ) => {
                for copy in 0..*count {
                    let pod = named(&templates[template % templates.len()], number, copy, *differ);
                    scheduler.pod_changed(None, Some(&pod), now);
                }
            }
            Step::Drain => self.drain(now),
            Step::Fail(at) => {
                let Some(at) = at.checked_rem(self.bound.len()) else { return };
                let (pod, _) = self.bound.swap_remove(at);
                scheduler.binding_failed(&PodInfo::new(pod).uid, now);
            }
            Step::Delete(at) => {
                let Some(at) = at.checked_rem(self.bound.len()) else { return };
                let (pod, _) = self.bound.swap_remove(at);
                scheduler.pod_changed(Some(&pod), None, now);
            }
        }
    }
}

fn named(template: &Pod, number: usize, copy: usize, differ: bool) -> Arc<Pod> {
    let mut pod = template.clone();
    let name = format!("p{number}-{copy}");
    pod.metadata.uid = Some(name.clone());
    pod.metadata.name = Some(name);
    if differ && let Some(container) = pod.spec.iter_mut().flat_map(|s| &mut s.containers).next() {
        let requests = container.resources.get_or_insert_default().requests.get_or_insert_default();
        let quantity = serde_json::from_value(json!(format!("{}Ki", 1000 + copy))).unwrap();
        requests.insert("memory".to_owned(), quantity);
    }
    Arc::new(pod)
}

/// No node holds more pods, ports or of any resource than it has, nodes aside that may have changed
/// under their pods.
fn assert_not_overcommitted(side: &Side, changed: &[String]) {
    for node in side.scheduler.snapshot().nodes() {
        if changed.iter().any(|name| **name == **node.name()) {
            continue;
        }
        let (has, used) = (node.allocatable(), node.requested());
        let sum: i64 = node.pods().iter().map(|pod| pod.requests.milli_cpu).sum();
        assert_eq!(sum, used.milli_cpu);
        assert!(used.milli_cpu <= has.milli_cpu, "{} is over", node.name());
        assert!(used.memory_bytes <= has.memory_bytes, "{} is over", node.name());
        assert!(used.ephemeral_storage_bytes <= has.ephemeral_storage_bytes);
        assert!(node.pod_count() as i64 <= node.allowed_pods(), "{} is over", node.name());
        for (name, used) in &used.scalar {
            let there = has.scalar.get(name).copied().unwrap_or(0);
            let by_devices = there == 0 && name == testing::DEVICES_STAND_FOR;
            assert!(by_devices || *used <= there, "{name}");
        }
        // Containers of one pod may name a port twice.
        for (at, pod) in node.pods().iter().enumerate() {
            let others = node.pods()[..at].iter().flat_map(|other| &other.host_ports);
            let conflict =
                |port: &HostPort| pod.host_ports.iter().any(|own| own.conflicts_with(port));
            assert!(!others.into_iter().any(conflict), "{} has a port twice", node.name());
        }
    }
}

proptest! {
    #![proptest_config(testing::clusters(128))]

    #[test]
    fn workers_answer_as_one_does(
        nodes in vec(node(), 0..30),
        templates in vec(template(), 1..4),
        steps in vec(step(), 1..25),
        workers in 1..5_usize,
        seed in any::<u64>(),
    ) {
        let (mut one, mut many) = (Side::new(None, seed), Side::new(Some(workers), seed));
        let steps = nodes.into_iter().map(Step::SetNode).chain(steps).chain([Step::Drain]);
        let (mut known, mut changed) = (Vec::new(), Vec::new());
        for (number, step) in steps.enumerate() {
            let now = Time::from_millis(number as u64 * 700);
            if let Step::SetNode(node) = &step {
                let name = node.metadata.name.clone().unwrap();
                if known.contains(&name) {
                    changed.push(name);
                } else {
                    known.push(name);
                }
            }
            one.apply(&step, &templates, number, now);
            many.apply(&step, &templates, number, now);
            prop_assert_eq!(&one.said, &many.said);
            prop_assert_eq!(one.state(), many.state());
            assert_not_overcommitted(&many, &changed);
        }
    }
}

/// So many pods on so many nodes with so many workers; where they came to be.
fn placed(
    nodes: usize,
    pods: usize,
    differ: bool,
    workers: Option<usize>,
) -> (Vec<String>, BatchCounts) {
    let mut side = Side::new(workers, 3);
    let now = Time::default();
    (0..nodes).for_each(|n| side.apply(&Step::SetNode(sized(n, 4, 110)), &[], n, now));
    side.apply(&Step::Create(0, pods, differ), &[plain(1, 0)], 0, now);
    side.drain(now);
    assert_not_overcommitted(&side, &[]);
    (side.said, side.scheduler.batch_counts())
}

#[test]
fn plain_pods_are_decided_in_batches() {
    for differ in [false, true] {
        let (one, _) = placed(100, 900, differ, None);
        for workers in 1..5 {
            let (many, counts) = placed(100, 900, differ, Some(workers));
            assert_eq!(one, many);
            assert!(counts.decided >= 890, "{counts:?}");
            assert_eq!(counts.streamed > 0, workers > 1 && !differ, "{counts:?}");
        }
    }
}

/// With room for some of the pods alone, workers find all of it, and the pods that come first get it.
#[test]
fn a_full_cluster_is_filled_to_the_last_place() {
    for workers in 0..5 {
        let (said, _) = placed(10, 500, false, (workers > 0).then_some(workers));
        let binds = said.iter().take_while(|said| said.contains("Bind")).count();
        assert_eq!(binds, 400, "{workers} workers");
        assert_eq!(said.iter().filter(|said| said.contains("Bind")).count(), 400);
    }
}
