#![expect(clippy::needless_pass_by_value, reason = "JSON is passed as it is written")]

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cache::Cache;
use crate::diagnosis::{Diagnosis, Refused};
use crate::framework::{Code, Profile};
use crate::preemption::DryRun;

/// Nodes `a` and `b` with a device each, a class, and these claims.
fn cache(claims: Vec<Value>) -> Cache {
    let mut cache = Cache::default();
    for name in ["a", "b"] {
        let node = json!({"metadata": {"name": name}, "status": {"allocatable": {"pods": "9"}}});
        cache.set_node(Arc::new(serde_json::from_value(node).unwrap()));
        let slice = json!({"metadata": {"name": name}, "spec": {"driver": "d.example.com",
            "nodeName": name, "pool": {"name": name, "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "x"}]}});
        let slice = serde_json::from_value(slice).unwrap();
        cache.apply(&Object::ResourceSlice(None, Some(Arc::new(slice))));
    }
    let class = json!({"metadata": {"name": "gpu"}, "spec": {"config": [
        {"opaque": {"driver": "d.example.com", "parameters": {"share": "no"}}}]}});
    let class = serde_json::from_value(class).unwrap();
    cache.apply(&Object::DeviceClass(None, Some(Arc::new(class))));
    for claim in claims {
        cache.apply(&Object::ResourceClaim(None, Some(Arc::new(from(claim)))));
    }
    cache
}

fn from(claim: Value) -> ResourceClaim {
    serde_json::from_value(claim).unwrap()
}

fn claim(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": {"devices":
        {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}})
}

/// The claim with the device of node `a`.
fn allocated(name: &str, reserved_for: &[&str]) -> Value {
    let mut claim = claim(name);
    let consumers: Vec<Value> = reserved_for
        .iter()
        .map(|uid| json!({"resource": "pods", "name": uid, "uid": uid}))
        .collect();
    claim["status"] = json!({"reservedFor": consumers, "allocation": {"devices": {"results": [
        {"request": "r", "driver": "d.example.com", "pool": "a", "device": "x"}]},
        "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": ["a"]}]}]}}});
    claim
}

/// The pod `default/p` with these claims.
fn pod(claims: Value, statuses: Value) -> PodInfo {
    let object = json!({"metadata": {"name": "p", "namespace": "default", "uid": "p"},
        "spec": {"containers": [], "resourceClaims": claims},
        "status": {"resourceClaimStatuses": statuses}});
    PodInfo::new(Arc::new(serde_json::from_value(object).unwrap()))
}

fn using(names: &[&str]) -> PodInfo {
    let claims = names.iter().map(|name| json!({"name": name, "resourceClaimName": name}));
    pod(Value::Array(claims.collect()), Value::Null)
}

/// What each of the nodes says, or PreFilter.
fn filter(cache: &Cache, pod: &PodInfo) -> Vec<String> {
    filter_by(&DynamicResources::default(), cache, pod)
}

fn filter_by(plugin: &DynamicResources, cache: &Cache, pod: &PodInfo) -> Vec<String> {
    let snapshot = cache.snapshot();
    match plugin.pre_filter(pod, snapshot) {
        PreFilter::Skip => vec!["skip".to_owned()],
        PreFilter::Reject(rejection) => vec![rejection.message()],
        PreFilter::Filter { filter, .. } => {
            let say = |node: &Arc<NodeInfo>| match filter.filter(node) {
                Ok(()) => "ok".to_owned(),
                Err(rejection) => rejection.message(),
            };
            snapshot.nodes().iter().map(say).collect()
        }
    }
}

