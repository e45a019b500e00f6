//! Single rules by name.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::memory::{Answer, Client, MemoryTables};
use super::object::{endpoint, ready, service, slice};
use crate::Limits;
use crate::plan::{
    Catalog, LocalEndpoints, MapOp, Planner, Protocol, Rejection, ServiceName, ServiceSpec,
    SliceSpec, frontend_key,
};

/// What answers at TCP 10.96.0.1:80 in a cluster of these.
fn answer(services: &[Service], slices: &[EndpointSlice]) -> Answer {
    let mut catalog = Catalog::default();
    for service in services {
        let name = ServiceName::new("default", service.metadata.name.as_deref().unwrap());
        catalog.set_service(&name, ServiceSpec::from_object(service));
    }
    for slice in slices {
        let name = ServiceName::new("default", slice.metadata.name.as_deref().unwrap());
        catalog.set_slice(&name, SliceSpec::from_object(slice, "node-0"));
    }
    let mut tables = MemoryTables::new(Limits::default());
    for op in &Planner::new(Limits::default()).plan(0, catalog.take_changes()).ops {
        tables.apply(op);
    }
    let key = frontend_key("10.96.0.1:80".parse().unwrap(), Protocol::Tcp);
    tables.lookup(Client::Pod, key)
}

fn web() -> Service {
    service("web", "10.96.0.1", &[("http", "TCP", 80)])
}

fn backends(addrs: &[&str]) -> Answer {
    Answer::Backends(addrs.iter().map(|addr| addr.parse().unwrap()).collect())
}

const HTTP: &[(&str, &str, i32)] = &[("http", "TCP", 8080)];

#[test]
fn a_service_without_slices_refuses() {
    assert_eq!(answer(&[web()], &[]), Answer::Refuse);
}

#[test]
fn slices_of_one_service_are_merged_and_an_endpoint_counts_once() {
    let one = slice("one", "web", HTTP, vec![ready("10.244.0.1"), ready("10.244.0.2")]);
    let two = slice("two", "web", HTTP, vec![ready("10.244.0.2"), ready("10.244.1.1")]);
    let expected = backends(&["10.244.0.1:8080", "10.244.0.2:8080", "10.244.1.1:8080"]);
    assert_eq!(answer(&[web()], &[one, two]), expected);
}

#[test]
fn ports_are_matched_by_name_and_protocol() {
    let ports = [("http", "TCP", 8080), ("metrics", "TCP", 9090), ("http", "UDP", 8443)];
    let slice = slice("one", "web", &ports, vec![ready("10.244.0.1")]);
    assert_eq!(answer(&[web()], &[slice]), backends(&["10.244.0.1:8080"]));
}

#[test]
fn terminating_endpoints_serve_only_where_none_is_ready() {
    let leaving = || endpoint("10.244.0.1", Some(false), Some(true), Some(true));
    let gone = || endpoint("10.244.0.2", Some(false), Some(false), Some(true));
    let starting = || endpoint("10.244.0.3", Some(false), Some(false), Some(false));
    let slice = |endpoints| slice("one", "web", HTTP, endpoints);
    let with_ready = slice(vec![leaving(), gone(), starting(), ready("10.244.0.4")]);
    assert_eq!(answer(&[web()], &[with_ready]), backends(&["10.244.0.4:8080"]));
    let without = slice(vec![leaving(), gone(), starting()]);
    assert_eq!(answer(&[web()], &[without]), backends(&["10.244.0.1:8080"]));
    assert_eq!(answer(&[web()], &[slice(vec![gone(), starting()])]), Answer::Refuse);
}

#[test]
fn unknown_conditions_mean_ready() {
    let unknown = endpoint("10.244.0.1", None, None, None);
    let slice = slice("one", "web", HTTP, vec![unknown]);
    assert_eq!(answer(&[web()], &[slice]), backends(&["10.244.0.1:8080"]));
}

