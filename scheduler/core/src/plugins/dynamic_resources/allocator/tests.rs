//! The search against a model that tries every assignment, and a table of what it says.

#![expect(clippy::needless_pass_by_value, reason = "JSON is passed as it is written")]

use std::sync::Arc;

use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::*;
use crate::cache::{Lister, Object, Objects};

fn objects(classes: Vec<Value>, slices: Vec<Value>, claims: Vec<Value>) -> Objects {
    let mut objects = Objects::default();
    for class in classes {
        let class: DeviceClass = serde_json::from_value(class).unwrap();
        objects.apply(&Object::DeviceClass(None, Some(Arc::new(class))));
    }
    for slice in slices {
        let slice: ResourceSlice = serde_json::from_value(slice).unwrap();
        objects.apply(&Object::ResourceSlice(None, Some(Arc::new(slice))));
    }
    for (at, mut claim) in claims.into_iter().enumerate() {
        claim["metadata"] = json!({"name": format!("c{at}"), "namespace": "default"});
        let claim: ResourceClaim = serde_json::from_value(claim).unwrap();
        objects.apply(&Object::ResourceClaim(None, Some(Arc::new(claim))));
    }
    objects
}

fn node(name: &str) -> Node {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"zone": "a"}}})).unwrap()
}

/// Runs the allocator for all claims that have no devices yet.
fn allocate<R>(
    objects: &Objects,
    act: impl FnOnce(Result<Vec<Solution<'_>>, NoSolution>) -> R,
) -> R {
    let (selectors, ledger) = (Selectors::default(), Ledger::new(objects));
    let wanted = objects.resource_claims.iter().filter(|c| claim::allocation(c).is_none());
    let plan = |claim| ClaimPlan::new(claim, &objects.device_classes, &ledger).unwrap();
    let claims: Vec<ClaimPlan> = wanted.map(plan).collect();
    let claims: Vec<&ClaimPlan> = claims.iter().collect();
    let allocator = Allocator { ledger: &ledger, selectors: &selectors };
    act(allocator.allocate(&claims, &node("n")))
}

/// `REQUEST=DEVICE...` of each claim, or why not.
fn found(objects: &Objects) -> Result<Vec<String>, String> {
    allocate(objects, |found| {
        let of_claim = |solution: &Solution<'_>| {
            let device = |chosen: &Chosen<'_>| {
                format!("{}={}", chosen.request.full_name, chosen.candidate.id.2)
            };
            solution.devices.iter().map(device).collect::<Vec<_>>().join(" ")
        };
        found
            .map(|found| found.iter().map(of_claim).collect())
            .map_err(|error| Rejection::from(error).message())
    })
}

fn class(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {}})
}

fn slice(name: &str, pool: &str, generation: i64, count: i64, devices: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"driver": "d.example.com", "nodeName": "n",
        "pool": {"name": pool, "generation": generation, "resourceSliceCount": count},
        "devices": devices}})
}

fn claim_of(requests: Value) -> Value {
    json!({"spec": {"devices": {"requests": requests}}})
}

fn exactly(name: &str, more: Value) -> Value {
    let mut exactly = json!({"deviceClassName": "gpu"});
    exactly.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"name": name, "exactly": exactly})
}