#[test]
fn claims_must_be_there_and_the_pods_own() {
    let mut deleted = claim("going");
    deleted["metadata"]["deletionTimestamp"] = json!("2025-01-01T00:00:00Z");
    let mut own = claim("own");
    own["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p", "controller": true}]);
    let cache = cache(vec![claim("c"), deleted, own]);
    let template = json!([{"name": "t", "resourceClaimTemplateName": "t"}]);
    let made = |name: Value| json!([{"name": "t", "resourceClaimName": name}]);
    let plugin = DynamicResources::default();
    for (pod, expected) in [
        (pod(Value::Null, Value::Null), None),
        (using(&["c"]), None),
        (using(&["c", "nope"]), Some("resourceclaim.resource.k8s.io \"nope\" not found")),
        (using(&["going"]), Some("resourceclaim \"going\" is being deleted")),
        (
            pod(template.clone(), Value::Null),
            Some("pod \"default/p\": ResourceClaim not created yet"),
        ),
        (pod(template.clone(), made(Value::Null)), None),
        (pod(template.clone(), made(json!("own"))), None),
        (
            pod(template.clone(), made(json!("c"))),
            Some("ResourceClaim default/c was not created for pod default/p (pod is not owner)"),
        ),
        (
            pod(json!([{"name": "x"}]), Value::Null),
            Some(
                "pod \"default/p\", spec.resourceClaim \"x\": none of the supported fields are set",
            ),
        ),
    ] {
        let said = plugin.pre_enqueue(&pod, cache.snapshot()).err().map(|r| r.message());
        assert_eq!(said.as_deref(), expected);
        if let Some(expected) = expected {
            assert_eq!(filter(&cache, &pod), [expected]);
        }
    }
    // Without a claim for the template there is nothing to do.
    assert_eq!(filter(&cache, &pod(template, made(Value::Null))), ["skip"]);
}

#[test]
fn nodes_are_refused_for_devices_they_do_not_have() {
    let mut other = claim("other");
    other["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"] = json!("nope");
    let cache = cache(vec![allocated("held", &[]), claim("c"), claim("d"), other]);
    for (pod, expected) in [
        (using(&["held"]), vec!["ok", "resourceclaim not available on the node"]),
        (using(&["c"]), vec!["cannot allocate all claims", "ok"]),
        (using(&["c", "c"]), vec!["cannot allocate all claims", "ok"]),
        (using(&["c", "d"]), vec!["cannot allocate all claims"; 2]),
        (
            using(&["held", "c"]),
            vec!["cannot allocate all claims", "resourceclaim not available on the node"],
        ),
        (using(&["other"]), vec!["request r: device class nope does not exist"]),
    ] {
        assert_eq!(filter(&cache, &pod), expected);
    }
}

/// What is wrong with a claim, its class or its pool no other node mends: the attempt fails.
#[test]
fn a_claim_that_cannot_be_understood_is_an_error() {
    let mut constrained = claim("constrained");
    let devices = &mut constrained["spec"]["devices"];
    devices["requests"][0]["exactly"]["allocationMode"] = json!("All");
    devices["constraints"] = json!([{"matchAttribute": "d.example.com/nope"}]);
    let mut garbled = claim("garbled");
    garbled["spec"]["devices"]["requests"][0]["exactly"]["selectors"] =
        json!([{"cel": {"expression": "("}}]);
    let cache = cache(vec![constrained, garbled]);
    let nodes = cache.snapshot().nodes();
    for (name, expected) in [
        ("constrained", "cannot add device d.example.com/a/x because a claim constraint would not"),
        ("garbled", "CEL compile error"),
    ] {
        let (plugin, pod) = (DynamicResources::default(), using(&[name]));
        let PreFilter::Filter { filter, .. } = plugin.pre_filter(&pod, cache.snapshot()) else {
            panic!("{name} is not looked at");
        };
        let rejection = filter.filter(&nodes[0]).unwrap_err();
        assert_eq!(rejection.code(), Code::Error, "{name}");
        assert!(rejection.message().contains(expected), "{}", rejection.message());
    }
}

fn reserve(cache: &Cache, pod: &PodInfo, node: &str) -> Vec<Step> {
    let snapshot = cache.snapshot();
    let plugin = DynamicResources::default();
    plugin.reserve(pod, snapshot, snapshot.get(node).unwrap()).unwrap()
}

fn written(steps: &[Step], at: usize) -> Value {
    let Step::WriteClaim { new, .. } = &steps[at] else { panic!("{:?}", steps[at]) };
    serde_json::to_value(&**new).unwrap()
}