#[test]
fn headless_external_and_foreign_services_are_not_ours() {
    let mut headless = web();
    headless.spec.as_mut().unwrap().cluster_ip = Some("None".to_owned());
    headless.spec.as_mut().unwrap().cluster_ips = Some(vec!["None".to_owned()]);
    let mut external = web();
    external.spec.as_mut().unwrap().type_ = Some("ExternalName".to_owned());
    let mut foreign = web();
    let label = ("service.kubernetes.io/service-proxy-name".to_owned(), "mesh".to_owned());
    foreign.metadata.labels = Some([label].into());
    let mut pending = web();
    pending.spec.as_mut().unwrap().cluster_ip = None;
    pending.spec.as_mut().unwrap().cluster_ips = None;
    for service in [headless, external, foreign, pending] {
        assert_eq!(answer(&[service], &[]), Answer::NotService);
    }
}

#[test]
fn a_single_cluster_ip_without_the_list_counts() {
    let mut old = web();
    old.spec.as_mut().unwrap().cluster_ips = None;
    assert_eq!(answer(&[old], &[]), Answer::Refuse);
}

#[test]
fn internal_traffic_policy_local_keeps_to_the_node_and_drops_where_it_has_none() {
    let mut local = web();
    local.spec.as_mut().unwrap().internal_traffic_policy = Some("Local".to_owned());
    let at = |address, node: &str| {
        let mut endpoint = ready(address);
        endpoint.node_name = Some(node.to_owned());
        endpoint
    };
    let slice = |endpoints| slice("one", "web", HTTP, endpoints);
    let both = slice(vec![at("10.244.0.1", "node-0"), at("10.244.1.1", "node-1")]);
    assert_eq!(answer(&[local.clone()], &[both]), backends(&["10.244.0.1:8080"]));
    let elsewhere = slice(vec![at("10.244.1.1", "node-1")]);
    assert_eq!(answer(&[local.clone()], &[elsewhere]), Answer::Drop);
    assert_eq!(answer(&[local], &[slice(Vec::new())]), Answer::Refuse);
}

#[test]
fn of_two_services_with_one_address_the_older_has_it_and_the_other_is_reported() {
    let mut planner = Planner::new(Limits::default());
    let mut catalog = Catalog::default();
    let (older, newer) = (ServiceName::new("default", "b"), ServiceName::new("default", "a"));
    let spec = |created_ms| {
        let spec = ServiceSpec::from_object(&web()).unwrap();
        Some(ServiceSpec { created_ms, ..spec })
    };
    catalog.set_service(&newer, spec(2000));
    assert_eq!(planner.plan(0, catalog.take_changes()).rejected, []);
    catalog.set_service(&older, spec(1000));
    let plan = planner.plan(0, catalog.take_changes());
    assert_eq!(plan.rejected.len(), 1);
    assert_eq!(plan.rejected[0].service, newer);
    assert_eq!(plan.rejected[0].reason, Rejection::Claimed(older.clone()));
    assert_eq!(plan.rejected[0].address().to_string(), "10.96.0.1:80");
    catalog.set_service(&older, None);
    let plan = planner.plan(0, catalog.take_changes());
    assert_eq!(plan.rejected, []);
    assert_eq!(planner.published().next().unwrap().0.service, newer);
    assert_eq!(planner.rejected().count(), 0);
}

#[test]
fn what_does_not_fit_is_reported_once_and_tried_again() {
    let limits = Limits { slots_max: 4, ..Limits::default() };
    let (mut planner, mut catalog) = (Planner::new(limits), Catalog::default());
    let name = ServiceName::new("default", "web");
    catalog.set_service(&name, ServiceSpec::from_object(&web()));
    let endpoints: Vec<_> = (1..=5).map(|last| ready(&format!("10.244.0.{last}"))).collect();
    let big = slice("one", "web", HTTP, endpoints.clone());
    let slice_name = ServiceName::new("default", "one");
    catalog.set_slice(&slice_name, SliceSpec::from_object(&big, "node-0"));
    let plan = planner.plan(0, catalog.take_changes());
    assert_eq!(plan.ops, []);
    assert_eq!(plan.rejected[0].reason, Rejection::SlotsFull { backends: 5, slots_max: 4 });
    assert!(planner.is_waiting());
    assert_eq!(planner.plan(1, []).rejected, [], "no news");
    let small = slice("one", "web", HTTP, endpoints[..4].to_vec());
    catalog.set_slice(&slice_name, SliceSpec::from_object(&small, "node-0"));
    let plan = planner.plan(2, catalog.take_changes());
    assert_eq!(plan.rejected, []);
    assert!(matches!(plan.ops.last(), Some(MapOp::PutFrontend { .. })), "{:?}", plan.ops);
    assert!(!planner.is_waiting());
}

