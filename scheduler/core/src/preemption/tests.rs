#![expect(clippy::needless_pass_by_value, reason = "json! reads best in place")]

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cache::{Cache, Object, Snapshot, WhatIf};
use crate::fit::fits_beside_nominated;
use crate::framework::Profile;
use crate::reference;
use crate::testing;

fn pod(name: &str, priority: i32, cpu: u32, more: Value) -> Arc<PodInfo> {
    let mut object = json!({"metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"priority": priority, "containers": [
            {"name": "c", "resources": {"requests": {"cpu": cpu.to_string()}}}]}});
    for (part, fields) in more.as_object().into_iter().flatten() {
        for (name, value) in fields.as_object().into_iter().flatten() {
            object[part][name] = value.clone();
        }
    }
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(object).unwrap())))
}

fn on(node: &str) -> Value {
    json!({"spec": {"nodeName": node}})
}

/// Nodes of four cores each.
fn cluster(nodes: &[&str], pods: Vec<Arc<PodInfo>>) -> Cache {
    let mut cache = Cache::default();
    for name in nodes {
        let object = json!({"metadata": {"name": name}, "status": {"allocatable": {
            "cpu": "4", "memory": "8Gi", "pods": "10"}}});
        cache.set_node(Arc::new(serde_json::from_value(object).unwrap()));
    }
    pods.into_iter().for_each(|pod| cache.set_pod(pod));
    cache
}

/// What DefaultPreemption does for the pod, which no node must have.
fn try_preempt(snapshot: &Snapshot, pod: &Arc<PodInfo>) -> PostFilter {
    let profile = Profile::default_plugins("default-scheduler");
    let diagnosis = reference::evaluate(&profile, snapshot, pod).diagnosis;
    let context =
        PostFilterContext { profile: &profile, snapshot, pod, diagnosis: &diagnosis, random: 0 };
    preempt(&context, Shortlist::default(), &mut DryRun)
}

/// Node and victims.
fn expect_preemption(snapshot: &Snapshot, pod: &Arc<PodInfo>) -> (String, Vec<String>) {
    match try_preempt(snapshot, pod) {
        PostFilter::Preempt(Preemption { node, victims, .. }) => {
            (node.to_string(), victims.iter().map(|victim| victim.name().to_owned()).collect())
        }
        other => panic!("expected a preemption, got {other:?}"),
    }
}

/// `(message, whether the nomination is lost)`.
fn expect_no_help(snapshot: &Snapshot, pod: &Arc<PodInfo>) -> (String, bool) {
    match try_preempt(snapshot, pod) {
        PostFilter::Unhelped(message) => (message.into_owned(), false),
        PostFilter::Hopeless(message) => (message.into_owned(), true),
        other => panic!("expected no help, got {other:?}"),
    }
}

#[test]
fn the_least_important_are_evicted_and_no_more_than_needed() {
    let cache = cluster(
        &["a", "b"],
        vec![
            pod("a1", 3, 2, on("a")),
            pod("a2", 1, 1, on("a")),
            pod("a3", 1, 1, on("a")),
            pod("b1", 5, 3, on("b")),
        ],
    );
    let snapshot = cache.snapshot();
    let (node, victims) = expect_preemption(snapshot, &pod("p", 9, 2, json!({})));
    assert_eq!((node.as_str(), victims.as_slice()), ("a", &["a2".to_owned(), "a3".to_owned()][..]));
    let (node, victims) = expect_preemption(snapshot, &pod("p", 9, 4, json!({})));
    // On both the most important victim goes; that of a is less important.
    assert_eq!((node.as_str(), victims.len()), ("a", 3));
    assert_eq!(victims[0], "a1");
}