#[test]
fn what_is_reserved_is_written_whole() {
    let mut wanted = claim("c");
    wanted["spec"]["devices"]["config"] = json!([
        {"opaque": {"driver": "d.example.com", "parameters": {"for": "all"}}},
        {"requests": ["r"], "opaque": {"driver": "d.example.com", "parameters": {"for": "r"}}},
        {"requests": ["no"], "opaque": {"driver": "d.example.com", "parameters": {"for": "no"}}},
    ]);
    wanted["spec"]["devices"]["requests"][0]["exactly"]["tolerations"] =
        json!([{"operator": "Exists"}]);
    let mut cache = cache(vec![wanted, allocated("held", &["q"])]);
    let pod = using(&["held", "c"]);
    let steps = reserve(&cache, &using(&["c"]), "b");
    assert_eq!(steps.len(), 1);
    let claim = written(&steps, 0);
    assert_eq!(
        claim["metadata"]["finalizers"],
        json!(["resource.kubernetes.io/delete-protection"])
    );
    let opaque =
        |value: &str, key: &str| json!({"driver": "d.example.com", "parameters": {key: value}});
    assert_eq!(
        claim["status"],
        json!({
            "allocation": {
                "devices": {
                    "config": [
                        {"source": "FromClass", "opaque": opaque("no", "share")},
                        {"source": "FromClaim", "opaque": opaque("all", "for")},
                        {"source": "FromClaim", "opaque": opaque("r", "for")},
                    ],
                    "results": [{"request": "r", "driver": "d.example.com", "pool": "b",
                        "device": "x", "tolerations": [{"operator": "Exists"}]}],
                },
                "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [
                    {"key": "metadata.name", "operator": "In", "values": ["b"]}]}]},
            },
            "reservedFor": [{"resource": "pods", "name": "p", "uid": "p"}],
        })
    );
    // A claim that has its devices is only reserved, once.
    let steps = reserve(&cache, &using(&["held"]), "a");
    let claim = written(&steps, 0);
    assert_eq!(claim["metadata"].get("finalizers"), None);
    assert_eq!(claim["status"]["reservedFor"].as_array().unwrap().len(), 2);
    cache.assume_objects(&steps);
    assert!(reserve(&cache, &using(&["held"]), "a").is_empty());
    // What is assumed is taken.
    let steps = reserve(&cache, &using(&["c"]), "b");
    cache.assume_objects(&steps);
    cache.apply(&Object::ResourceClaim(None, Some(Arc::new(from(super::tests::claim("d"))))));
    assert_eq!(filter(&cache, &using(&["d"])), ["cannot allocate all claims"; 2]);
    cache.forget_objects(&steps);
    assert_eq!(filter(&cache, &using(&["d"])), ["cannot allocate all claims", "ok"]);
    assert_eq!(filter(&cache, &pod).len(), 2);
}

#[test]
fn an_assumed_allocation_outlives_the_finalizer() {
    let mut cache = cache(vec![claim("c"), claim("d")]);
    let steps = reserve(&cache, &using(&["c"]), "b");
    cache.assume_objects(&steps);
    let seen = |version: &str, mut claim: Value| {
        claim["metadata"]["resourceVersion"] = json!(version);
        Object::ResourceClaim(None, Some(Arc::new(from(claim))))
    };
    let devices = |cache: &Cache| filter(cache, &using(&["d"]));
    cache.apply(&seen("7", claim("c")));
    assert_eq!(devices(&cache), ["ok", "cannot allocate all claims"]);
    // Written, and then given free.
    cache.apply(&seen("8", written(&steps, 0)));
    assert_eq!(devices(&cache), ["ok", "cannot allocate all claims"]);
    cache.apply(&seen("9", claim("c")));
    assert_eq!(devices(&cache), ["ok", "ok"]);
}

fn post_filter(cache: &Cache, pod: PodInfo, diagnosis: &Diagnosis) -> PostFilter {
    let profile = Profile::default_plugins("default-scheduler");
    let context = PostFilterContext {
        profile: &profile,
        snapshot: cache.snapshot(),
        pod: &Arc::new(pod),
        diagnosis,
        random: 3,
    };
    DynamicResources::default().post_filter(&context, &mut DryRun).unwrap()
}

