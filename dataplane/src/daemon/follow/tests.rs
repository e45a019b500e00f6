//! The loop over two scripted watches and tables in memory.

use std::sync::Arc;

use aya::maps::MapError;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use ipnet::IpNet;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;
use pintle_component::{Health, Registry, encode_metrics};
use pintle_ebpf_common::FrontendKey;
use tokio::task::JoinHandle;

use super::*;
use crate::Limits;
use crate::kernel::{ApplyError, LoadError, NodeNamespace};
use crate::plan::tests::memory::{Answer, Client, MemoryTables};
use crate::plan::tests::object::{ready, service, slice};
use crate::plan::{MapOp, Planner, Protocol, frontend_key};

/// Tables that refuse as told.
#[derive(Clone)]
struct Kernel(Arc<Mutex<KernelState>>);

struct KernelState {
    tables: MemoryTables,
    /// Refuse the operation after this many.
    refuse_after: Option<usize>,
    updates: usize,
    /// Whether there is memory for larger tables.
    grows: bool,
    pod_cidrs: Vec<IpNet>,
}

impl Tables for Kernel {
    fn apply(&mut self, ops: &[MapOp]) -> Result<(), ApplyError> {
        let mut state = self.0.lock();
        state.updates += 1;
        for (applied, op) in ops.iter().enumerate() {
            if state.refuse_after == Some(applied) {
                state.refuse_after = None;
                let (total, source) = (ops.len(), MapError::KeyNotFound);
                return Err(ApplyError { applied, total, map: "FRONTENDS", source });
            }
            state.tables.apply(op);
        }
        Ok(())
    }

    fn set_pod_cidrs(&mut self, cidrs: &[IpNet]) {
        self.0.lock().pod_cidrs = cidrs.to_vec();
    }

    fn grow(&mut self, limits: Limits) -> Result<(), LoadError> {
        let mut state = self.0.lock();
        if !state.grows {
            return Err(LoadError::NotPinned);
        }
        state.tables.grow(limits);
        Ok(())
    }
}

struct World {
    services: UnboundedSender<watcher::Result<Event<Service>>>,
    slices: UnboundedSender<watcher::Result<Event<EndpointSlice>>>,
    nodes: UnboundedSender<watcher::Result<Event<Node>>>,
    kernel: Kernel,
    health: Health,
    registry: Registry,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
}

impl World {
    fn start(min_sync_period: Duration) -> Self {
        Self::start_with(min_sync_period, Limits::default())
    }

    fn start_with(min_sync_period: Duration, limits: Limits) -> Self {
        Self::start_as(min_sync_period, limits, Reporter::log("node-0"))
    }

    fn start_telling(reporter: Reporter) -> Self {
        Self::start_as(Duration::ZERO, Limits::default(), reporter)
    }

    fn start_as(min_sync_period: Duration, limits: Limits, reporter: Reporter) -> Self {
        let tables = MemoryTables::new(limits);
        let (refuse_after, pod_cidrs) = (None, Vec::new());
        let state = KernelState { tables, refuse_after, updates: 0, grows: false, pod_cidrs };
        let kernel = Kernel(Arc::new(Mutex::new(state)));
        let (health, registry) = (Health::new(), Registry::default());
        let (status, shutdown) = (Status::default(), CancellationToken::new());
        status.add_checks(&health, "node-0");
        let follower = Follower::new(
            "node-0",
            Engine::new(kernel.clone(), Planner::new(limits)),
            Metrics::of(&registry, "node-0"),
            status,
            NodePorts::new(NodeNamespace::Own, Vec::new(), true),
            min_sync_period,
        )
        .telling(reporter);
        let (services, service_events) = unbounded();
        let (slices, slice_events) = unbounded();
        let token = shutdown.clone();
        let (nodes, node) = unbounded();
        for event in [Event::Init, Event::InitDone] {
            nodes.unbounded_send(Ok(event)).unwrap();
        }
        let watches = Watches { services: service_events, slices: slice_events, node };
        let running = tokio::spawn(async move { follower.run(watches, &token).await });
        Self { services, slices, nodes, kernel, health, registry, shutdown, running }
    }

    fn service(&self, event: Event<Service>) {
        self.services.unbounded_send(Ok(event)).unwrap();
    }

