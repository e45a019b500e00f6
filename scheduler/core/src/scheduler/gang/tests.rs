use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde_json::json;

use super::*;
use crate::cache::Object;
use crate::engine::Indexed;
use crate::framework::Profiles;
use crate::pod::PodUid;
use crate::queue::{Counts, Options};

fn scheduler() -> Scheduler {
    let profiles = Profiles::single(Profile::default_plugins("default-scheduler"));
    Scheduler::new(Arc::new(profiles), Options::default(), Indexed::default())
}

fn node(name: &str, slots: usize) -> Arc<Node> {
    let object = json!({"metadata": {"name": name}, "status": {"allocatable": {
        "cpu": slots.to_string(), "memory": "64Gi", "pods": "110"}}});
    Arc::new(serde_json::from_value(object).unwrap())
}

/// A gang `name` that wants so many pods at once.
fn workload(name: &str, min_count: usize) -> Object {
    let workload = json!({"metadata": {"name": name, "namespace": "default"}, "spec": {
        "podGroups": [{"name": "g", "policy": {"gang": {"minCount": min_count}}}]}});
    Object::Workload(None, Some(Arc::new(serde_json::from_value(workload).unwrap())))
}

/// A member that wants so many CPUs.
fn member(gang: &str, uid: &str, cpu: usize, priority: i32) -> Arc<Pod> {
    let object = json!({"metadata": {"name": uid, "namespace": "default", "uid": uid}, "spec": {
        "priority": priority, "workloadRef": {"name": gang, "podGroup": "g"},
        "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu.to_string()}}}]}});
    Arc::new(serde_json::from_value(object).unwrap())
}

fn bound(pod: &Arc<Pod>, node: &str) -> Arc<Pod> {
    let mut pod = Pod::clone(pod);
    pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
    Arc::new(pod)
}

fn now(millis: u64) -> Time {
    Time::from_millis(millis)
}

/// Hands out everything that is ready: the pods bound, and what was said of the others.
fn run(scheduler: &mut Scheduler, millis: u64) -> (Vec<PodUid>, BTreeMap<String, String>) {
    let mut random = SmallRng::seed_from_u64(1);
    let (mut placed, mut said) = (Vec::new(), BTreeMap::new());
    while let Some(Attempt { pod, outcome }) = scheduler.schedule_next(now(millis), &mut random) {
        match outcome {
            Outcome::Bind { .. } => placed.push(pod.info.uid.clone()),
            Outcome::Unschedulable { diagnosis, .. } => {
                said.insert(pod.info.name().to_owned(), diagnosis.to_string());
            }
            other => panic!("{other:?}"),
        }
    }
    (placed, said)
}

#[test]
fn a_gang_is_placed_as_a_whole_or_not_at_all() {
    let mut scheduler = scheduler();
    scheduler.node_changed(None, Some(&node("a", 2)), now(0));
    scheduler.object_changed(workload("w", 3), now(0));
    for uid in ["p0", "p1"] {
        scheduler.pod_changed(None, Some(&member("w", uid, 1, 0)), now(0));
    }
    assert_eq!(scheduler.counts(), Counts { gated: 2, ..Counts::default() });
    assert!(run(&mut scheduler, 1).0.is_empty());
    scheduler.pod_changed(None, Some(&member("w", "p2", 1, 0)), now(1));
    assert_eq!(scheduler.counts(), Counts { active: 3, ..Counts::default() });
    let (placed, said) = run(&mut scheduler, 2);
    assert!(placed.is_empty());
    assert_eq!(scheduler.snapshot().get("a").unwrap().pod_count(), 0);
    let group = "pod group is unschedulable, minCount (3) cannot be satisfied: 2 scheduled, 0 \
                 remaining";
    assert_eq!(said["p0"], group);
    assert_eq!(said["p1"], group);
    assert_eq!(said["p2"], "0/1 nodes are available: 1 Insufficient cpu.");
    // What helps one member wakes all of them, once the one has backed off.
    scheduler.node_changed(None, Some(&node("b", 1)), now(3));
    let (placed, _) = run(&mut scheduler, 3000);
    assert_eq!(placed.len(), 3);
    assert_eq!(scheduler.counts(), Counts::default());
}

#[test]
fn later_members_join_and_those_left_over_wait_alone() {
    let mut scheduler = scheduler();
    scheduler.node_changed(None, Some(&node("a", 3)), now(0));
    for uid in ["p0", "p1", "p2", "p3"] {
        scheduler.pod_changed(None, Some(&member("w", uid, 1, 0)), now(0));
    }
    assert_eq!(scheduler.counts().gated, 4);
    scheduler.object_changed(workload("w", 2), now(0));
    let (placed, said) = run(&mut scheduler, 1);
    assert_eq!((placed.len(), said.len()), (3, 1));
    let message = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate";
    assert!(said["p3"].starts_with(message), "{}", said["p3"]);
    scheduler.node_changed(None, Some(&node("b", 2)), now(2));
    scheduler.pod_changed(None, Some(&member("w", "p4", 1, 0)), now(2));
    assert_eq!(run(&mut scheduler, 3000).0.len(), 2);
}

#[test]
fn a_failed_binding_is_tried_again_with_the_others_in_place() {
    let mut scheduler = scheduler();
    scheduler.node_changed(None, Some(&node("a", 2)), now(0));
    scheduler.object_changed(workload("w", 2), now(0));
    let pods = [member("w", "p0", 1, 0), member("w", "p1", 1, 0)];
    pods.iter().for_each(|pod| scheduler.pod_changed(None, Some(pod), now(0)));
    let (placed, _) = run(&mut scheduler, 1);
    assert_eq!(placed.len(), 2);
    scheduler.bound(&placed[0]);
    scheduler.binding_failed(&placed[1], now(2));
    assert_eq!(run(&mut scheduler, 3000).0, placed[1..]);
}

#[test]
fn a_gang_whose_workload_is_gone_waits_for_it() {
    let mut scheduler = scheduler();
    scheduler.node_changed(None, Some(&node("a", 2)), now(0));
    let Object::Workload(_, there) = workload("w", 1) else { unreachable!() };
    scheduler.object_changed(Object::Workload(None, there.clone()), now(0));
    scheduler.pod_changed(None, Some(&member("w", "p0", 1, 0)), now(0));
    scheduler.object_changed(Object::Workload(there, None), now(0));
    let (_, said) = run(&mut scheduler, 1);
    assert_eq!(said["p0"], "waiting for pods's workload \"w\" to appear in scheduling queue");
    assert_eq!(scheduler.counts().unschedulable + scheduler.counts().gated, 1);
    scheduler.object_changed(workload("w", 1), now(2));
    assert_eq!(run(&mut scheduler, 3000).0.len(), 1);
}

#[test]
fn members_with_claims_get_their_devices_together() {
    let mut scheduler = scheduler();
    let devices = |count: usize| {
        let devices: Vec<_> = (0..count).map(|n| json!({"name": format!("x{n}")})).collect();
        let slice = json!({"metadata": {"name": "s"}, "spec": {"driver": "d", "nodeName": "a",
            "pool": {"name": "a", "generation": count, "resourceSliceCount": 1},
            "devices": devices}});
        Object::ResourceSlice(None, Some(Arc::new(serde_json::from_value(slice).unwrap())))
    };
    scheduler.node_changed(None, Some(&node("a", 9)), now(0));
    scheduler.object_changed(workload("w", 2), now(0));
    scheduler.object_changed(devices(1), now(0));
    let class = serde_json::from_value(json!({"metadata": {"name": "gpu"}, "spec": {}})).unwrap();
    scheduler.object_changed(Object::DeviceClass(None, Some(Arc::new(class))), now(0));
    for uid in ["p0", "p1"] {
        let claim = json!({"metadata": {"name": uid, "namespace": "default", "uid": uid}, "spec": {
            "devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}});
        let claim = serde_json::from_value(claim).unwrap();
        scheduler.object_changed(Object::ResourceClaim(None, Some(Arc::new(claim))), now(0));
        let mut pod = Pod::clone(&member("w", uid, 1, 0));
        let uses = json!([{"name": "c", "resourceClaimName": uid}]);
        pod.spec.as_mut().unwrap().resource_claims = serde_json::from_value(uses).unwrap();
        scheduler.pod_changed(None, Some(&Arc::new(pod)), now(0));
    }
    let (placed, said) = run(&mut scheduler, 1);
    assert!(placed.is_empty());
    assert_eq!(said["p1"], "0/1 nodes are available: 1 cannot allocate all claims.");
    // Nothing of the decision is left behind.
    let claims = &scheduler.snapshot().objects().resource_claims;
    assert!(claims.iter().all(|claim| claim.status.is_none()));
    scheduler.object_changed(devices(2), now(2));
    let (placed, _) = run(&mut scheduler, 3000);
    assert_eq!(placed.len(), 2);
    let claims = &scheduler.snapshot().objects().resource_claims;
    assert!(claims.iter().all(|claim| claim.status.is_some()));
}

/// A gang of pods that want one CPU each.
#[derive(Clone, Debug)]
struct ModelGang {
    min_count: usize,
    size: usize,
    priority: i32,
}

fn gang() -> impl Strategy<Value = ModelGang> {
    (0..5_usize, 1..6_usize, 0..3_i32).prop_map(|(min_count, size, priority)| ModelGang {
        min_count,
        size,
        priority,
    })
}

/// What a run of one gang after the other places, the most important and then the oldest first. A
/// gang of which enough are placed takes what is left pod by pod.
fn serial(gangs: &[ModelGang], slots: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..gangs.len()).collect();
    order.sort_by_key(|at| (Reverse(gangs[*at].priority), *at));
    let (mut free, mut placed) = (slots, vec![0; gangs.len()]);
    for at in order {
        let fits = gangs[at].size.min(free);
        if gangs[at].size >= gangs[at].min_count && fits >= gangs[at].min_count {
            placed[at] = fits;
            free -= fits;
        }
    }
    placed
}

fn counts(scheduler: &Scheduler, gangs: usize) -> Vec<usize> {
    let mut counts = vec![0; gangs];
    for pod in scheduler.snapshot().nodes().iter().flat_map(|node| node.pods()) {
        let at: usize = pod.name().split_once('-').unwrap().0.parse().unwrap();
        counts[at] += 1;
    }
    counts
}

proptest! {
    #[test]
    fn every_gang_that_a_serial_run_places_is_placed(
        gangs in vec(gang(), 1..8), nodes in vec(0..5_usize, 1..5),
    ) {
        let mut scheduler = scheduler();
        for (at, slots) in nodes.iter().enumerate() {
            scheduler.node_changed(None, Some(&node(&format!("n{at}"), *slots)), now(0));
        }
        for (at, gang) in gangs.iter().enumerate() {
            let name = format!("w{at}");
            scheduler.object_changed(workload(&name, gang.min_count), now(0));
            for n in 0..gang.size {
                let pod = member(&name, &format!("{at}-{n}"), 1, gang.priority);
                scheduler.pod_changed(None, Some(&pod), now(0));
            }
        }
        run(&mut scheduler, 1);
        prop_assert_eq!(counts(&scheduler, gangs.len()), serial(&gangs, nodes.iter().sum()));
    }

    #[test]
    fn no_gang_is_placed_in_part_and_no_node_overcommitted(
        gangs in vec((gang(), 1..4_usize), 1..8),
        steps in vec((0..6_u8, any::<prop::sample::Index>(), any::<bool>()), 1..60),
        seed in any::<u64>(),
    ) {
        let mut scheduler = scheduler();
        let mut random = SmallRng::seed_from_u64(seed);
        for (at, (gang, _)) in gangs.iter().enumerate() {
            scheduler.object_changed(workload(&format!("w{at}"), gang.min_count), now(0));
        }
        let all: Vec<(usize, Arc<Pod>)> = gangs.iter().enumerate().flat_map(|(at, (gang, cpu))| {
            (0..gang.size).map(move |n| {
                (at, member(&format!("w{at}"), &format!("{at}-{n}"), *cpu, gang.priority))
            })
        }).collect();
        // Where each pod is on the server: not there, waiting, on a node, or gone.
        let mut state: BTreeMap<String, Option<Option<String>>> = BTreeMap::new();
        let mut bindings: Vec<(PodUid, Arc<str>)> = Vec::new();
        let mut millis = 0;
        let find = |uid: &PodUid| {
            let wanted = uid.to_string();
            let named = |(_, pod): &&(usize, Arc<Pod>)| pod.metadata.name.as_deref() == Some(&*wanted);
            all.iter().find(named).unwrap().1.clone()
        };
        for (what, index, flag) in steps {
            millis += 700;
            match what {
                0 => {
                    let at = index.index(4);
                    let node = node(&format!("n{at}"), 1 + at);
                    scheduler.node_changed(None, Some(&node), now(millis));
                }
                1 | 2 => {
                    let pod = &index.get(&all).1;
                    let name = pod.metadata.name.clone().unwrap();
                    if let std::collections::btree_map::Entry::Vacant(new) = state.entry(name) {
                        new.insert(Some(None));
                        scheduler.pod_changed(None, Some(pod), now(millis));
                    }
                }
                3 => {
                    let pod = &index.get(&all).1;
                    let known = state.get_mut(pod.metadata.name.as_deref().unwrap());
                    if let Some(Some(place)) = known.as_deref().cloned() {
                        *known.unwrap() = None;
                        let seen = place.map_or(Arc::clone(pod), |node| bound(pod, &node));
                        scheduler.pod_changed(Some(&seen), None, now(millis));
                    }
                }
                4 => {
                    // All that is decided comes out together.
                    let before = counts(&scheduler, gangs.len());
                    let Some(first) = scheduler.schedule_next(now(millis), &mut random) else {
                        continue;
                    };
                    let after = counts(&scheduler, gangs.len());
                    for (at, (gang, _)) in gangs.iter().enumerate() {
                        prop_assert!(
                            after[at] == before[at] || after[at] >= gang.min_count,
                            "gang {} has {} of {}", at, after[at], gang.min_count
                        );
                    }
                    let mut next = Some(first);
                    while let Some(Attempt { pod, outcome }) = next.take() {
                        if let Outcome::Bind { node, .. } = outcome {
                            bindings.push((pod.info.uid.clone(), node));
                        }
                        next = scheduler.decided.pop_front();
                    }
                }
                _ if !bindings.is_empty() => {
                    let (uid, node) = bindings.swap_remove(index.index(bindings.len()));
                    let place = state.get_mut(&uid.to_string()).unwrap();
                    if flag && *place == Some(None) {
                        *place = Some(Some(node.to_string()));
                        scheduler.bound(&uid);
                        let pod = find(&uid);
                        scheduler.pod_changed(Some(&pod), Some(&bound(&pod, &node)), now(millis));
                    } else {
                        scheduler.binding_failed(&uid, now(millis));
                    }
                }
                _ => {}
            }
            for info in scheduler.snapshot().nodes() {
                prop_assert!(info.requested().milli_cpu <= info.allocatable().milli_cpu);
            }
        }
        for (uid, _) in bindings {
            scheduler.binding_failed(&uid, now(millis));
        }
        // Every pod that is there and has no node waits somewhere.
        let waiting = state.values().filter(|place| **place == Some(None)).count();
        let Counts { active, backoff, unschedulable, gated } = scheduler.counts();
        prop_assert_eq!(active + backoff + unschedulable + gated, waiting);
    }
}