#[test]
fn idle_claims_that_are_in_the_way_are_given_free() {
    let refused = |node: usize| {
        let rejection = Rejection::unresolvable("resourceclaim not available on the node");
        let refused = Refused { node, plugin: Some(PluginName::DynamicResources), rejection };
        let refused = [refused].into_iter().collect();
        let plugins = [PluginName::DynamicResources].into_iter().collect();
        Diagnosis { node_count: 2, refused, plugins, ..Diagnosis::default() }
    };
    for (reserved_for, node, freed) in [
        (&[][..], 1, true),
        (&["p"], 1, true),
        (&["q"], 1, false),
        (&["p", "q"], 1, false),
        // The node that refused reaches it: something else was wrong.
        (&[], 0, false),
    ] {
        let cache = cache(vec![allocated("held", reserved_for)]);
        match post_filter(&cache, using(&["held"]), &refused(node)) {
            PostFilter::Write(message, steps) => {
                assert!(freed);
                assert_eq!(message, "deallocation of ResourceClaim completed");
                assert_eq!(written(&steps, 0).get("status"), None);
            }
            PostFilter::Unhelped(message) => {
                assert!(!freed);
                assert_eq!(message, "still not schedulable");
            }
            other => panic!("not its business: {other:?}"),
        }
    }
}

#[test]
fn post_filter_says_what_upstream_says() {
    let say =
        |pod: PodInfo, diagnosis: &Diagnosis| match post_filter(&cache(vec![]), pod, diagnosis) {
            PostFilter::Unhelped(message) => (false, message),
            PostFilter::Failed(message) => (true, message),
            other => panic!("not its business: {other:?}"),
        };
    let nodes = Diagnosis { node_count: 2, ..Diagnosis::default() };
    assert_eq!(say(using(&[]), &nodes), (false, "no new claims to deallocate".into()));
    let by = |plugin| Diagnosis::refused_by_pre_filter(2, &[plugin], Rejection::unresolvable("x"));
    let own = by(PluginName::DynamicResources);
    assert_eq!(say(using(&["nope"]), &own), (false, "no new claims to deallocate".into()));
    // Upstream does not get to its state, and ends PostFilter.
    assert_eq!(say(using(&[]), &by(PluginName::VolumeBinding)), (true, "not found".into()));
}

#[test]
fn hints_tell_what_may_help() {
    let cache = cache(vec![claim("c"), claim("d")]);
    let plugin = DynamicResources::default();
    let hint = |pod: &PodInfo, old: Option<Value>, new: Value| {
        let object =
            Object::ResourceClaim(old.map(|old| Arc::new(from(old))), Some(Arc::new(from(new))));
        let event = ClusterEvent::new(Resource::ResourceClaim, Action::UPDATE_OTHER);
        let occurrence = Occurrence { event, subject: Subject::Object(object) };
        plugin.hint(pod, &occurrence, cache.snapshot())
    };
    let pod = using(&["c"]);
    assert_eq!(hint(&pod, None, claim("c")), Hint::Queue);
    assert_eq!(hint(&pod, None, claim("d")), Hint::Skip);
    assert_eq!(hint(&using(&["nope"]), None, claim("c")), Hint::Skip);
    assert_eq!(hint(&pod, Some(claim("c")), allocated("c", &[])), Hint::Queue);
    assert_eq!(hint(&pod, Some(claim("d")), allocated("d", &[])), Hint::Skip);
    assert_eq!(hint(&pod, Some(allocated("d", &[])), claim("d")), Hint::Queue);
    let mut labelled = claim("c");
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(hint(&pod, Some(claim("c")), labelled), Hint::Skip);
    let status = |claims: Value| {
        Subject::Pod(
            None,
            Some(Arc::new(super::tests::pod(
                json!([{"name": "t", "resourceClaimTemplateName": "t"}]),
                claims,
            ))),
        )
    };
    let event = ClusterEvent::new(Resource::TargetPod, Action::UPDATE_POD_GENERATED_RESOURCE_CLAIM);
    for (statuses, expected) in [(json!([{"name": "t"}]), Hint::Queue), (json!([]), Hint::Skip)] {
        let occurrence = Occurrence { event, subject: status(statuses) };
        assert_eq!(plugin.hint(&pod, &occurrence, cache.snapshot()), expected);
    }
}

