//! Plans of one Service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{Action, plan};

fn service(patch: &Value) -> Service {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "svc", "labels": {"tier": "a"}},
        "spec": {
            "clusterIP": "10.96.0.7",
            "ipFamilies": ["IPv4"],
            "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
    });
    for (key, patch) in patch.as_object().unwrap() {
        value["spec"][key] = patch.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn pod(n: usize, ready: bool, port: i32, terminating: bool) -> Arc<Pod> {
    let status = if ready { "True" } else { "False" };
    let mut value = json!({
        "metadata": {"name": format!("p{n}"), "namespace": "default", "uid": format!("u{n}")},
        "spec": {"nodeName": "one", "containers": [
            {"name": "c", "ports": [{"name": "web", "containerPort": port}]},
        ]},
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": format!("10.244.0.{n}")}, {"ip": format!("fd00::{n}")}],
            "conditions": [{"type": "Ready", "status": status}],
        },
    });
    if terminating {
        value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }
    Arc::new(serde_json::from_value(value).unwrap())
}

fn no_nodes(_: &str) -> Option<Arc<Node>> {
    None
}

/// Slices as stored, by name; plans are applied as a server would.
#[derive(Default)]
struct Stored {
    created: usize,
    slices: BTreeMap<String, Arc<EndpointSlice>>,
    writes: usize,
}

impl Stored {
    fn list(&self) -> Vec<Arc<EndpointSlice>> {
        self.slices.values().cloned().collect()
    }

    fn apply(&mut self, service: &Service, pods: &[Arc<Pod>], max: usize) {
        self.writes = 0;
        for action in plan(service, pods, &self.list(), no_nodes, max) {
            self.writes += 1;
            match action {
                Action::Create(mut slice) => {
                    self.created += 1;
                    let name = format!("web-{}", self.created);
                    slice.metadata.name = Some(name.clone());
                    slice.metadata.uid = Some(name.clone());
                    assert!(self.slices.insert(name, Arc::new(*slice)).is_none());
                }
                Action::Update(slice) => {
                    let name = slice.metadata.name.clone().unwrap();
                    self.slices.insert(name, Arc::new(*slice)).unwrap();
                }
                Action::Delete(slice) => {
                    self.slices.remove(slice.metadata.name.as_ref().unwrap()).unwrap();
                }
            }
        }
    }

    fn endpoints(&self) -> Vec<&Endpoint> {
        self.slices.values().flat_map(|slice| &slice.endpoints).collect()
    }
}

#[test]
fn a_slice_says_whose_it_is_and_what_it_holds() {
    let service = service(&json!({}));
    let mut stored = Stored::default();
    stored.apply(&service, &[pod(1, true, 1, false)], 100);
    let slice = stored.slices.values().next().unwrap();
    assert_eq!(slice.address_type, "IPv4");
    assert_eq!(slice.metadata.generate_name.as_deref(), Some("web-"));
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["kubernetes.io/service-name"], "web");
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslice-controller.k8s.io");
    assert_eq!(labels["tier"], "a");
    let owner = &slice.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("Service", "svc"));
    let port = &slice.ports.as_ref().unwrap()[0];
    assert_eq!((port.name.as_deref(), port.port), (Some("http"), Some(8080)));
    let endpoint = &slice.endpoints[0];
    assert_eq!(endpoint.addresses, ["10.244.0.1"]);
    assert_eq!(endpoint.node_name.as_deref(), Some("one"));
    assert_eq!(endpoint.target_ref.as_ref().unwrap().uid.as_deref(), Some("u1"));
    stored.apply(&service, &[pod(1, true, 1, false)], 100);
    assert_eq!(stored.writes, 0, "a second plan has nothing to do");
}

#[test]
fn conditions_follow_readiness_and_termination() {
    // ready, terminating, publishNotReadyAddresses -> ready, serving, terminating.
    let cases = [
        (true, false, false, (true, true, false)),
        (false, false, false, (false, false, false)),
        (true, true, false, (false, true, true)),
        (false, false, true, (true, false, false)),
        (true, true, true, (true, true, true)),
    ];
    for (ready, terminating, publish, expected) in cases {
        let service = service(&json!({"publishNotReadyAddresses": publish}));
        let mut stored = Stored::default();
        stored.apply(&service, &[pod(1, ready, 1, terminating)], 100);
        let found = stored.endpoints()[0].conditions.clone().unwrap();
        let found = (found.ready.unwrap(), found.serving.unwrap(), found.terminating.unwrap());
        assert_eq!(found, expected, "{ready} {terminating} {publish}");
    }
}