#[test]
fn messages_say_why_there_is_no_candidate() {
    let cache = cluster(&["a", "b", "c"], vec![pod("a1", 9, 4, on("a")), pod("b1", 1, 2, on("b"))]);
    let snapshot = cache.snapshot();
    for (pod, expected) in [
        (
            // Too big for every node.
            pod("p", 5, 5, json!({})),
            "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
        ),
        (
            pod("p", 0, 4, json!({"spec": {"nodeSelector": {"kubernetes.io/os": "none"}}})),
            "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
        ),
    ] {
        assert_eq!(expect_no_help(snapshot, &pod), (expected.to_owned(), true));
    }
    let full = cluster(
        &["a", "b", "c"],
        vec![pod("a1", 9, 4, on("a")), pod("b1", 9, 2, on("b")), pod("b2", 1, 2, on("b"))],
    );
    let mut full = full;
    let tainted = json!({"metadata": {"name": "c"},
        "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    full.set_node(Arc::new(serde_json::from_value(tainted).unwrap()));
    let (message, _) = expect_no_help(full.snapshot(), &pod("p", 5, 4, json!({})));
    assert_eq!(
        message,
        "preemption: 0/3 nodes are available: 1 Insufficient cpu, 1 No preemption victims found \
         for incoming pod, 1 Preemption is not helpful for scheduling."
    );
}

#[test]
fn who_may_not_preempt() {
    let never = pod("p", 9, 4, json!({"spec": {"preemptionPolicy": "Never"}}));
    let cache = cluster(&["a"], vec![pod("a1", 1, 2, on("a"))]);
    assert_eq!(
        expect_no_help(cache.snapshot(), &never),
        ("preemption: not eligible due to preemptionPolicy=Never.".to_owned(), false)
    );
    let condition = json!([{"type": "DisruptionTarget", "status": "True",
        "reason": "PreemptionByScheduler"}]);
    let going = |conditions: &Value| {
        let more = json!({"spec": {"nodeName": "a"}, "status": {"conditions": conditions},
            "metadata": {"deletionTimestamp": "2025-01-01T00:00:00Z"}});
        pod("a1", 1, 2, more)
    };
    let preemptor = pod("p", 9, 4, json!({}));
    let mut cache = cluster(&["a", "b"], vec![going(&condition), pod("b1", 1, 2, on("b"))]);
    // Not nominated for that node yet.
    expect_preemption(cache.snapshot(), &preemptor);
    cache.nominate(&preemptor, "a");
    assert_eq!(
        expect_no_help(cache.snapshot(), &preemptor),
        (
            "preemption: not eligible due to a terminating pod on the nominated node.".to_owned(),
            false
        )
    );
    // One that goes for another reason is no reason to wait.
    cache.set_pod(going(&json!([])));
    expect_preemption(cache.snapshot(), &preemptor);
    // Nor is a node that will not do whatever leaves it, or is gone.
    cache.set_pod(going(&condition));
    let unschedulable = json!({"metadata": {"name": "a"}, "spec": {"unschedulable": true}});
    cache.set_node(Arc::new(serde_json::from_value(unschedulable).unwrap()));
    assert_eq!(expect_preemption(cache.snapshot(), &preemptor).0, "b");
    cache.remove_node("a");
    assert_eq!(expect_preemption(cache.snapshot(), &preemptor).0, "b");
}

#[test]
fn budgets_are_kept_where_there_is_a_choice() {
    let labels =
        |node: &str| json!({"metadata": {"labels": {"app": node}}, "spec": {"nodeName": node}});
    let mut cache = cluster(
        &["a", "b"],
        vec![
            pod("a1", 1, 2, labels("a")),
            pod("a2", 1, 2, labels("a")),
            pod("b1", 5, 4, labels("b")),
        ],
    );
    let budget = |app: &str| {
        let object = json!({"metadata": {"name": app, "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": app}}},
            "status": {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0,
                "expectedPods": 0}});
        Object::PodDisruptionBudget(None, Some(Arc::new(serde_json::from_value(object).unwrap())))
    };
    let preemptor = pod("p", 9, 4, json!({}));
    assert_eq!(expect_preemption(cache.snapshot(), &preemptor).0, "a");
    cache.apply(&budget("a"));
    assert_eq!(expect_preemption(cache.snapshot(), &preemptor).0, "b");
    cache.apply(&budget("b"));
    assert_eq!(expect_preemption(cache.snapshot(), &preemptor).0, "b", "one violation, not two");
}

