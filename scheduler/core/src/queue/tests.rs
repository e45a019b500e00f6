use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::framework::{Action, Profile};

mod model;

/// A pod that asks for `cpu` cores; gated if asked to be.
fn pod(name: &str, priority: i32, cpu: u32, gated: bool) -> Arc<PodInfo> {
    let gates = if gated { json!([{"name": "g"}]) } else { json!([]) };
    let object = json!({"metadata": {"name": name, "uid": name}, "spec": {
        "priority": priority, "schedulingGates": gates,
        "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu.to_string()}}}]}});
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(object).unwrap())))
}

fn queue() -> Queue {
    let profiles = Profiles::single(Profile::default_plugins("default-scheduler"));
    Queue::new(Options::default(), Arc::new(profiles))
}

fn none() -> Snapshot {
    Snapshot::default()
}

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn node_added(cpu: u32) -> Occurrence {
    let node = json!({"metadata": {"name": "n"}, "status": {"allocatable": {
        "cpu": cpu.to_string(), "pods": "10"}}});
    let node = Some(Arc::new(serde_json::from_value(node).unwrap()));
    let event = ClusterEvent::new(Resource::Node, Action::ADD);
    Occurrence { event, subject: Subject::Node(None, node) }
}

fn pod_deleted() -> Occurrence {
    let event = ClusterEvent::new(Resource::AssignedPod, Action::DELETE);
    let subject = Subject::Pod(Some(pod("other", 0, 1, false)), None);
    Occurrence { event, subject }
}

fn by_fit() -> PluginSet {
    [PluginName::NodeResourcesFit].into_iter().collect()
}

fn pop(queue: &mut Queue, millis: u64) -> Option<String> {
    let popped = queue.pop(&none(), at(millis))?;
    queue.done(&popped.info.uid);
    Some(popped.info.name().to_owned())
}

/// Pops the only pod and refuses it.
fn refuse_next(queue: &mut Queue, refused_by: PluginSet, millis: u64) {
    let popped = queue.pop(&none(), at(millis)).unwrap();
    queue.refuse(popped, refused_by, &none(), at(millis));
}

#[test]
fn higher_priority_first_then_first_come() {
    let mut queue = queue();
    queue.add(pod("early", 0, 1, false), &none(), at(1));
    queue.add(pod("late", 0, 1, false), &none(), at(2));
    queue.add(pod("urgent", 10, 1, false), &none(), at(3));
    let order: Vec<_> = std::iter::from_fn(|| pop(&mut queue, 4)).collect();
    assert_eq!(order, ["urgent", "early", "late"]);
}

#[test]
fn a_refused_pod_waits_for_an_event_that_helps() {
    let mut queue = queue();
    queue.add(pod("big", 0, 4, false), &none(), at(0));
    refuse_next(&mut queue, by_fit(), 10);
    assert_eq!(queue.counts(), Counts { unschedulable: 1, ..Counts::default() });
    queue.wake(&node_added(2), &none(), at(20));
    assert_eq!(queue.counts().unschedulable, 1, "the node is too small");
    queue.wake(&node_added(4), &none(), at(20));
    assert_eq!(queue.counts(), Counts { backoff: 1, ..Counts::default() });
    // Nothing else is active, so it need not wait.
    assert_eq!(pop(&mut queue, 20).as_deref(), Some("big"));
}

#[test]
fn back_off_is_waited_for_while_others_are_active() {
    let mut queue = queue();
    queue.add(pod("a", 5, 4, false), &none(), at(0));
    refuse_next(&mut queue, by_fit(), 0);
    queue.wake(&pod_deleted(), &none(), at(10));
    queue.add(pod("b", 0, 1, false), &none(), at(20));
    assert_eq!(queue.counts(), Counts { active: 1, backoff: 1, ..Counts::default() });
    assert_eq!(queue.next_flush(), Some(at(2000)));
    queue.flush(&none(), at(2000));
    assert_eq!(pop(&mut queue, 2000).as_deref(), Some("a"), "its priority counts again");
}