    fn slice(&self, event: Event<EndpointSlice>) {
        self.slices.unbounded_send(Ok(event)).unwrap();
    }

    fn list_nothing(&self) {
        self.service(Event::Init);
        self.service(Event::InitDone);
        self.slice(Event::Init);
        self.slice(Event::InitDone);
    }

    /// Wait until TCP 10.96.0.1:80 is answered so.
    async fn until(&self, expected: Answer) {
        for _ in 0..500 {
            if self.answer() == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?} and not {expected:?}", self.answer());
    }

    async fn until_pod_cidrs(&self, expected: &[IpNet]) {
        for _ in 0..500 {
            if self.kernel.0.lock().pod_cidrs == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?} and not {expected:?}", self.kernel.0.lock().pod_cidrs);
    }

    fn answer_at(&self, address: &str) -> Answer {
        let key = frontend_key(address.parse().unwrap(), Protocol::Tcp);
        self.kernel.0.lock().tables.lookup(Client::Pod, key)
    }

    /// Wait for a line of the metrics.
    async fn until_metric(&self, line: &str) {
        for _ in 0..500 {
            if encode_metrics(&self.registry).lines().any(|found| found == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no {line}: {}", encode_metrics(&self.registry));
    }

    fn answer(&self) -> Answer {
        self.kernel.0.lock().tables.lookup(Client::Pod, key())
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

fn key() -> FrontendKey {
    frontend_key("10.96.0.1:80".parse().unwrap(), Protocol::Tcp)
}

fn web() -> Service {
    service("web", "10.96.0.1", &[("", "TCP", 80)])
}

fn web_at(addresses: &[&str]) -> EndpointSlice {
    let endpoints = addresses.iter().map(|address| ready(address)).collect();
    slice("web-1", "web", &[("", "TCP", 8080)], endpoints)
}

fn backends(addrs: &[&str]) -> Answer {
    Answer::Backends(addrs.iter().map(|addr| addr.parse().unwrap()).collect())
}

#[tokio::test]
async fn nothing_is_published_before_both_kinds_are_listed() {
    let world = World::start(Duration::ZERO);
    world.service(Event::Init);
    world.service(Event::InitApply(web()));
    world.service(Event::InitDone);
    world.slice(Event::Init);
    world.slice(Event::InitApply(web_at(&["10.244.0.1"])));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.answer(), Answer::NotService);
    assert!(!world.health.is_ready());
    world.slice(Event::InitDone);
    world.until(backends(&["10.244.0.1:8080"])).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(world.health.is_ready());
    world.stop().await;
}

#[tokio::test]
async fn an_empty_cluster_is_ready_and_later_events_are_followed() {
    let world = World::start(Duration::ZERO);
    world.list_nothing();
    for _ in 0..100 {
        if world.health.is_ready() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(world.health.is_ready());
    world.service(Event::Apply(web()));
    world.until(Answer::Refuse).await;
    world.slice(Event::Apply(web_at(&["10.244.0.1", "10.244.0.2"])));
    world.until(backends(&["10.244.0.1:8080", "10.244.0.2:8080"])).await;
    world.slice(Event::Delete(web_at(&[])));
    world.until(Answer::Refuse).await;
    world.service(Event::Delete(web()));
    world.until(Answer::NotService).await;
    let text = encode_metrics(&world.registry);
    for (kind, number) in [("service", 2), ("endpoint", 2)] {
        let line = format!("{kind}_changes_total{{node=\"node-0\"}} {number}");
        assert!(text.contains(&line), "{line}\n{text}");
    }
    world.stop().await;
}

#[tokio::test]
async fn what_vanished_during_a_disconnect_is_removed() {
    let world = World::start(Duration::ZERO);
    world.list_nothing();
    world.service(Event::Apply(web()));
    world.until(Answer::Refuse).await;
    world.services.unbounded_send(Err(watcher::Error::NoResourceVersion)).unwrap();
    world.service(Event::Init);
    world.service(Event::InitDone);
    world.until(Answer::NotService).await;
    world.stop().await;
}

#[tokio::test]
async fn a_refused_operation_is_tried_again() {
    let world = World::start(Duration::ZERO);
    world.list_nothing();
    world.service(Event::Apply(web()));
    world.until(Answer::Refuse).await;
    // The slots are written, the frontend is not switched.
    world.kernel.0.lock().refuse_after = Some(1);
    world.slice(Event::Apply(web_at(&["10.244.0.1"])));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.answer(), Answer::Refuse);
    // This change comes while the other one waits.
    world.slice(Event::Apply(web_at(&["10.244.0.2"])));
    world.until(backends(&["10.244.0.2:8080"])).await;
    world.stop().await;
}

#[tokio::test]
async fn updates_keep_their_distance_and_gather_what_comes_between() {
    let world = World::start(Duration::from_millis(300));
    world.list_nothing();
    world.service(Event::Apply(web()));
    world.until(Answer::Refuse).await;
    let start = Instant::now();
    for last in 1..=50 {
        world.slice(Event::Apply(web_at(&[&format!("10.244.0.{last}")])));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.until(backends(&["10.244.0.50:8080"])).await;
    let updates = world.kernel.0.lock().updates;
    // The empty one and the Service's, which may have been one, and then one each period.
    let updates_max = 3 + start.elapsed().as_millis() as usize / 300;
    assert!((2..=updates_max).contains(&updates), "{updates} of {updates_max}");
    world.stop().await;
}

fn rejected(number: usize) -> String {
    format!("pintle_dataplane_rejected{{node=\"node-0\"}} {number}")
}

#[tokio::test]
async fn of_two_services_with_one_address_the_older_has_it_and_the_other_is_counted() {
    let world = World::start(Duration::ZERO);
    world.list_nothing();
    let aged = |mut service: Service, time: &str| {
        let time = time.parse().unwrap();
        service.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time));
        service
    };
    world.service(Event::Apply(aged(web(), "2026-01-02T00:00:00Z")));
    world.slice(Event::Apply(web_at(&["10.244.0.1"])));
    world.until(backends(&["10.244.0.1:8080"])).await;
    let other = service("other", "10.96.0.1", &[("", "TCP", 80)]);
    world.service(Event::Apply(aged(other, "2026-01-03T00:00:00Z")));
    world.until_metric(&rejected(1)).await;
    assert_eq!(world.answer(), backends(&["10.244.0.1:8080"]));
    world.service(Event::Delete(web()));
    world.until(Answer::Refuse).await;
    world.until_metric(&rejected(0)).await;
    world.stop().await;
}

#[tokio::test]
async fn more_services_than_the_maps_have_room_for_leave_the_others_alone() {
    let limits = Limits { frontends_max: 2, ..Limits::default() };
    let world = World::start_with(Duration::ZERO, limits);
    world.list_nothing();
    world.service(Event::Apply(web()));
    world.slice(Event::Apply(web_at(&["10.244.0.1"])));
    world.until(backends(&["10.244.0.1:8080"])).await;
    for last in 2..=4 {
        let (name, ip) = (format!("web-{last}"), format!("10.96.0.{last}"));
        world.service(Event::Apply(service(&name, &ip, &[("", "TCP", 80)])));
    }
    world.until_metric(&rejected(2)).await;
    assert_eq!(world.answer(), backends(&["10.244.0.1:8080"]));
    // The others still follow, and what waits is served as soon as there is room.
    world.slice(Event::Apply(web_at(&["10.244.0.2"])));
    world.until(backends(&["10.244.0.2:8080"])).await;
    world.service(Event::Delete(web()));
    world.until_metric(&rejected(1)).await;
    let served =
        (2..=4).filter(|last| world.answer_at(&format!("10.96.0.{last}:80")) == Answer::Refuse);
    assert_eq!(served.count(), 2);
    world.stop().await;
}

#[tokio::test]
async fn maps_that_are_full_grow() {
    let limits = Limits { frontends_max: 2, slots_max: 2, ..Limits::default() };
    let world = World::start_with(Duration::ZERO, limits);
    world.kernel.0.lock().grows = true;
    world.list_nothing();
    for last in 1..=50 {
        let (name, ip) = (format!("web-{last}"), format!("10.96.0.{last}"));
        world.service(Event::Apply(service(&name, &ip, &[("", "TCP", 80)])));
        let endpoints = (1..=5).map(|n| ready(&format!("10.244.{last}.{n}"))).collect();
        world.slice(Event::Apply(slice(&name, &name, &[("", "TCP", 8080)], endpoints)));
    }
    let ports = "pintle_dataplane_service_ports{node=\"node-0\"} 50";
    world.until_metric(ports).await;
    world.until_metric(&rejected(0)).await;
    for last in 1..=50 {
        let addrs: Vec<String> = (1..=5).map(|n| format!("10.244.{last}.{n}:8080")).collect();
        let addrs: Vec<&str> = addrs.iter().map(String::as_str).collect();
        assert_eq!(world.answer_at(&format!("10.96.0.{last}:80")), backends(&addrs));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_slice_of_a_thousand_addresses_that_flaps_costs_no_room() {
    // Room for the old places and the new at once, not for a leak.
    let limits = Limits { slots_max: 8192, ..Limits::default() };
    let world = World::start_with(Duration::ZERO, limits);
    world.list_nothing();
    world.service(Event::Apply(web()));
    let all: Vec<String> =
        (0..1000).map(|n| format!("10.244.{}.{}", n / 250, n % 250 + 1)).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for turn in 0..60 {
        world.slice(Event::Apply(web_at(if turn % 2 == 0 { &all } else { &[] })));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    world.slice(Event::Apply(web_at(&all)));
    let addrs: Vec<String> = all.iter().map(|address| format!("{address}:8080")).collect();
    let addrs: Vec<&str> = addrs.iter().map(String::as_str).collect();
    world.until(backends(&addrs)).await;
    world.until_metric(&rejected(0)).await;
    world.stop().await;
}

#[tokio::test]
async fn endpoints_outside_every_pod_range_are_endpoints() {
    let world = World::start(Duration::ZERO);
    world.list_nothing();
    world.service(Event::Apply(web()));
    world.slice(Event::Apply(web_at(&["198.51.100.7", "10.244.0.1"])));
    world.until(backends(&["10.244.0.1:8080", "198.51.100.7:8080"])).await;
    world.stop().await;
}

#[tokio::test]
async fn pod_cidrs_of_the_node_that_change_reach_the_tables() {
    let world = World::start(Duration::ZERO);
    world.list_nothing();
    for cidrs in [vec!["10.244.1.0/24"], vec!["10.244.7.0/24", "fd00:244:7::/64"]] {
        let node = serde_json::json!({
            "metadata": { "name": "node-0" }, "spec": { "podCIDRs": cidrs },
        });
        let node: Node = serde_json::from_value(node).unwrap();
        // Told twice, as a watch may.
        for _ in 0..2 {
            world.nodes.unbounded_send(Ok(Event::Apply(node.clone()))).unwrap();
        }
        let expected: Vec<IpNet> = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        world.until_pod_cidrs(&expected).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn weights_that_are_none_are_told_once_and_the_service_is_served() {
    let (sender, mut told) = tokio::sync::mpsc::channel(8);
    let world = World::start_telling(Reporter::to("node-0", sender));
    world.list_nothing();
    let mut service = web();
    for text in ["10.244.0.1=many", "10.244.0.1=many", "10.244.0.1=3", "10.244.0.1=0"] {
        let annotation = ("pintle.dev/weights".to_owned(), text.to_owned());
        service.metadata.annotations = Some([annotation].into());
        world.service(Event::Apply(service.clone()));
    }
    world.slice(Event::Apply(web_at(&["10.244.0.1", "10.244.0.2"])));
    world.until(backends(&["10.244.0.1:8080", "10.244.0.2:8080"])).await;
    world.stop().await;
    let mut messages = Vec::new();
    while let Ok((service, event)) = told.try_recv() {
        assert_eq!((&*service.name, &*event.reason), ("web", "InvalidAnnotation"));
        messages.push(event.message);
    }
    let expected = ["10.244.0.1=many", "10.244.0.1=0"].map(|part| {
        format!(
            "node node-0: annotation pintle.dev/weights: {part:?}: a weight is a whole number from 1 \
             to 100; all endpoints have equal weights"
        )
    });
    assert_eq!(messages, expected);
}