#[test]
fn nominated_pods_keep_their_place_and_lesser_ones_lose_their_nomination() {
    let mut cache = cluster(&["a"], vec![pod("a1", 1, 4, on("a"))]);
    let (peer, lesser) = (pod("peer", 9, 3, json!({})), pod("lesser", 5, 1, json!({})));
    cache.nominate(&lesser, "a");
    let PostFilter::Preempt(found) = try_preempt(cache.snapshot(), &pod("p", 9, 2, json!({})))
    else {
        panic!("a1 can be evicted")
    };
    assert_eq!(found.outranked.len(), 1);
    assert_eq!(found.outranked[0].uid, lesser.uid);
    cache.nominate(&peer, "a");
    let (message, _) = expect_no_help(cache.snapshot(), &pod("p", 9, 2, json!({})));
    assert_eq!(message, "preemption: 0/1 nodes are available: 1 Insufficient cpu.");
}

#[test]
fn the_shortlist_is_bounded_as_upstream() {
    let default = Shortlist::default();
    let sizes = [0, 50, 100, 1000, 2000].map(|nodes| default.size(nodes));
    assert_eq!(sizes, [0, 50, 100, 100, 200]);
    assert_eq!(Shortlist::ALL.size(7), 7);
}

#[test]
fn the_search_ends_with_enough_candidates_of_which_one_is_harmless() {
    let names = ["a", "b", "c", "d"];
    let cache = cluster(&names, names.map(|node| pod(node, 1, 4, on(node))).into());
    let profile = Profile::default_plugins("default-scheduler");
    let pod = pod("p", 9, 4, json!({}));
    let snapshot = cache.snapshot();
    let diagnosis = reference::evaluate(&profile, snapshot, &pod).diagnosis;
    for (random, expected) in [(0, "a"), (2, "c"), (7, "d")] {
        let context = PostFilterContext {
            profile: &profile,
            snapshot,
            pod: &pod,
            diagnosis: &diagnosis,
            random,
        };
        let shortlist = Shortlist { percentage_min: 0, absolute_min: 1 };
        let PostFilter::Preempt(found) = preempt(&context, shortlist, &mut DryRun) else {
            panic!("every node can be freed")
        };
        assert_eq!(&*found.node, expected, "start at {random} of 4");
    }
}

/// A cluster with pods put where they fit or not, waiting pods nominated somewhere, and budgets.
#[derive(Clone, Debug)]
struct Crowd {
    cache: Vec<Arc<k8s_openapi::api::core::v1::Node>>,
    residents: Vec<(k8s_openapi::api::core::v1::Pod, usize)>,
    nominated: Vec<(k8s_openapi::api::core::v1::Pod, usize)>,
    budgets: Vec<(String, i32)>,
}

fn crowd() -> impl Strategy<Value = Crowd> {
    let nodes = vec((0..6).prop_flat_map(|n| testing::node(format!("n{n}"))), 1..6);
    let pods = |prefix: &'static str, count: std::ops::Range<usize>| {
        let pod = (0..12_u8).prop_flat_map(move |n| testing::pod(format!("{prefix}{n}")));
        vec((pod, 0..6_usize), count)
    };
    let app = proptest::sample::select(&["x", "y"][..]).prop_map(str::to_owned);
    (nodes, pods("r", 0..12), pods("w", 0..3), vec((app, 0..3), 0..3)).prop_map(
        |(cache, residents, nominated, budgets)| Crowd { cache, residents, nominated, budgets },
    )
}

impl Crowd {
    fn cache(&self) -> Cache {
        let mut cache = Cache::default();
        self.cache.iter().for_each(|node| cache.set_node(Arc::clone(node)));
        let node = |at: usize| self.cache[at % self.cache.len()].metadata.name.clone().unwrap();
        for (pod, at) in &self.residents {
            cache.set_pod(testing::bound(pod, &node(*at)));
        }
        for (pod, at) in &self.nominated {
            cache.nominate(&Arc::new(PodInfo::new(Arc::new(pod.clone()))), &node(*at));
        }
        for (at, (app, allowed)) in self.budgets.iter().enumerate() {
            let object = json!({"metadata": {"name": at.to_string(), "namespace": "default"},
                "spec": {"selector": {"matchLabels": {"app": app}}},
                "status": {"disruptionsAllowed": allowed, "currentHealthy": 0,
                    "desiredHealthy": 0, "expectedPods": 0}});
            let object = Arc::new(serde_json::from_value(object).unwrap());
            cache.apply(&Object::PodDisruptionBudget(None, Some(object)));
        }
        cache
    }
}

