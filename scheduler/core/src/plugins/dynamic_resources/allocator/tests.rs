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
    act: impl FnOnce(&Allocator<'_>, Result<Vec<Solution<'_, '_>>, NoSolution>) -> R,
) -> R {
    let selectors = Selectors::default();
    let wanted = objects.resource_claims.iter().filter(|c| claim::allocation(c).is_none());
    let claims = wanted.map(|claim| ClaimPlan::new(claim, &objects.device_classes).unwrap());
    let allocator = Allocator {
        claims: claims.collect(),
        inventory: Inventory::new(objects.resource_slices.iter()),
        allocated: super::super::inventory::allocated(objects.resource_claims.iter()),
        selectors: &selectors,
    };
    let found = allocator.allocate(&node("n"));
    act(&allocator, found)
}

/// `REQUEST=DEVICE...` of each claim, or why not.
fn found(objects: &Objects) -> Result<Vec<String>, String> {
    allocate(objects, |_, found| {
        let of_claim = |solution: &Solution<'_, '_>| {
            let device = |(request, candidate): &(&Alternative<'_>, Candidate<'_>)| {
                format!("{}={}", request.full_name, candidate.id.2)
            };
            solution.devices.iter().map(device).collect::<Vec<_>>().join(" ")
        };
        found.map(|found| found.iter().map(of_claim).collect()).map_err(|error| error.0)
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
    let counters = json!({"name": "a", "consumesCounters": [{"counterSet": "s", "counters": {}}]});
    assert_eq!(one(counters, json!({})), "r=z");
    assert_eq!(one(json!({"name": "a", "bindingConditions": ["Ready"]}), json!({})), "r=z");
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
            json!({"requests": [exactly("r", json!({}))], "constraints": [{"distinctAttribute": "a/b"}]}),
            "claim default/c, constraint #0: empty constraint (unsupported constraint type?)",
        ),
    ] {
        let claim: ResourceClaim = serde_json::from_value(json!({
            "metadata": {"name": "c", "namespace": "default"}, "spec": {"devices": spec}}))
        .unwrap();
        assert_eq!(ClaimPlan::new(&Arc::new(claim.clone()), &known).unwrap_err(), expected);
        assert!(ClaimPlan::new(&Arc::new(claim), &none).is_err());
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
    (value(), value(), prop::bool::weighted(0.2), prop::bool::weighted(0.2)).prop_map(
        |(kind, numa, is_tainted, is_taken)| ModelDevice { kind, numa, is_tainted, is_taken },
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

fn is_valid(devices: &[ModelDevice], claims: &[ModelClaim], assignment: &Assignment) -> bool {
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
fn first_valid(devices: &[ModelDevice], claims: &[ModelClaim]) -> Option<Assignment> {
    fn go(
        devices: &[ModelDevice],
        claims: &[ModelClaim],
        so_far: &mut Assignment,
    ) -> Option<Assignment> {
        let claim = so_far.len() - 1;
        let request = so_far[claim].len();
        if request == claims[claim].requests.len() {
            if claim + 1 == claims.len() {
                return is_valid(devices, claims, so_far).then(|| so_far.clone());
            }
            so_far.push(Vec::new());
            let found = go(devices, claims, so_far);
            so_far.pop();
            return found;
        }
        for (at, alternative) in claims[claim].requests[request].iter().enumerate() {
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
                let found = go(devices, claims, so_far);
                so_far[claim].pop();
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }
    go(devices, claims, &mut vec![Vec::new()])
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

fn inventory(devices: &[ModelDevice], split: usize) -> (Vec<Value>, Value) {
    let mut taken = Vec::new();
    let mut slices = [Vec::new(), Vec::new()];
    for (at, device) in devices.iter().enumerate() {
        let second = usize::from(at >= split);
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
        slices[second].push(json!({"name": name, "attributes": attributes,
            "taints": [{"key": "k", "effect": effect}]}));
    }
    let [first, second] = slices;
    let slices = vec![slice("a", "p", 1, 1, json!(first)), slice("b", "q", 1, 1, json!(second))];
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
    ) {
        let (slices, holder) = inventory(&devices, split);
        let mut all: Vec<Value> = claims.iter().map(ModelClaim::to_json).collect();
        all.push(holder);
        let objects = objects(vec![class("gpu")], slices, all);
        let expected = first_valid(&devices, &claims);
        allocate(&objects, |_, found| {
            let found = match found {
                Ok(found) => found,
                Err(NoSolution(error)) if error.contains("cannot add device") => {
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
                    let mine = solution.devices.iter().filter(|(r, _)| std::ptr::eq(*r, *taken));
                    (taken.full_name.clone(), mine.map(|(_, c)| c.id.2.to_owned()).collect())
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