#[test]
fn earlier_alternatives_score_higher() {
    let mut wanted = claim("c");
    wanted["spec"]["devices"]["requests"] = json!([{"name": "r", "firstAvailable": [
        {"name": "two", "deviceClassName": "gpu", "count": 2},
        {"name": "one", "deviceClassName": "gpu", "count": 1},
    ]}]);
    let mut cache = cache(vec![wanted]);
    let more = json!({"metadata": {"name": "b2"}, "spec": {"driver": "d.example.com",
        "nodeName": "b", "pool": {"name": "b2", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "x"}]}});
    let more = serde_json::from_value(more).unwrap();
    cache.apply(&Object::ResourceSlice(None, Some(Arc::new(more))));
    let (plugin, pod) = (DynamicResources::default(), using(&["c"]));
    let snapshot = cache.snapshot();
    let PreScore::Score(score) = plugin.pre_score(&pod, snapshot, &[0, 1]) else { panic!() };
    let mut scores: Vec<i64> = snapshot.nodes().iter().map(|node| score.score(node)).collect();
    assert_eq!(scores, [7, 8]);
    score.normalize(&mut scores);
    assert_eq!(scores, [87, 100]);
    let steps = reserve(&cache, &pod, "b");
    let results = &written(&steps, 0)["status"]["allocation"]["devices"]["results"];
    assert_eq!(results[0]["request"], "r/two");
    assert_eq!(results.as_array().unwrap().len(), 2);
}