#[test]
fn a_named_port_may_differ_from_pod_to_pod() {
    let named = json!([{"name": "http", "port": 80, "targetPort": "web"}]);
    let service = service(&json!({"ports": named}));
    let mut stored = Stored::default();
    let pods = [pod(1, true, 8080, false), pod(2, true, 9090, false), pod(3, true, 8080, false)];
    stored.apply(&service, &pods, 100);
    let mut found: Vec<(i32, usize)> = stored
        .slices
        .values()
        .map(|slice| (slice.ports.as_ref().unwrap()[0].port.unwrap(), slice.endpoints.len()))
        .collect();
    found.sort_unstable();
    assert_eq!(found, [(8080, 2), (9090, 1)]);
}

#[test]
fn a_service_without_pods_has_an_empty_slice_and_each_family_its_own() {
    let service = service(&json!({"ipFamilies": ["IPv4", "IPv6"], "clusterIP": "None"}));
    let mut stored = Stored::default();
    stored.apply(&service, &[], 100);
    let types: BTreeSet<&str> =
        stored.slices.values().map(|slice| slice.address_type.as_str()).collect();
    assert_eq!(types, BTreeSet::from(["IPv4", "IPv6"]));
    let headless = "service.kubernetes.io/headless";
    assert!(
        stored.slices.values().all(|s| s.metadata.labels.as_ref().unwrap().contains_key(headless))
    );
    stored.apply(&service, &[pod(4, true, 1, false)], 100);
    let addresses: BTreeSet<&str> =
        stored.endpoints().iter().map(|endpoint| endpoint.addresses[0].as_str()).collect();
    assert_eq!(addresses, BTreeSet::from(["10.244.0.4", "fd00::4"]));
    assert_eq!(stored.slices.len(), 2);
    stored.apply(&service, &[], 100);
    assert_eq!((stored.slices.len(), stored.endpoints().len()), (2, 0));
}

#[test]
fn a_finished_pod_and_one_without_an_address_are_no_endpoints() {
    let mut finished = (*pod(1, true, 1, false)).clone();
    finished.status.as_mut().unwrap().phase = Some("Succeeded".to_owned());
    let mut homeless = (*pod(2, true, 1, false)).clone();
    homeless.status.as_mut().unwrap().pod_ips = None;
    let mut stored = Stored::default();
    stored.apply(&service(&json!({})), &[Arc::new(finished), Arc::new(homeless)], 100);
    assert!(stored.endpoints().is_empty());
}

#[test]
fn one_changed_pod_rewrites_one_slice() {
    let service = service(&json!({}));
    let pods: Vec<Arc<Pod>> = (0..95).map(|n| pod(n, true, 1, false)).collect();
    let mut stored = Stored::default();
    stored.apply(&service, &pods, 10);
    assert_eq!(stored.slices.len(), 10);
    let mut changed = pods.clone();
    changed[37] = pod(37, false, 1, false);
    stored.apply(&service, &changed, 10);
    assert_eq!(stored.writes, 1);
    // A replaced pod goes into the slice that lost one.
    changed[50] = pod(150, true, 1, false);
    stored.apply(&service, &changed, 10);
    assert_eq!((stored.writes, stored.slices.len()), (1, 10));
}

proptest! {
    /// After each plan the slices hold exactly the pods with addresses, each once, in slices that
    /// are not too large; and the next plan is empty.
    #[test]
    fn slices_hold_exactly_the_pods(
        rounds in proptest::collection::vec(
            proptest::collection::btree_map(1..40_usize, (any::<bool>(), 1..3_i32), 0..30),
            1..6,
        ),
        max in 1..8_usize,
    ) {
        let named = json!([{"name": "http", "port": 80, "targetPort": "web"}]);
        let service = service(&json!({"ports": named}));
        let mut stored = Stored::default();
        for round in rounds {
            let pods: Vec<Arc<Pod>> =
                round.iter().map(|(n, (ready, port))| pod(*n, *ready, *port, false)).collect();
            stored.apply(&service, &pods, max);
            let found: Vec<&str> =
                stored.endpoints().iter().map(|e| e.addresses[0].as_str()).collect();
            let unique: BTreeSet<&str> = found.iter().copied().collect();
            prop_assert_eq!(found.len(), unique.len());
            let expected: Vec<String> = round.keys().map(|n| format!("10.244.0.{n}")).collect();
            let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
            prop_assert_eq!(unique, expected);
            prop_assert!(!stored.slices.is_empty());
            prop_assert!(stored.slices.values().all(|slice| slice.endpoints.len() <= max));
            stored.apply(&service, &pods, max);
            prop_assert_eq!(stored.writes, 0);
        }
    }
}