#[test]
fn after_an_error_back_off_is_always_waited_for() {
    let mut queue = queue();
    queue.add(pod("a", 0, 1, false), &none(), at(0));
    refuse_next(&mut queue, PluginSet::default(), 0);
    assert_eq!(queue.counts().backoff, 1);
    assert_eq!(pop(&mut queue, 1999), None);
    assert_eq!(pop(&mut queue, 2000).as_deref(), Some("a"));
}

#[test]
fn events_during_an_attempt_are_not_lost() {
    let mut queue = queue();
    queue.add(pod("a", 0, 4, false), &none(), at(0));
    let popped = queue.pop(&none(), at(1)).unwrap();
    queue.wake(&node_added(8), &none(), at(2));
    queue.refuse(popped, by_fit(), &none(), at(3));
    assert_eq!(queue.counts(), Counts { backoff: 1, ..Counts::default() });
    // One that does not help is not enough.
    let popped = queue.pop(&none(), at(4)).unwrap();
    queue.wake(&node_added(1), &none(), at(5));
    queue.refuse(popped, by_fit(), &none(), at(6));
    assert_eq!(queue.counts(), Counts { unschedulable: 1, ..Counts::default() });
}

#[test]
fn a_pod_removed_during_its_attempt_does_not_come_back() {
    let mut queue = queue();
    queue.add(pod("a", 0, 4, false), &none(), at(0));
    let popped = queue.pop(&none(), at(1)).unwrap();
    queue.remove(&popped.info.uid);
    queue.refuse(popped, by_fit(), &none(), at(3));
    assert_eq!(queue.counts(), Counts::default());
}

#[test]
fn a_pod_changed_during_its_attempt_comes_back_changed() {
    let mut queue = queue();
    queue.add(pod("a", 0, 4, false), &none(), at(0));
    let popped = queue.pop(&none(), at(1)).unwrap();
    queue.update(pod("a", 0, 2, false), &none(), at(2));
    queue.refuse(popped, by_fit(), &none(), at(3));
    // It asks for less now, which is an event that helps.
    let again = queue.pop(&none(), at(4)).unwrap();
    assert_eq!(again.info.requests.milli_cpu, 2000);
    assert_eq!(again.attempts, 2);
}

#[test]
fn gated_pods_wait_for_their_gate_alone() {
    let mut queue = queue();
    queue.add(pod("a", 0, 1, true), &none(), at(0));
    assert_eq!(queue.counts(), Counts { gated: 1, ..Counts::default() });
    queue.wake(&node_added(8), &none(), at(1));
    queue.flush(&none(), at(400_000));
    assert_eq!(queue.counts(), Counts { gated: 1, ..Counts::default() });
    queue.update(pod("a", 0, 1, false), &none(), at(400_001));
    assert_eq!(queue.counts(), Counts { active: 1, ..Counts::default() });
    let popped = queue.pop(&none(), at(400_002)).unwrap();
    assert_eq!(popped.first_active_at, Some(at(400_001)));
}

#[test]
fn what_no_event_woke_is_tried_again_after_five_minutes() {
    let mut queue = queue();
    queue.add(pod("a", 0, 1, false), &none(), at(0));
    refuse_next(&mut queue, by_fit(), 0);
    queue.flush(&none(), at(290_000));
    assert_eq!(queue.next_flush(), Some(at(320_000)));
    queue.flush(&none(), at(319_999));
    assert_eq!(queue.counts().unschedulable, 1);
    queue.flush(&none(), at(320_000));
    assert_eq!(queue.counts(), Counts { active: 1, ..Counts::default() });
}

