use std::collections::{BTreeMap, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde_json::json;

use super::*;
use crate::engine::Scan;
use crate::framework::Profile;

fn scheduler() -> Scheduler {
    let profiles = Profiles::single(Profile::default_plugins("default-scheduler"));
    Scheduler::new(Arc::new(profiles), Options::default(), Scan::default())
}

fn node(name: &str, cpu: u32) -> Arc<Node> {
    let object = json!({"metadata": {"name": name}, "status": {"allocatable": {
        "cpu": cpu.to_string(), "memory": "64Gi", "pods": "4"}}});
    Arc::new(serde_json::from_value(object).unwrap())
}

fn pod(uid: &str, cpu: u32) -> Arc<Pod> {
    let object = json!({"metadata": {"name": uid, "namespace": "default", "uid": uid}, "spec": {
        "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu.to_string()}}}]}});
    Arc::new(serde_json::from_value(object).unwrap())
}

fn bound(pod: &Arc<Pod>, node: &str) -> Arc<Pod> {
    let mut pod = Pod::clone(pod);
    pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
    Arc::new(pod)
}

fn next(scheduler: &mut Scheduler, millis: u64) -> Option<Attempt> {
    scheduler.schedule_next(Time::from_millis(millis), &mut SmallRng::seed_from_u64(1))
}

fn expect_bind(attempt: Option<Attempt>) -> (PodUid, Arc<str>) {
    match attempt {
        Some(Attempt { pod, outcome: Outcome::Bind { node, .. } }) => (pod.info.uid.clone(), node),
        other => panic!("expected a binding, got {other:?}"),
    }
}

fn expect_message(attempt: Option<Attempt>) -> String {
    match attempt {
        Some(Attempt { outcome: Outcome::Unschedulable { diagnosis, .. }, .. }) => {
            diagnosis.to_string()
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_pod_that_does_not_fit_is_bound_once_a_node_is_added() {
    let mut scheduler = scheduler();
    let now = Time::from_millis;
    scheduler.node_changed(None, Some(&node("a", 1)), now(0));
    scheduler.pod_changed(None, Some(&pod("p", 2)), now(0));
    let message = expect_message(next(&mut scheduler, 1));
    assert_eq!(
        message,
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 \
         nodes are available: 1 Preemption is not helpful for scheduling."
    );
    assert!(next(&mut scheduler, 1).is_none());
    scheduler.node_changed(None, Some(&node("b", 2)), now(2));
    let (uid, name) = expect_bind(next(&mut scheduler, 2));
    assert_eq!(&*name, "b");
    scheduler.bound(&uid);
    scheduler.pod_changed(Some(&pod("p", 2)), Some(&bound(&pod("p", 2), "b")), now(3));
    assert_eq!(scheduler.snapshot().get("b").unwrap().pod_count(), 1);
    assert_eq!(scheduler.counts(), Counts::default());
}

#[test]
fn a_failed_binding_frees_its_place_and_the_pod_waits() {
    let mut scheduler = scheduler();
    let now = Time::from_millis;
    scheduler.node_changed(None, Some(&node("a", 2)), now(0));
    scheduler.pod_changed(None, Some(&pod("p", 2)), now(0));
    scheduler.pod_changed(None, Some(&pod("q", 2)), now(1));
    let (uid, _) = expect_bind(next(&mut scheduler, 1));
    expect_message(next(&mut scheduler, 1));
    scheduler.binding_failed(&uid, now(2));
    assert_eq!(scheduler.snapshot().get("a").unwrap().pod_count(), 0);
    // The other pod was woken by the place that became free, and comes first.
    let (other, _) = expect_bind(next(&mut scheduler, 2));
    assert_ne!(uid, other);
    assert!(next(&mut scheduler, 3).is_none());
    expect_message(next(&mut scheduler, 2000));
}

#[test]
fn a_pod_deleted_while_it_is_bound_is_forgotten() {
    let mut scheduler = scheduler();
    let now = Time::from_millis;
    scheduler.node_changed(None, Some(&node("a", 2)), now(0));
    scheduler.pod_changed(None, Some(&pod("p", 2)), now(0));
    let (uid, _) = expect_bind(next(&mut scheduler, 1));
    scheduler.pod_changed(Some(&pod("p", 2)), None, now(2));
    assert_eq!(scheduler.snapshot().get("a").unwrap().pod_count(), 0);
    scheduler.binding_failed(&uid, now(3));
    assert!(next(&mut scheduler, 5000).is_none());
    assert_eq!(scheduler.counts(), Counts::default());
}

#[test]
fn a_pod_created_again_under_its_name_is_another_pod() {
    let mut scheduler = scheduler();
    let now = Time::from_millis;
    scheduler.node_changed(None, Some(&node("a", 2)), now(0));
    let first = bound(&pod("first", 2), "a");
    scheduler.pod_changed(None, Some(&first), now(0));
    scheduler.pod_changed(Some(&first), Some(&pod("second", 2)), now(1));
    assert_eq!(expect_bind(next(&mut scheduler, 2)).0.to_string(), "second");
}

#[test]
fn only_its_own_pods_that_are_not_being_deleted_are_scheduled() {
    let mut scheduler = scheduler();
    let now = Time::from_millis;
    scheduler.node_changed(None, Some(&node("a", 8)), now(0));
    let mut others = Pod::clone(&pod("others", 1));
    others.spec.get_or_insert_default().scheduler_name = Some("another".to_owned());
    scheduler.pod_changed(None, Some(&Arc::new(others)), now(0));
    assert!(next(&mut scheduler, 1).is_none());
    let mut leaving = serde_json::to_value(&*pod("leaving", 1)).unwrap();
    leaving["metadata"]["deletionTimestamp"] = json!("2025-01-01T00:00:00Z");
    let leaving: Pod = serde_json::from_value(leaving).unwrap();
    scheduler.pod_changed(None, Some(&Arc::new(leaving)), now(0));
    assert!(matches!(next(&mut scheduler, 1).unwrap().outcome, Outcome::Skipped));
    assert_eq!(scheduler.counts(), Counts::default());
}

#[test]
fn finished_pods_take_no_place() {
    let mut scheduler = scheduler();
    let now = Time::from_millis;
    scheduler.node_changed(None, Some(&node("a", 2)), now(0));
    let running = bound(&pod("p", 2), "a");
    scheduler.pod_changed(None, Some(&running), now(0));
    scheduler.pod_changed(None, Some(&pod("q", 2)), now(0));
    expect_message(next(&mut scheduler, 1));
    let mut done = Pod::clone(&running);
    done.status.get_or_insert_default().phase = Some("Succeeded".to_owned());
    scheduler.pod_changed(Some(&running), Some(&Arc::new(done)), now(2));
    expect_bind(next(&mut scheduler, 3));
}

/// A pod of this priority, and bound if a node is named.
fn ranked(uid: &str, cpu: u32, priority: i32, node: Option<&str>) -> Arc<Pod> {
    let mut pod = Pod::clone(&pod(uid, cpu));
    let spec = pod.spec.get_or_insert_default();
    (spec.priority, spec.node_name) = (Some(priority), node.map(str::to_owned));
    Arc::new(pod)
}

fn nominated(pod: &Arc<Pod>, node: Option<&str>) -> Arc<Pod> {
    let mut pod = Pod::clone(pod);
    pod.status.get_or_insert_default().nominated_node_name = node.map(str::to_owned);
    Arc::new(pod)
}

fn expect_preemption(attempt: Option<Attempt>) -> (Preemption, Nomination) {
    match attempt {
        Some(Attempt {
            outcome: Outcome::Unschedulable { preemption: Some(preemption), nomination, .. },
            ..
        }) => (*preemption, nomination),
        other => panic!("expected a preemption, got {other:?}"),
    }
}

#[test]
fn a_preemptor_waits_for_its_victims_and_takes_their_place() {
    let mut scheduler = scheduler();
    let now = Time::from_millis;
    scheduler.node_changed(None, Some(&node("a", 2)), now(0));
    let victim = ranked("victim", 2, 0, Some("a"));
    scheduler.pod_changed(None, Some(&victim), now(0));
    let preemptor = ranked("p", 2, 9, None);
    scheduler.pod_changed(None, Some(&preemptor), now(0));
    let (preemption, nomination) = expect_preemption(next(&mut scheduler, 1));
    assert_eq!((&*preemption.node, preemption.victims.len()), ("a", 1));
    assert_eq!(nomination, Nomination::Set("a".into()));
    let uid = PodInfo::new(preemptor.clone()).uid;
    assert_eq!(scheduler.snapshot().nomination_of(&uid).map(|node| &**node), Some("a"));
    // A lesser pod does not get the place, before or after the victim is gone.
    scheduler.pod_changed(None, Some(&ranked("lesser", 1, 5, None)), now(2));
    // Gone before the runner says that it wrote all evictions: the pod is held back until then.
    scheduler.pod_changed(Some(&victim), None, now(2));
    assert_eq!(scheduler.counts().gated, 1);
    expect_message(next(&mut scheduler, 2000));
    assert!(next(&mut scheduler, 2000).is_none());
    scheduler.preempted(&uid, true, now(2000));
    let (bound, name) = expect_bind(next(&mut scheduler, 2000));
    assert_eq!((bound, &*name), (uid.clone(), "a"));
    assert_eq!(scheduler.snapshot().nomination_of(&uid), None);
}

#[test]
fn a_failed_eviction_sends_the_preemptor_back_at_once() {
    let mut scheduler = scheduler();
    let now = Time::from_millis;
    scheduler.node_changed(None, Some(&node("a", 2)), now(0));
    scheduler.pod_changed(None, Some(&ranked("victim", 2, 0, Some("a"))), now(0));
    scheduler.pod_changed(None, Some(&ranked("p", 2, 9, None)), now(0));
    let (_, _) = expect_preemption(next(&mut scheduler, 1));
    assert!(next(&mut scheduler, 1).is_none());
    let uid = PodInfo::new(ranked("p", 2, 9, None)).uid;
    scheduler.preempted(&uid, false, now(2));
    assert_eq!(scheduler.counts().active, 1);
    expect_preemption(next(&mut scheduler, 2));
}

#[test]
fn a_nominated_pod_prefers_its_node() {
    let mut scheduler = scheduler();
    let now = Time::from_millis;
    // The other node is emptier, and would be taken.
    scheduler.node_changed(None, Some(&node("a", 2)), now(0));
    scheduler.node_changed(None, Some(&node("b", 8)), now(0));
    scheduler.pod_changed(None, Some(&nominated(&pod("p", 1), Some("a"))), now(0));
    assert_eq!(&*expect_bind(next(&mut scheduler, 1)).1, "a");
    // One that the pod no longer fits is no hindrance.
    scheduler.pod_changed(None, Some(&nominated(&pod("q", 2), Some("a"))), now(2));
    assert_eq!(&*expect_bind(next(&mut scheduler, 2)).1, "b");
}

#[test]
fn nominations_follow_the_status_and_their_end_wakes_who_had_to_yield() {
    let mut scheduler = scheduler();
    let now = Time::from_millis;
    scheduler.node_changed(None, Some(&node("a", 2)), now(0));
    let gated = |node: Option<&str>| {
        let mut gated = serde_json::to_value(&*nominated(&ranked("g", 2, 5, None), node)).unwrap();
        gated["spec"]["schedulingGates"] = json!([{"name": "wait"}]);
        Arc::new(serde_json::from_value::<Pod>(gated).unwrap())
    };
    let on_a = gated(Some("a"));
    scheduler.pod_changed(None, Some(&on_a), now(0));
    let peer = ranked("peer", 1, 5, None);
    scheduler.pod_changed(None, Some(&peer), now(0));
    expect_message(next(&mut scheduler, 1));
    let nowhere = gated(None);
    scheduler.pod_changed(Some(&on_a), Some(&nowhere), now(2));
    expect_bind(next(&mut scheduler, 3));
    // And its deletion does as well.
    let on_b = gated(Some("b"));
    scheduler.node_changed(None, Some(&node("b", 2)), now(4));
    scheduler.pod_changed(Some(&nowhere), Some(&on_b), now(4));
    let other = ranked("other", 2, 5, None);
    scheduler.pod_changed(None, Some(&other), now(4));
    expect_message(next(&mut scheduler, 5));
    scheduler.pod_changed(Some(&on_b), None, now(6));
    expect_bind(next(&mut scheduler, 7));
}

#[test]
fn what_a_lesser_pod_was_nominated_for_goes_to_the_preemptor() {
    let mut scheduler = scheduler();
    let now = Time::from_millis;
    scheduler.node_changed(None, Some(&node("a", 2)), now(0));
    scheduler.pod_changed(None, Some(&ranked("victim", 2, 0, Some("a"))), now(0));
    scheduler.pod_changed(None, Some(&ranked("lesser", 2, 5, None)), now(0));
    expect_preemption(next(&mut scheduler, 1));
    let lesser = PodInfo::new(ranked("lesser", 2, 5, None)).uid;
    scheduler.preempted(&lesser, true, now(1));
    scheduler.pod_changed(None, Some(&ranked("p", 2, 9, None)), now(1));
    let (preemption, _) = expect_preemption(next(&mut scheduler, 2));
    assert_eq!(preemption.outranked.len(), 1);
    assert_eq!(scheduler.snapshot().nomination_of(&lesser), None);
}

/// What may happen around a scheduler. Indices are taken modulo what is there.
#[derive(Clone, Debug)]
enum Step {
    CreatePod {
        cpu: u32,
        priority: i32,
    },
    DeletePod(usize),
    /// The API server is told to evict a preemption's victims; `fails` as if it could not be.
    Evict {
        at: usize,
        fails: bool,
    },
    SetNode(u8),
    DeleteNode(u8),
    /// Hand the oldest unseen changes to the scheduler.
    Deliver(usize),
    Schedule,
    /// The API server answers a binding; `fails` as if the connection broke before it was written.
    Answer {
        at: usize,
        fails: bool,
    },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u32, 0..3).prop_map(|(cpu, priority)| Step::CreatePod { cpu, priority }),
        3 => (any::<usize>(), prop::bool::weighted(0.2))
            .prop_map(|(at, fails)| Step::Evict { at, fails }),
        1 => any::<usize>().prop_map(Step::DeletePod),
        2 => (0..4_u8).prop_map(Step::SetNode),
        1 => (0..4_u8).prop_map(Step::DeleteNode),
        6 => (1..6_usize).prop_map(Step::Deliver),
        6 => Just(Step::Schedule),
        5 => (any::<usize>(), prop::bool::weighted(0.2))
            .prop_map(|(at, fails)| Step::Answer { at, fails }),
        1 => (0..3000_u64).prop_map(Step::Wait),
    ]
}

type PodChange = (Option<Arc<Pod>>, Option<Arc<Pod>>);
type NodeChange = (Option<Arc<Node>>, Option<Arc<Node>>);

/// An API server of maps: changes wait in `unseen` until they are delivered, in order.
#[derive(Default)]
struct Server {
    pods: BTreeMap<String, Arc<Pod>>,
    nodes: BTreeMap<String, Arc<Node>>,
    unseen: VecDeque<Result<PodChange, NodeChange>>,
    created: usize,
}

impl Server {
    fn set_pod(&mut self, uid: &str, pod: Option<Arc<Pod>>) {
        let old = match &pod {
            Some(pod) => self.pods.insert(uid.to_owned(), Arc::clone(pod)),
            None => self.pods.remove(uid),
        };
        if old.is_none() && pod.is_none() {
            return;
        }
        self.unseen.push_back(Ok((old, pod)));
    }

    fn set_node(&mut self, name: &str, node: Option<Arc<Node>>) {
        let old = match &node {
            Some(node) => self.nodes.insert(name.to_owned(), Arc::clone(node)),
            None => self.nodes.remove(name),
        };
        if old.is_some() || node.is_some() {
            self.unseen.push_back(Err((old, node)));
        }
    }

    /// Refuses pods that are gone or bound, as the binding subresource does.
    fn bind(&mut self, uid: &str, node: &str) -> bool {
        match self.pods.get(uid) {
            Some(pod) if !is_bound(pod) => {
                let pod = bound(pod, node);
                self.set_pod(uid, Some(pod));
                true
            }
            _ => false,
        }
    }

    fn deliver(&mut self, scheduler: &mut Scheduler, now: Time) -> bool {
        match self.unseen.pop_front() {
            Some(Ok((old, new))) => scheduler.pod_changed(old.as_ref(), new.as_ref(), now),
            Some(Err((old, new))) => scheduler.node_changed(old.as_ref(), new.as_ref(), now),
            None => return false,
        }
        true
    }
}

proptest! {
    #[test]
    fn no_pod_is_lost_and_no_node_overcommitted(
        steps in vec(step(), 1..150), seed in any::<u64>(),
    ) {
        let (mut scheduler, mut server) = (scheduler(), Server::default());
        let mut random = SmallRng::seed_from_u64(seed);
        let mut bindings: Vec<(PodUid, Arc<str>)> = Vec::new();
        let mut preemptions: Vec<(PodUid, Vec<PodUid>)> = Vec::new();
        let mut millis = 0;
        for step in steps {
            let now = Time::from_millis(millis);
            match step {
                Step::CreatePod { cpu, priority } => {
                    server.created += 1;
                    let uid = format!("p{}", server.created);
                    server.set_pod(&uid, Some(ranked(&uid, cpu, priority, None)));
                }
                Step::Evict { at, fails } => {
                    if !preemptions.is_empty() {
                        let (uid, victims) = preemptions.swap_remove(at % preemptions.len());
                        for victim in victims.iter().filter(|_| !fails) {
                            server.set_pod(&victim.to_string(), None);
                        }
                        scheduler.preempted(&uid, !fails, now);
                    }
                }
                Step::DeletePod(at) => {
                    let uid = server.pods.keys().nth(at % server.pods.len().max(1)).cloned();
                    if let Some(uid) = uid {
                        server.set_pod(&uid, None);
                    }
                }
                Step::SetNode(name) => {
                    let name = format!("n{name}");
                    server.set_node(&name, Some(node(&name, 6)));
                }
                Step::DeleteNode(name) => server.set_node(&format!("n{name}"), None),
                Step::Deliver(count) => {
                    for _ in 0..count {
                        server.deliver(&mut scheduler, now);
                    }
                }
                Step::Schedule => {
                    let Some(attempt) = scheduler.schedule_next(now, &mut random) else { continue };
                    let uid = attempt.pod.info.uid.clone();
                    match attempt.outcome {
                        Outcome::Bind { node, .. } => bindings.push((uid, node)),
                        Outcome::Unschedulable { preemption: Some(preemption), .. } => {
                            let priority = attempt.pod.info.priority;
                            let victims = preemption.victims.iter();
                            prop_assert!(victims.clone().all(|v| v.priority < priority));
                            let victims = victims.map(|victim| victim.uid.clone()).collect();
                            preemptions.push((uid, victims));
                        }
                        _ => {}
                    }
                }
                Step::Answer { at, fails } => {
                    if !bindings.is_empty() {
                        let (uid, node) = bindings.swap_remove(at % bindings.len());
                        if !fails && server.bind(&uid.to_string(), &node) {
                            scheduler.bound(&uid);
                        } else {
                            scheduler.binding_failed(&uid, now);
                        }
                    }
                }
                Step::Wait(wait) => millis += wait,
            }
            for node in server.nodes.keys() {
                let on = |pod: &&Arc<Pod>| {
                    pod.spec.as_ref().and_then(|s| s.node_name.as_ref()) == Some(node)
                };
                let pods: Vec<_> = server.pods.values().filter(on).collect();
                let cpu: i64 = pods
                    .iter()
                    .map(|pod| PodInfo::new(Arc::clone(pod)).requests.milli_cpu)
                    .sum();
                prop_assert!(cpu <= 6000 && pods.len() <= 4, "{} has {} and {} pods", node, cpu,
                    pods.len());
            }
        }
        // Settle: everything is answered and seen. Then every pod is bound or waits.
        let now = Time::from_millis(millis);
        for (uid, _) in bindings {
            scheduler.binding_failed(&uid, now);
        }
        for (uid, _) in preemptions {
            scheduler.preempted(&uid, true, now);
        }
        while server.deliver(&mut scheduler, now) {}
        let waiting = server.pods.values().filter(|pod| !is_bound(pod)).count();
        let counts = scheduler.counts();
        prop_assert_eq!(counts.active + counts.backoff + counts.unschedulable, waiting);
        prop_assert_eq!(counts.gated, 0);
        prop_assert_eq!(scheduler.binding_count(), 0);
        let pending = |uid: &PodUid| server.pods.get(&uid.to_string()).is_some_and(|p| !is_bound(p));
        let snapshot = scheduler.snapshot();
        for node in snapshot.nodes_with_nominations() {
            prop_assert!(snapshot.nominated(node).iter().all(|pod| pending(&pod.uid)));
        }
        let placed: usize = scheduler.snapshot().nodes().iter().map(|n| n.pod_count()).sum();
        let on_nodes = server.pods.values().filter(|pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
            node.is_some_and(|node| server.nodes.contains_key(node))
        });
        prop_assert_eq!(placed, on_nodes.count());
    }
}