fn fits(what_if: &mut WhatIf, pod: &PodInfo, node: usize) -> bool {
    let profile = Profile::default_plugins("default-scheduler");
    fits_beside_nominated(&profile, what_if, pod, node).is_ok()
}

proptest! {
    #[test]
    fn victims_make_room_are_less_important_and_none_can_stay(
        crowd in crowd(), preemptor in testing::pod("p".to_owned()), priority in 1..4_i32,
    ) {
        let cache = crowd.cache();
        let snapshot = cache.snapshot();
        let mut preemptor = preemptor;
        preemptor.spec.get_or_insert_default().priority = Some(priority);
        let pod = Arc::new(PodInfo::new(Arc::new(preemptor)));
        let profile = Profile::default_plugins("default-scheduler");
        let evaluation = reference::evaluate(&profile, snapshot, &pod);
        prop_assume!(evaluation.best.is_empty());
        let diagnosis = evaluation.diagnosis;
        let context =
            PostFilterContext { profile: &profile, snapshot, pod: &pod, diagnosis: &diagnosis, random: 0 };
        let nodes = diagnosis.resolvable();
        let Candidates { found, refused } = DryRun.candidates(&context, &nodes, nodes.len());
        prop_assert_eq!(found.len() + refused.len(), nodes.len());
        for candidate in &found {
            let node = snapshot.index_of(candidate.node.name()).unwrap();
            prop_assert!(nodes.contains(&node));
            prop_assert!(!candidate.victims.is_empty());
            prop_assert!(candidate.victims.iter().all(|victim| victim.priority < priority));
            let mut what_if = snapshot.what_if();
            for victim in &candidate.victims {
                prop_assert!(what_if.remove(node, &victim.uid));
            }
            prop_assert!(fits(&mut what_if, &pod, node), "the victims make room");
            // Nobody could stay in the end that had to go when it was his turn: this holds of
            // filters that only get worse with more pods.
            if !is_attracted(&pod) {
                for victim in &candidate.victims {
                    what_if.add(node, Arc::clone(victim));
                    prop_assert!(!fits(&mut what_if, &pod, node), "{} can stay", victim.name());
                    what_if.remove(node, &victim.uid);
                }
            }
            let important = |pair: &[Arc<PodInfo>]| importance(&pair[0]) <= importance(&pair[1]);
            prop_assert!(candidate.victims.windows(2).all(important));
        }
        for (node, _) in &refused {
            // Not even with all of them gone.
            let mut what_if = snapshot.what_if();
            let pods = snapshot.nodes()[*node].pods();
            let lesser: Vec<_> = pods.iter().filter(|other| other.priority < priority).collect();
            lesser.iter().for_each(|victim| { what_if.remove(*node, &victim.uid); });
            prop_assert!(lesser.is_empty() || !fits(&mut what_if, &pod, *node));
        }
        // A budget is violated only where there is no other way.
        if let PostFilter::Preempt(chosen) = preempt(&context, Shortlist::ALL, &mut DryRun) {
            let harmless = found.iter().any(|candidate| candidate.pdb_violations == 0);
            prop_assert_eq!(chosen.pdb_violations == 0, harmless);
            let names: Vec<_> =
                best(&found).into_iter().map(|at| Arc::clone(found[at].node.name())).collect();
            prop_assert!(names.contains(&chosen.node));
        } else {
            prop_assert!(found.is_empty());
        }
    }
}

/// Whether some filter may need a pod to be there: spread counts a domain's own pods against
/// others', and affinity asks for company.
fn is_attracted(pod: &PodInfo) -> bool {
    let spec = pod.pod.spec.as_ref().unwrap();
    let spreads = spec.topology_spread_constraints.as_ref().is_some_and(|all| !all.is_empty());
    spreads || spec.affinity.as_ref().is_some_and(|affinity| affinity.pod_affinity.is_some())
}
