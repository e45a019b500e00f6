//! The loop over two scripted watches and tables in memory.

use std::sync::Arc;

use aya::maps::MapError;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;
use pintle_component::{Health, Registry, encode_metrics};
use pintle_ebpf_common::FrontendKey;
use tokio::task::JoinHandle;

use super::*;
use crate::Limits;
use crate::kernel::ApplyError;
use crate::kernel::NodeNamespace;
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
}

struct World {
    services: UnboundedSender<watcher::Result<Event<Service>>>,
    slices: UnboundedSender<watcher::Result<Event<EndpointSlice>>>,
    kernel: Kernel,
    health: Health,
    registry: Registry,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
}

impl World {
    fn start(min_sync_period: Duration) -> Self {
        let limits = Limits::default();
        let tables = MemoryTables::new(limits);
        let state = KernelState { tables, refuse_after: None, updates: 0 };
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
        );
        let (services, service_events) = unbounded();
        let (slices, slice_events) = unbounded();
        let token = shutdown.clone();
        let node = futures::stream::iter([Ok(Event::Init), Ok(Event::InitDone)]);
        let watches = Watches { services: service_events, slices: slice_events, node };
        let running = tokio::spawn(async move { follower.run(watches, &token).await });
        Self { services, slices, kernel, health, registry, shutdown, running }
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