#[test]
fn pools_are_taken_as_upstream_takes_them() {
    let one = |requests: Value, slices: Vec<Value>| {
        found(&objects(vec![class("gpu")], slices, vec![claim_of(requests)]))
    };
    let any = json!([exactly("r", json!({}))]);
    let all = json!([exactly("r", json!({"allocationMode": "All"}))]);
    let ok = |devices: &str| Ok(vec![devices.to_owned()]);
    let error = |message: &str| Err(message.to_owned());
    let old = slice("a-old", "p", 1, 1, json!([{"name": "x"}]));
    let new = slice("b-new", "p", 2, 1, json!([{"name": "y"}]));
    assert_eq!(one(any.clone(), vec![old, new]), ok("r=y"));
    let half = slice("a", "p", 1, 2, json!([{"name": "x"}]));
    assert_eq!(one(any.clone(), vec![half.clone()]), error("cannot allocate all claims"));
    assert_eq!(
        one(all.clone(), vec![half.clone()]),
        error(
            "claim default/c0, request r: asks for all devices, but resource pool d.example.com/p \
             is currently being updated"
        )
    );
    let other = slice("b", "q", 1, 1, json!([{"name": "z"}]));
    assert_eq!(one(any.clone(), vec![half, other.clone()]), ok("r=z"));
    let twice = slice("a", "p", 1, 1, json!([{"name": "x"}, {"name": "x"}]));
    assert_eq!(
        one(any.clone(), vec![twice.clone()]),
        error("invalid resource pools were encountered")
    );
    assert_eq!(
        one(all.clone(), vec![twice]),
        error(
            "claim default/c0, request r: asks for all devices, but resource pool d.example.com/p \
             is currently invalid"
        )
    );
    assert_eq!(one(all.clone(), vec![]), error("cannot allocate all claims"));
    // A slice of another node makes the pool whole, but its devices are out of reach.
    let mut elsewhere = slice("b", "p", 1, 2, json!([{"name": "far"}]));
    elsewhere["spec"]["nodeName"] = json!("other");
    let near = slice("a", "p", 1, 2, json!([{"name": "near"}]));
    assert_eq!(one(all.clone(), vec![near, elsewhere]), ok("r=near"));
    for (field, value, reached) in [
        ("allNodes", json!(true), true),
        ("allNodes", json!(false), false),
        ("perDeviceNodeSelection", json!(true), false),
        (
            "nodeSelector",
            json!({"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "zone", "operator": "In", "values": ["a"]}]}]}),
            true,
        ),
        (
            "nodeSelector",
            json!({"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "zone", "operator": "In", "values": ["b"]}]}]}),
            false,
        ),
    ] {
        let mut shared = slice("a", "p", 1, 1, json!([{"name": "x"}]));
        shared["spec"].as_object_mut().unwrap().remove("nodeName");
        shared["spec"][field] = value;
        assert_eq!(one(any.clone(), vec![shared]).is_ok(), reached, "{field}");
    }
}

#[test]
fn devices_that_cannot_be_had_are_passed_over() {
    let one = |device: Value, request: Value| {
        let slice = slice("a", "p", 1, 1, json!([device, {"name": "z"}]));
        let claim = claim_of(json!([exactly("r", request)]));
        found(&objects(vec![class("gpu")], vec![slice], vec![claim])).unwrap().remove(0)
    };
    let taint = |effect: &str| json!({"name": "a", "taints": [{"key": "k", "effect": effect}]});
    assert_eq!(one(taint("NoSchedule"), json!({})), "r=z");
    assert_eq!(one(taint("NoExecute"), json!({})), "r=z");
    assert_eq!(one(taint("None"), json!({})), "r=a");
    for (toleration, expected) in [
        (json!({"operator": "Exists"}), "r=a"),
        (json!({"operator": "Exists", "key": "other"}), "r=z"),
        (json!({"operator": "Equal", "key": "k", "effect": "NoSchedule"}), "r=a"),
        (json!({"key": "k", "value": "v"}), "r=z"),
        (json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}), "r=z"),
        (json!({"key": "k", "operator": "Nope"}), "r=z"),
    ] {
        let tolerations = json!({"tolerations": [toleration]});
        assert_eq!(one(taint("NoSchedule"), tolerations), expected);
    }
    assert_eq!(one(json!({"name": "a", "bindingConditions": ["Ready"]}), json!({})), "r=z");
}

/// A pool `p` of a slice with counters `x` and `y` of a set, and one with these devices, each with what it
/// consumes of the two.
fn partitioned(amounts: [u32; 2], devices: &[(&str, u32, u32)]) -> Vec<Value> {
    let [x, y] = amounts.map(|amount| json!({"value": amount.to_string()}));
    let mut counters = slice("counters", "p", 1, 2, Value::Null);
    counters["spec"]["sharedCounters"] = json!([{"name": "s", "counters": {"x": x, "y": y}}]);
    let device = |(name, x, y): &(&str, u32, u32)| {
        let [x, y] = [x, y].map(|amount| json!({"value": amount.to_string()}));
        json!({"name": name, "consumesCounters": [
            {"counterSet": "s", "counters": {"x": x, "y": y}}]})
    };
    let devices: Vec<Value> = devices.iter().map(device).collect();
    vec![counters, slice("devices", "p", 1, 2, json!(devices))]
}

fn held(pool: &str, device: &str) -> Value {
    json!({"spec": {}, "status": {"allocation": {"devices": {"results": [{"request": "r",
        "driver": "d.example.com", "pool": pool, "device": device}]}}}})
}

#[test]
fn devices_share_the_counters_of_their_pool() {
    let run = |amounts, devices: &[(&str, u32, u32)], count: u32, held: Vec<Value>| {
        let wanted = claim_of(json!([exactly("r", json!({"count": count}))]));
        let claims = held.into_iter().chain([wanted]).collect();
        found(&objects(vec![class("gpu")], partitioned(amounts, devices), claims))
            .map(|found| found[0].clone())
    };
    let refused = || Err("cannot allocate all claims".to_owned());
    let parts = [("whole", 2, 2), ("left", 1, 1), ("right", 1, 1)];
    assert_eq!(run([2, 2], &parts, 1, vec![]), Ok("r=whole".to_owned()));
    // The first choice leaves nothing for a second: it is taken back.
    assert_eq!(run([2, 2], &parts, 2, vec![]), Ok("r=left r=right".to_owned()));
    assert_eq!(run([2, 2], &parts, 3, vec![]), refused());
    assert_eq!(run([2, 2], &parts, 1, vec![held("p", "left")]), Ok("r=right".to_owned()));
    assert_eq!(run([2, 2], &parts, 1, vec![held("p", "whole")]), refused());
    // More is taken than there is: a driver's mistake, and nothing else can be had.
    assert_eq!(run([1, 9], &parts, 1, vec![held("p", "whole")]), refused());
    // A counter that is not there makes the pool invalid.
    let mut broken = partitioned([2, 2], &parts);
    broken[0]["spec"]["sharedCounters"][0]["counters"] = json!({"x": {"value": "2"}});
    let wanted = claim_of(json!([exactly("r", json!({}))]));
    assert_eq!(
        found(&objects(vec![class("gpu")], broken, vec![wanted])),
        Err("invalid resource pools were encountered".to_owned())
    );
}

#[test]
fn devices_that_may_be_shared_are_until_their_capacity_is_used_up() {
    let device = json!({"name": "x", "allowMultipleAllocations": true, "capacity": {"memory":
        {"value": "80Gi", "requestPolicy": {"default": "1Gi", "validRange": {"min": "1Gi"}}}}});
    let wanting = |amount: &str| json!({"capacity": {"requests": {"memory": amount}}});
    let share = |amount: &str| {
        let mut claim = held("p", "x");
        let result = &mut claim["status"]["allocation"]["devices"]["results"][0];
        result["shareID"] = json!("00000000-0000-4000-8000-000000000000");
        result["consumedCapacity"] = json!({"memory": amount});
        claim
    };
    let run = |holder: Option<Value>, requests: Value| {
        let slice = slice("a", "p", 1, 1, json!([device.clone(), {"name": "y"}]));
        let claims = holder.into_iter().chain([claim_of(requests)]).collect();
        found(&objects(vec![class("gpu")], vec![slice], claims)).map(|found| found[0].clone())
    };
    let two = |amount: &str| json!([exactly("a", wanting(amount)), exactly("b", wanting(amount))]);
    assert_eq!(run(None, two("40Gi")), Ok("a=x b=x".to_owned()));
    // The other device has no such capacity.
    assert!(run(None, two("41Gi")).is_err());
    let one = |amount: &str| json!([exactly("a", wanting(amount))]);
    assert_eq!(run(Some(share("40Gi")), one("40Gi")), Ok("a=x".to_owned()));
    assert!(run(Some(share("41Gi")), one("40Gi")).is_err());
    assert_eq!(run(Some(share("80Gi")), json!([exactly("a", json!({}))])), Ok("a=y".to_owned()));
    // Whoever has it without a share has all of it.
    assert!(run(Some(held("p", "x")), one("1Gi")).is_err());
    let twice = json!([exactly("a", json!({"count": 2}))]);
    assert_eq!(run(None, twice), Ok("a=x a=x".to_owned()));
}

#[test]
fn rules_taint_devices() {
    let rule = |selector: Value, effect: &str| {
        let rule = json!({"metadata": {"name": "r"}, "spec": {"deviceSelector": selector,
            "taint": {"key": "k", "value": "v", "effect": effect}}});
        let rule = serde_json::from_value(rule).unwrap();
        Object::DeviceTaintRule(None, Some(Arc::new(rule)))
    };
    let run = |rule: Object, request: Value| {
        let slice = slice("a", "p", 1, 1, json!([{"name": "x"}, {"name": "y"}]));
        let claim = claim_of(json!([exactly("r", request)]));
        let mut objects = objects(vec![class("gpu")], vec![slice], vec![claim]);
        objects.apply(&rule);
        found(&objects).map_or_else(|error| error, |found| found[0].clone())
    };
    let refused = "cannot allocate all claims";
    for (selector, expected) in [
        (json!(null), refused),
        (json!({}), refused),
        (json!({"driver": "d.example.com"}), refused),
        (json!({"driver": "other.example.com"}), "r=x"),
        (json!({"pool": "p", "device": "x"}), "r=y"),
        (json!({"pool": "q"}), "r=x"),
    ] {
        assert_eq!(run(rule(selector.clone(), "NoSchedule"), json!({})), expected, "{selector}");
    }
    let tolerating = json!({"tolerations": [{"key": "k", "operator": "Exists"}]});
    assert_eq!(run(rule(json!(null), "NoExecute"), tolerating), "r=x");
    assert_eq!(run(rule(json!(null), "None"), json!({})), "r=x");
}

#[test]
fn devices_may_choose_their_nodes_themselves() {
    let selector = |zone: &str| {
        json!({"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "zone", "operator": "In", "values": [zone]}]}]})
    };
    let mut shared = slice(
        "a",
        "p",
        1,
        1,
        json!([
            {"name": "far", "nodeName": "other"},
            {"name": "away", "nodeSelector": selector("b")},
            {"name": "near", "nodeName": "n"},
            {"name": "zonal", "nodeSelector": selector("a")},
            {"name": "everywhere", "allNodes": true},
        ]),
    );
    shared["spec"].as_object_mut().unwrap().remove("nodeName");
    shared["spec"]["perDeviceNodeSelection"] = json!(true);
    let all = claim_of(json!([exactly("r", json!({"allocationMode": "All"}))]));
    assert_eq!(
        found(&objects(vec![class("gpu")], vec![shared], vec![all])),
        Ok(vec!["r=near r=zonal r=everywhere".to_owned()])
    );
}

#[test]
fn devices_can_be_wanted_apart() {
    let device =
        |name: &str, numa: i64| json!({"name": name, "attributes": {"numa": {"int": numa}}});
    let run = |count: u32| {
        let devices = json!([device("a", 0), device("b", 0), device("c", 1), {"name": "none"}]);
        let mut claim = claim_of(json!([exactly("r", json!({"count": count}))]));
        claim["spec"]["devices"]["constraints"] =
            json!([{"distinctAttribute": "d.example.com/numa"}]);
        let slices = vec![slice("a", "p", 1, 1, devices)];
        found(&objects(vec![class("gpu")], slices, vec![claim])).map(|found| found[0].clone())
    };
    assert_eq!(run(2), Ok("r=a r=c".to_owned()));
    assert!(run(3).is_err());
}

#[test]
fn what_is_in_use_is_not_had_again_but_by_administrators() {
    let devices = json!([{"name": "a"}, {"name": "b"}]);
    let holder = |admin: Value| {
        json!({"spec": {}, "status": {"allocation": {"devices": {"results": [{"request": "r",
            "driver": "d.example.com", "pool": "p", "device": "a", "adminAccess": admin}]}}}})
    };
    let one = |holder: Value, request: Value| {
        let slice = slice("a", "p", 1, 1, devices.clone());
        let claims = vec![holder, claim_of(json!([exactly("r", request)]))];
        found(&objects(vec![class("gpu")], vec![slice], claims)).map(|found| found[0].clone())
    };
    assert_eq!(one(holder(json!(null)), json!({})).unwrap(), "r=b");
    assert_eq!(one(holder(json!(true)), json!({})).unwrap(), "r=a");
    assert!(one(holder(json!(null)), json!({"count": 2})).is_err());
    assert!(one(holder(json!(null)), json!({"allocationMode": "All"})).is_err());
    let admin = json!({"count": 2, "adminAccess": true});
    assert_eq!(one(holder(json!(null)), admin).unwrap(), "r=a r=b");
    // Not twice in the same claim.
    assert!(one(holder(json!(null)), json!({"count": 3, "adminAccess": true})).is_err());
}

#[test]
fn what_makes_no_sense_is_refused_with_upstreams_words() {
    let selectors = |expression: &str| json!({"selectors": [{"cel": {"expression": expression}}]});
    let none = Lister::default();
    let known = objects(vec![class("gpu")], vec![], vec![]).device_classes;
    for (spec, expected) in [
        (
            json!({"requests": [exactly("r", json!({"count": 33}))]}),
            "claim default/c: number of requested devices 33 exceeds the claim limit of 32",
        ),
        (
            json!({"requests": [exactly("r", json!({"allocationMode": "Some"}))]}),
            "claim default/c, request r: unsupported count mode Some",
        ),
        (
            json!({"requests": [{"name": "r"}]}),
            "resource claim default/c, request r: unknown request type",
        ),
        (
            json!({"requests": [{"name": "r", "firstAvailable": [{"name": "s", "deviceClassName": "x"}]}]}),
            "request r/s: device class x does not exist",
        ),
        (
            json!({"requests": [{"name": "r", "exactly": {"deviceClassName": ""}}]}),
            "request r: unsupported request type",
        ),
        (
            json!({"requests": [exactly("r", json!({"selectors": [{}]}))]}),
            "claim default/c, request r, selector #0: CEL expression empty (unsupported selector type?)",
        ),
        (
            json!({"requests": [exactly("r", json!({}))], "constraints": [{"requests": ["r"]}]}),
            "claim default/c, constraint #0: empty constraint (unsupported constraint type?)",
        ),
    ] {
        let claim: ResourceClaim = serde_json::from_value(json!({
            "metadata": {"name": "c", "namespace": "default"}, "spec": {"devices": spec}}))
        .unwrap();
        let ledger = Ledger::new(&Objects::default());
        assert_eq!(
            ClaimPlan::new(&Arc::new(claim.clone()), &known, &ledger).unwrap_err(),
            expected
        );
        assert!(ClaimPlan::new(&Arc::new(claim), &none, &ledger).is_err());
    }
    let devices = json!([{"name": "x", "attributes": {"n": {"int": 1}}}]);
    let slices = || vec![slice("a", "p", 1, 1, devices.clone())];
    let run = |class: Value, request: Value| {
        found(&objects(vec![class], slices(), vec![claim_of(json!([request]))])).unwrap_err()
    };
    let bad =
        run(class("gpu"), exactly("r", selectors("device.attributes['d.example.com'].m == 1")));
    assert_eq!(
        bad,
        "claim default/c0: selector #0 on device d.example.com/p/x: CEL runtime error: no such key: m"
    );
    let bad = run(class("gpu"), exactly("r", selectors("(")));
    assert!(
        bad.starts_with("claim default/c0: selector #0: CEL compile error: compilation failed")
    );
    let mut broken = class("gpu");
    broken["spec"] = selectors("1 + 1");
    assert_eq!(
        run(broken, exactly("r", json!({}))),
        "class gpu: selector #0 on device d.example.com/p/x: CEL runtime error: CEL result of type \
         int could not be converted to bool: type conversion error from 'int' to 'bool'"
    );
    let together = json!({"spec": {"devices": {"requests": [exactly("r", json!({"allocationMode":
        "All"}))], "constraints": [{"matchAttribute": "d.example.com/nope"}]}}});
    assert_eq!(
        found(&objects(vec![class("gpu")], slices(), vec![together])).unwrap_err(),
        "claim default/c0, request r: cannot add device d.example.com/p/x because a claim \
         constraint would not be satisfied"
    );
}

#[test]
fn a_search_without_end_is_given_up() {
    // 40 devices, each of its own kind, and 31 of one kind are wanted, twice.
    let device =
        |n: usize| json!({"name": format!("x{n:02}"), "attributes": {"n": {"int": n / 15}}});
    let devices: Vec<Value> = (0..40).map(device).collect();
    let claim = json!({"spec": {"devices": {"requests": [exactly("r", json!({"count": 16}))],
        "constraints": [{"matchAttribute": "d.example.com/n"}]}}});
    let slices = vec![slice("a", "p", 1, 1, json!(devices))];
    let started = std::time::Instant::now();
    let error = found(&objects(vec![class("gpu")], slices, vec![claim])).unwrap_err();
    assert_eq!(error, "timed out trying to allocate devices");
    assert!(started.elapsed().as_secs() < 20);
}

/// A device of the random inventory.
#[derive(Clone, Debug)]
struct ModelDevice {
    kind: Option<i64>,
    numa: Option<i64>,
    is_tainted: bool,
    is_taken: bool,
    /// Of its pool's counter.
    consumes: u32,
}

#[derive(Clone, Debug)]
struct ModelAlternative {
    /// `None`: all.
    count: Option<usize>,
    kind: Option<i64>,
    tolerates: bool,
    admin: bool,
}

#[derive(Clone, Debug)]
struct ModelClaim {
    /// Alternatives; one is written as `exactly`.
    requests: Vec<Vec<ModelAlternative>>,
    /// The requests that must have the same `numa`; none: all.
    same_numa: Option<Vec<usize>>,
}

fn model_device() -> impl Strategy<Value = ModelDevice> {
    let value = || option::weighted(0.8, 0..2_i64);
    let rarely = || prop::bool::weighted(0.2);
    let consumes = prop_oneof![2 => Just(0), 1 => 1..3_u32];
    (value(), value(), rarely(), rarely(), consumes).prop_map(
        |(kind, numa, is_tainted, is_taken, consumes)| ModelDevice {
            kind,
            numa,
            is_tainted,
            is_taken,
            consumes,
        },
    )
}

fn model_alternative() -> impl Strategy<Value = ModelAlternative> {
    let count = prop_oneof![4 => (1..3_usize).prop_map(Some), 1 => Just(None)];
    (count, option::of(0..2_i64), any::<bool>(), prop::bool::weighted(0.15)).prop_map(
        |(count, kind, tolerates, admin)| ModelAlternative { count, kind, tolerates, admin },
    )
}

fn model_claim() -> impl Strategy<Value = ModelClaim> {
    let request = vec(model_alternative(), 1..3);
    (vec(request, 1..3), option::weighted(0.4, vec(0..2_usize, 0..2)))
        .prop_map(|(requests, same_numa)| ModelClaim { requests, same_numa })
}

impl ModelClaim {
    fn to_json(&self) -> Value {
        let requests = self.requests.iter().enumerate().map(|(at, alternatives)| {
            let fields = |a: &ModelAlternative| {
                let mut fields = json!({"deviceClassName": "gpu"});
                match a.count {
                    Some(count) => fields["count"] = json!(count),
                    None => fields["allocationMode"] = json!("All"),
                }
                if let Some(kind) = a.kind {
                    let expression = format!(
                        "has(device.attributes['d.example.com'].kind) && \
                         device.attributes['d.example.com'].kind == {kind}"
                    );
                    fields["selectors"] = json!([{"cel": {"expression": expression}}]);
                }
                if a.tolerates {
                    fields["tolerations"] = json!([{"operator": "Exists"}]);
                }
                fields
            };
            match alternatives.as_slice() {
                [one] => {
                    let mut exactly = fields(one);
                    exactly["adminAccess"] = json!(one.admin);
                    json!({"name": format!("r{at}"), "exactly": exactly})
                }
                many => {
                    let many = many.iter().enumerate().map(|(n, alternative)| {
                        let mut listed = fields(alternative);
                        listed["name"] = json!(format!("s{n}"));
                        listed
                    });
                    let many: Vec<Value> = many.collect();
                    json!({"name": format!("r{at}"), "firstAvailable": many})
                }
            }
        });
        let requests: Vec<Value> = requests.collect();
        let mut devices = json!({"requests": requests});
        if let Some(requests) = &self.same_numa {
            let names: Vec<String> = requests.iter().map(|at| format!("r{at}")).collect();
            devices["constraints"] =
                json!([{"matchAttribute": "d.example.com/numa", "requests": names}]);
        }
        json!({"spec": {"devices": devices}})
    }
}

/// One way to satisfy everything: of each claim and request the alternative and the devices.
type Assignment = Vec<Vec<(usize, Vec<usize>)>>;

/// Whether the alternatives of a request count as with admin access: only `exactly` has it.
fn is_admin(request: &[ModelAlternative], alternative: usize) -> bool {
    request.len() == 1 && request[alternative].admin
}

/// The devices, those of two pools from some on, and how much of a counter each pool has.
#[derive(Clone, Debug)]
struct ModelInventory {
    devices: Vec<ModelDevice>,
    split: usize,
    amounts: [u32; 2],
}

impl ModelInventory {
    fn pool_of(&self, device: usize) -> usize {
        usize::from(device >= self.split)
    }

    /// Whether the pools' counters are enough for these devices and those that are taken.
    fn has_counters_for(&self, chosen: &[usize]) -> bool {
        (0..2).all(|pool| {
            let of_pool = |device: &usize| self.pool_of(*device) == pool;
            let consumed = |device: usize| self.devices[device].consumes;
            let taken = (0..self.devices.len()).filter(|device| self.devices[*device].is_taken);
            let taken: u32 = taken.filter(of_pool).map(consumed).sum();
            let own: u32 = chosen.iter().copied().filter(of_pool).map(consumed).sum();
            own == 0 || taken + own <= self.amounts[pool]
        })
    }
}

fn is_valid(inventory: &ModelInventory, claims: &[ModelClaim], assignment: &Assignment) -> bool {
    let devices = &inventory.devices;
    let chosen: Vec<usize> =
        assignment.iter().flatten().flat_map(|(_, devices)| devices).copied().collect();
    if !inventory.has_counters_for(&chosen) {
        return false;
    }
    let mut taken: Vec<usize> = Vec::new();
    for (claim, chosen) in claims.iter().zip(assignment) {
        let mut in_claim: Vec<usize> = Vec::new();
        let mut numa: Vec<Option<i64>> = Vec::new();
        for (at, (alternative, these)) in chosen.iter().enumerate() {
            let wanted = &claim.requests[at][*alternative];
            for device in these {
                let it = &devices[*device];
                if is_admin(&claim.requests[at], *alternative) {
                    // Upstream lets an administrator have what other claims have or get.
                    if in_claim.contains(device) {
                        return false;
                    }
                } else if it.is_taken || taken.contains(device) || in_claim.contains(device) {
                    return false;
                }
                if it.is_tainted && !wanted.tolerates {
                    return false;
                }
                in_claim.push(*device);
                let concerned =
                    claim.same_numa.as_ref().is_some_and(|r| r.is_empty() || r.contains(&at));
                if concerned {
                    numa.push(it.numa);
                }
            }
        }
        if numa.iter().any(|value| value.is_none() || *value != numa[0]) {
            return false;
        }
        taken.extend(in_claim);
    }
    true
}

/// The first valid assignment in the order in which the allocator tries them.
fn first_valid(inventory: &ModelInventory, claims: &[ModelClaim]) -> Option<Assignment> {
    fn go(
        inventory: &ModelInventory,
        claims: &[ModelClaim],
        so_far: &mut Assignment,
    ) -> Option<Assignment> {
        let claim = so_far.len() - 1;
        let request = so_far[claim].len();
        if request == claims[claim].requests.len() {
            if claim + 1 == claims.len() {
                return is_valid(inventory, claims, so_far).then(|| so_far.clone());
            }
            so_far.push(Vec::new());
            let found = go(inventory, claims, so_far);
            so_far.pop();
            return found;
        }
        for (at, alternative) in claims[claim].requests[request].iter().enumerate() {
            let devices = &inventory.devices;
            let matching: Vec<usize> = (0..devices.len())
                .filter(|d| alternative.kind.is_none() || devices[*d].kind == alternative.kind)
                .collect();
            let sets = match alternative.count {
                Some(count) => combinations(&matching, count),
                None if matching.is_empty() => Vec::new(),
                None => vec![matching],
            };
            for set in sets {
                so_far[claim].push((at, set));
                let found = go(inventory, claims, so_far);
                so_far[claim].pop();
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }
    go(inventory, claims, &mut vec![Vec::new()])
}

/// All subsets of this size, in lexicographic order.
fn combinations(of: &[usize], count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, first) in of.iter().enumerate() {
        for mut rest in combinations(&of[at + 1..], count - 1) {
            rest.insert(0, *first);
            all.push(rest);
        }
    }
    all
}

fn slices_of(inventory: &ModelInventory) -> (Vec<Value>, Value) {
    let mut taken = Vec::new();
    let mut slices = [Vec::new(), Vec::new()];
    for (at, device) in inventory.devices.iter().enumerate() {
        let second = inventory.pool_of(at);
        let name = format!("x{at}");
        if device.is_taken {
            taken.push(json!({"request": "r", "driver": "d.example.com",
                "pool": (["p", "q"][second]), "device": name}));
        }
        let mut attributes = json!({});
        if let Some(kind) = device.kind {
            attributes["kind"] = json!({"int": kind});
        }
        if let Some(numa) = device.numa {
            // With and without the driver's domain.
            let name = if at % 2 == 0 { "numa" } else { "d.example.com/numa" };
            attributes[name] = json!({"int": numa});
        }
        let effect = if device.is_tainted { "NoSchedule" } else { "None" };
        let consumes = json!([{"counterSet": "s",
            "counters": {"n": {"value": device.consumes.to_string()}}}]);
        slices[second].push(json!({"name": name, "attributes": attributes,
            "taints": [{"key": "k", "effect": effect}],
            "consumesCounters": if device.consumes > 0 { consumes } else { Value::Null }}));
    }
    let [first, second] = slices;
    let counters = |name: &str, pool: &str, amount: u32| {
        let mut counters = slice(name, pool, 1, 2, Value::Null);
        counters["spec"]["sharedCounters"] =
            json!([{"name": "s", "counters": {"n": {"value": amount.to_string()}}}]);
        counters
    };
    let slices = vec![
        slice("a", "p", 1, 2, json!(first)),
        slice("b", "q", 1, 2, json!(second)),
        counters("c", "p", inventory.amounts[0]),
        counters("d", "q", inventory.amounts[1]),
    ];
    let holder = json!({"spec": {}, "status": {"allocation": {"devices": {"results": taken}}}});
    (slices, holder)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_first_of_all_assignments_is_found(
        devices in vec(model_device(), 0..6),
        claims in vec(model_claim(), 1..3),
        split in select(&[0_usize, 2, 6][..]),
        amounts in [0..6_u32, 0..6_u32],
    ) {
        let inventory = ModelInventory { devices, split, amounts };
        let (slices, holder) = slices_of(&inventory);
        let mut all: Vec<Value> = claims.iter().map(ModelClaim::to_json).collect();
        all.push(holder);
        let objects = objects(vec![class("gpu")], slices, all);
        let expected = first_valid(&inventory, &claims);
        allocate(&objects, |found| {
            let found = match found {
                Ok(found) => found,
                Err(NoSolution::Wrong(error)) if error.contains("cannot add device") => {
                    // Upstream ends the search here: "all" devices can never be had.
                    let has_all = claims.iter().any(|claim| {
                        claim.same_numa.is_some()
                            && claim.requests.iter().flatten().any(|a| a.count.is_none())
                    });
                    prop_assert!(has_all);
                    return Ok(());
                }
                Err(error) => {
                    prop_assert_eq!(expected, None, "{:?}", error);
                    return Ok(());
                }
            };
            let found: Vec<Vec<(String, Vec<String>)>> = found.iter().map(|solution| {
                solution.taken.iter().map(|taken| {
                    let mine =
                        solution.devices.iter().filter(|it| std::ptr::eq(it.request, *taken));
                    (taken.full_name.clone(), mine.map(|it| it.candidate.id.2.to_owned()).collect())
                }).collect()
            }).collect();
            let Some(expected) = expected else {
                return Err(TestCaseError::fail(format!("found {found:?}, there is nothing")));
            };
            let expected: Vec<Vec<(String, Vec<String>)>> = expected.iter().zip(&claims).map(
                |(requests, claim)| requests.iter().enumerate().map(|(at, (alternative, set))| {
                    let name = match claim.requests[at].len() {
                        1 => format!("r{at}"),
                        _ => format!("r{at}/s{alternative}"),
                    };
                    (name, set.iter().map(|d| format!("x{d}")).collect())
                }).collect(),
            ).collect();
            prop_assert_eq!(found, expected);
            Ok(())
        })?;
    }
}