#[test]
fn what_is_not_changed_costs_no_operation() {
    let (mut planner, mut catalog) = (Planner::new(Limits::default()), Catalog::default());
    let name = ServiceName::new("default", "web");
    let slice_name = ServiceName::new("default", "one");
    let of = |endpoints| SliceSpec::from_object(&slice("one", "web", HTTP, endpoints), "node-0");
    catalog.set_service(&name, ServiceSpec::from_object(&web()));
    catalog.set_slice(&slice_name, of(vec![ready("10.244.0.1"), ready("10.244.0.2")]));
    assert_eq!(planner.plan(0, catalog.take_changes()).ops.len(), 3);
    assert!(!catalog.set_service(&name, ServiceSpec::from_object(&web())), "no news");
    // Another order of the same endpoints.
    assert!(catalog.set_slice(&slice_name, of(vec![ready("10.244.0.2"), ready("10.244.0.1")])));
    assert_eq!(planner.plan(0, catalog.take_changes()).ops, []);
    // One endpoint less: new slots, one switch.
    catalog.set_slice(&slice_name, of(vec![ready("10.244.0.1")]));
    let ops = planner.plan(0, catalog.take_changes()).ops;
    assert!(matches!(ops[..], [MapOp::WriteSlots { .. }, MapOp::PutFrontend { .. }]), "{ops:?}");
}

#[test]
fn a_new_list_removes_what_is_not_in_it() {
    let mut catalog = Catalog::default();
    let (web_name, old) = (ServiceName::new("default", "web"), ServiceName::new("default", "old"));
    let slice_name = ServiceName::new("default", "one");
    catalog.set_service(&web_name, ServiceSpec::from_object(&web()));
    catalog.set_service(&old, ServiceSpec::from_object(&web()));
    let of_web = slice("one", "web", HTTP, vec![ready("10.244.0.1")]);
    catalog.set_slice(&slice_name, SliceSpec::from_object(&of_web, "node-0"));
    catalog.take_changes();
    catalog.retain_services(&[web_name.clone()].into_iter().collect());
    catalog.retain_slices(&[].into_iter().collect());
    let changes = catalog.take_changes();
    let names: Vec<_> = changes.iter().map(|(name, _)| name).collect();
    assert_eq!(names, [&old, &web_name]);
    assert!(changes[0].1.ports.is_empty());
    assert!(changes[1].1.ports[0].cluster.is_empty());
}

#[test]
fn load_balancers_hear_of_ready_endpoints_on_this_node_alone() {
    let mut service = web();
    let spec = service.spec.as_mut().unwrap();
    spec.type_ = Some("LoadBalancer".to_owned());
    spec.external_traffic_policy = Some("Local".to_owned());
    spec.health_check_node_port = Some(31_000);
    let name = ServiceName::new("default", "web");
    let mut catalog = Catalog::default();
    catalog.set_service(&name, ServiceSpec::from_object(&service));
    let (mut here, mut there, mut leaving) =
        (ready("10.244.0.1"), ready("10.244.1.1"), endpoint("10.244.0.2", Some(false), None, None));
    leaving.conditions.as_mut().unwrap().terminating = Some(true);
    for (endpoint, node) in
        [(&mut here, "node-0"), (&mut there, "node-1"), (&mut leaving, "node-0")]
    {
        endpoint.node_name = Some(node.to_owned());
    }
    let of = |endpoints| SliceSpec::from_object(&slice("one", "web", HTTP, endpoints), "node-0");
    let slice_name = ServiceName::new("default", "one");
    catalog.set_slice(&slice_name, of(vec![here, there.clone(), leaving.clone()]));
    assert_eq!(
        catalog.health_checks().collect::<Vec<_>>(),
        [(&name, 31_000, LocalEndpoints { ipv4: 1, ipv6: 0 })]
    );
    catalog.set_slice(&slice_name, of(vec![there, leaving]));
    assert_eq!(
        catalog.health_checks().collect::<Vec<_>>(),
        [(&name, 31_000, LocalEndpoints::default())]
    );
    service.spec.as_mut().unwrap().external_traffic_policy = Some("Cluster".to_owned());
    catalog.set_service(&name, ServiceSpec::from_object(&service));
    assert_eq!(catalog.health_checks().count(), 0);
}