/// The pod asks for so many of a resource that devices stand for.
fn asking(amount: u32) -> PodInfo {
    let requests = json!({"example.com/gpu": amount.to_string()});
    let object = json!({"metadata": {"name": "p", "namespace": "default", "uid": "p-0-1"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
    PodInfo::new(Arc::new(serde_json::from_value(object).unwrap()))
}

/// As [`cache`], with a class that stands for `example.com/gpu`; node `b` has that itself.
fn cache_with_extended_resource() -> Cache {
    let mut cache = cache(vec![]);
    let class =
        json!({"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": "example.com/gpu"}});
    cache.apply(&Object::DeviceClass(None, Some(Arc::new(serde_json::from_value(class).unwrap()))));
    let node = json!({"metadata": {"name": "b"},
        "status": {"allocatable": {"pods": "9", "example.com/gpu": "4"}}});
    cache.set_node(Arc::new(serde_json::from_value(node).unwrap()));
    cache
}

#[test]
fn devices_stand_for_extended_resources_where_nodes_have_none() {
    let mut cache = cache_with_extended_resource();
    assert_eq!(filter(&cache, &asking(1)), ["ok", "ok"]);
    assert_eq!(filter(&cache, &asking(2)), ["cannot allocate all claims", "ok"]);
    assert_eq!(reserve(&cache, &asking(1), "b").len(), 0);
    let steps = reserve(&cache, &asking(1), "a");
    let [Step::CreateClaim { claim, mappings }] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!(mappings[0].request_name, "container-0-request-0");
    assert_eq!(claim.metadata.name.as_deref(), Some("p-extended-resources-10p"));
    assert_eq!(claim::reserved_for(claim)[0].uid, "p-0-1");
    assert!(claim::allocation(claim).is_some());
    // As soon as it is decided, the device is not had again, also when the claim is seen before its
    // status; and it is given free with the claim.
    let mut objects = cache.snapshot().objects().clone();
    steps[0].assume(&mut objects);
    let mut seen = ResourceClaim::clone(claim);
    (seen.metadata.uid, seen.status) = (Some("u".to_owned()), None);
    objects.apply(&Object::ResourceClaim(None, Some(Arc::new(seen.clone()))));
    assert!(Ledger::new(&objects).is_taken(0));
    seen.status.clone_from(&claim.status);
    objects.apply(&Object::ResourceClaim(None, Some(Arc::new(seen.clone()))));
    assert!(Ledger::new(&objects).is_taken(0));
    objects.apply(&Object::ResourceClaim(Some(Arc::new(seen.clone())), None));
    assert!(!Ledger::new(&objects).is_taken(0));
    // What an earlier attempt has left behind is deleted first.
    cache.apply(&Object::ResourceClaim(None, Some(Arc::new(seen))));
    let stale = "cannot schedule extended resource claim";
    assert_eq!(filter(&cache, &asking(1)), [stale, stale]);
    let PostFilter::Write(message, steps) = post_filter(&cache, asking(1), &Diagnosis::default())
    else {
        panic!("nothing is written")
    };
    assert_eq!(message.as_ref(), "deletion of ResourceClaim completed");
    assert!(matches!(steps.as_slice(), [Step::DeleteClaim { .. }]));
}

#[test]
fn classes_stand_for_resources_by_name_and_the_newest_wins() {
    let class = |name: &str, created: &str| {
        let class = json!({"metadata": {"name": name, "creationTimestamp": created},
            "spec": {"extendedResourceName": "example.com/gpu"}});
        Object::DeviceClass(None, Some(Arc::new(serde_json::from_value(class).unwrap())))
    };
    let mut objects = Objects::default();
    let asked = |objects: &Objects, name: &str| {
        let requests = pintle_api::resources::Resources {
            scalar: [(name.to_owned(), 1)].into(),
            ..Default::default()
        };
        let class = objects.classes_asked_for(&requests).next();
        class.and_then(|(_, class)| class.metadata.name.clone())
    };
    assert_eq!(asked(&objects, "example.com/gpu"), None);
    for (name, created, expected) in [
        ("b", "2025-01-01T00:00:00Z", "b"),
        ("c", "2025-01-01T00:00:00Z", "b"),
        ("a", "2024-01-01T00:00:00Z", "b"),
        ("d", "2025-01-02T00:00:00Z", "d"),
    ] {
        objects.apply(&class(name, created));
        assert_eq!(asked(&objects, "example.com/gpu").as_deref(), Some(expected));
    }
    let implied = "deviceclass.resource.kubernetes.io/a";
    assert_eq!(asked(&objects, implied).as_deref(), Some("a"));
    assert_eq!(asked(&objects, "deviceclass.resource.kubernetes.io/z"), None);
}

/// A pod that uses the claim.
fn user_of(claim: &ResourceClaim) -> PodInfo {
    let object = json!({"metadata": {"name": "p", "namespace": claim.metadata.namespace, "uid": "p"},
        "spec": {"containers": [], "resourceClaims": [
            {"name": "c", "resourceClaimName": claim.metadata.name}]}});
    PodInfo::new(Arc::new(serde_json::from_value(object).unwrap()))
}

proptest! {
    #![proptest_config(crate::testing::clusters(100))]

    #[test]
    fn what_is_kept_says_what_is_found_anew(
        steps in vec((crate::testing::device(), prop::bool::weighted(0.1)), 1..60),
        is_local in any::<bool>(),
    ) {
        let kept = DynamicResources::default();
        let mut cache = Cache::default();
        for name in 0..6 {
            let zone = ["a", "b"][name % 2];
            let node = json!({"metadata": {"name": format!("n{name}"), "labels": {"zone": zone}}});
            cache.set_node(Arc::new(serde_json::from_value(node).unwrap()));
        }
        for (object, is_gone) in steps {
            match object {
                // Where every slice is one node's, answers are kept.
                Object::ResourceSlice(_, Some(slice))
                    if is_local && (slice.spec.node_name.is_none()
                        || slice.spec.shared_counters.is_some()) => {}
                Object::ResourceClaim(_, Some(claim)) if is_gone => {
                    cache.apply(&Object::ResourceClaim(Some(claim), None));
                }
                object => cache.apply(&object),
            }
            let claims: Vec<_> = cache.snapshot().objects().resource_claims.iter().cloned().collect();
            for pod in claims.iter().map(|claim| user_of(claim)).chain([asking(1)]) {
                let anew = filter_by(&DynamicResources::default(), &cache, &pod);
                prop_assert_eq!(filter_by(&kept, &cache, &pod), anew);
            }
        }
    }
}