#[derive(Clone, Debug)]
enum Step {
    Add { name: u8, priority: i32, cpu: u32, gated: bool },
    Remove(u8),
    Pop,
    Done(usize),
    Refuse(usize, bool),
    NodeAdded(u32),
    PodDeleted,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let add = (0..12_u8, 0..3_i32, 1..5_u32, prop::bool::weighted(0.15));
    prop_oneof![
        4 => add.prop_map(|(name, priority, cpu, gated)| Step::Add { name, priority, cpu, gated }),
        1 => (0..12_u8).prop_map(Step::Remove),
        5 => Just(Step::Pop),
        1 => any::<usize>().prop_map(Step::Done),
        4 => (any::<usize>(), prop::bool::weighted(0.75)).prop_map(|(n, fit)| Step::Refuse(n, fit)),
        2 => (1..6_u32).prop_map(Step::NodeAdded),
        1 => Just(Step::PodDeleted),
        4 => prop_oneof![0..3000_u64, Just(31_000_u64), Just(310_000)].prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn the_queue_behaves_as_the_model(steps in vec(step(), 1..120)) {
        let (mut queue, mut model) = (queue(), model::Model::default());
        let mut flying: Vec<QueuedPod> = Vec::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Add { name, priority, cpu, gated } => {
                    let info = pod(&name.to_string(), priority, cpu, gated);
                    // Gates cannot be added to a pod that has none.
                    let info = match model.is_gated(&info.uid) {
                        Some(false) => pod(&name.to_string(), priority, cpu, false),
                        _ => info,
                    };
                    model.add(&info, now);
                    queue.add(info, &none(), at(now));
                }
                Step::Remove(name) => {
                    let info = pod(&name.to_string(), 0, 0, false);
                    model.remove(&info.uid);
                    queue.remove(&info.uid);
                }
                Step::Pop => {
                    let popped = queue.pop(&none(), at(now));
                    prop_assert_eq!(popped.as_ref().map(|p| p.info.uid.clone()), model.pop(now));
                    flying.extend(popped);
                }
                Step::Done(n) if !flying.is_empty() => {
                    let popped = flying.swap_remove(n % flying.len());
                    model.done(&popped.info.uid);
                    queue.done(&popped.info.uid);
                }
                Step::Refuse(n, fit) if !flying.is_empty() => {
                    let popped = flying.swap_remove(n % flying.len());
                    model.refuse(&popped.info.uid, fit, now);
                    let refused_by = if fit { by_fit() } else { PluginSet::default() };
                    queue.refuse(popped, refused_by, &none(), at(now));
                }
                Step::Done(_) | Step::Refuse(..) => {}
                Step::NodeAdded(cpu) => {
                    model.wake(&model::Event::NodeAdded(cpu), now);
                    queue.wake(&node_added(cpu), &none(), at(now));
                }
                Step::PodDeleted => {
                    model.wake(&model::Event::PodDeleted, now);
                    queue.wake(&pod_deleted(), &none(), at(now));
                }
                Step::Wait(millis) => now += millis,
            }
            model.flush(now);
            queue.flush(&none(), at(now));
            prop_assert_eq!(queue.counts(), model.counts());
        }
    }
}

#[test]
fn what_enters_is_counted_by_its_cause() {
    let mut queue = queue();
    queue.add(pod("a", 0, 9, false), &none(), at(0));
    refuse_next(&mut queue, by_fit(), 0);
    assert_eq!(queue.refused().count(), 1);
    queue.wake(&node_added(16), &none(), at(10));
    queue.flush(&none(), at(5_000));
    let mut counts: Vec<(&str, String, u64)> =
        queue.incoming().map(|(part, cause, count)| (part, cause.label(), count)).collect();
    counts.sort();
    let expected = [
        ("active", "BackoffComplete", 1),
        ("active", "PodAdd", 1),
        ("backoff", "NodeAdd", 1),
        ("unschedulable", "ScheduleAttemptFailure", 1),
    ];
    assert_eq!(counts, expected.map(|(part, cause, count)| (part, cause.to_owned(), count)));
}
