//! Random objects in a random order of events.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use pintle_ebpf_common::FrontendKey;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::memory::{Answer, MemoryTables};
use super::model::{Model, NODE};
use super::object;
use crate::Limits;
use crate::plan::service::frontend_key;
use crate::plan::{Catalog, Plan, Planner, Protocol, ServiceName, ServiceSpec, SliceSpec};

/// What happens to a cluster.
#[derive(Clone, Debug)]
enum Event {
    RemoveService(&'static str),
    RemoveSlice(&'static str),
    Service(Box<Service>),
    Slice(Box<EndpointSlice>),
    /// The changes so far are planned and applied.
    Sync,
}

const SERVICES: [&str; 4] = ["api", "dns", "shop", "web"];
const SLICES: [&str; 5] = ["one", "two", "three", "four", "five"];
const CLUSTER_IPS: [&str; 3] = ["10.96.0.1", "10.96.0.2", "10.96.0.3"];
const PORTS: [i32; 2] = [53, 80];
const NAMES: [&str; 2] = ["", "http"];
const PROTOCOLS: [&str; 2] = ["TCP", "UDP"];

fn port() -> impl Strategy<Value = (&'static str, &'static str, i32)> {
    (select(&NAMES), select(&PROTOCOLS), select(&PORTS))
}

fn service() -> impl Strategy<Value = Service> {
    let kind = prop_oneof![
        6 => Just("ClusterIP"), 1 => Just("None"), 1 => Just("ExternalName"), 1 => Just("Proxied")
    ];
    let spec = (select(&CLUSTER_IPS), vec(port(), 1..4), kind, any::<bool>(), 0..3_i64);
    (select(&SERVICES), spec).prop_map(|(name, (ip, ports, kind, local, created))| {
        let mut service = object::service(name, ip, &ports);
        let created = Timestamp::from_second(created).expect("a time of ours");
        service.metadata.creation_timestamp = Some(Time(created));
        let spec = service.spec.as_mut().unwrap();
        spec.internal_traffic_policy = Some(if local { "Local" } else { "Cluster" }.to_owned());
        match kind {
            "None" => {
                spec.cluster_ip = Some("None".to_owned());
                spec.cluster_ips = Some(vec!["None".to_owned()]);
            }
            "Proxied" => {
                let label = "service.kubernetes.io/service-proxy-name".to_owned();
                service.metadata.labels = Some(BTreeMap::from([(label, "other".to_owned())]));
            }
            kind => spec.type_ = Some(kind.to_owned()),
        }
        service
    })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let condition = || option::of(any::<bool>());
    let node = option::of(select(&[NODE, "node-1"]));
    (1..5_u8, condition(), condition(), condition(), node).prop_map(
        |(last, ready, serving, terminating, node)| {
            let address = format!("10.244.0.{last}");
            let mut endpoint = object::endpoint(&address, ready, serving, terminating);
            endpoint.node_name = node.map(ToOwned::to_owned);
            endpoint
        },
    )
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let kind = prop_oneof![
        6 => Just("IPv4"), 1 => Just("IPv6"), 1 => Just("FQDN"), 1 => Just("Headless")
    ];
    let ports = vec((select(&NAMES), select(&PROTOCOLS), select(&[8080, 8081])), 0..3);
    (select(&SLICES), select(&SERVICES), ports, vec(endpoint(), 0..5), kind).prop_map(
        |(name, service, ports, endpoints, kind)| {
            let mut slice = object::slice(name, service, &ports, endpoints);
            if kind == "Headless" {
                let label = "service.kubernetes.io/headless".to_owned();
                slice.metadata.labels.get_or_insert_default().insert(label, String::new());
            } else {
                slice.address_type = kind.to_owned();
            }
            slice
        },
    )
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => service().prop_map(|service| Event::Service(Box::new(service))),
        6 => slice().prop_map(|slice| Event::Slice(Box::new(slice))),
        1 => select(&SERVICES).prop_map(Event::RemoveService),
        1 => select(&SLICES).prop_map(Event::RemoveSlice),
        5 => Just(Event::Sync),
    ];
    vec(event, 1..60)
}

/// All that the daemon has, with tables in memory.
struct World {
    model: Model,
    catalog: Catalog,
    planner: Planner,
    tables: MemoryTables,
    now_ms: u64,
}

impl World {
    fn new(limits: Limits) -> Self {
        Self {
            model: Model::default(),
            catalog: Catalog::default(),
            planner: Planner::new(limits),
            tables: MemoryTables::new(limits),
            now_ms: 0,
        }
    }

    fn happen(&mut self, event: &Event) {
        let named = |name: &str| ServiceName::new("default", name);
        match event {
            Event::RemoveService(name) => {
                self.model.services.remove(*name);
                self.catalog.set_service(&named(name), None);
            }
            Event::RemoveSlice(name) => {
                self.model.slices.remove(*name);
                self.catalog.set_slice(&named(name), None);
            }
            Event::Service(service) => {
                let name = service.metadata.name.clone().unwrap();
                self.catalog.set_service(&named(&name), ServiceSpec::from_object(service));
                self.model.services.insert(name, (**service).clone());
            }
            Event::Slice(slice) => {
                let name = slice.metadata.name.clone().unwrap();
                self.catalog.set_slice(&named(&name), SliceSpec::from_object(slice, NODE));
                self.model.slices.insert(name, (**slice).clone());
            }
            Event::Sync => {
                self.sync();
            }
        }
    }

    /// Plan and apply, and look at every address after every operation.
    fn sync(&mut self) -> Plan {
        // Sometimes within the grace time of what was retired, sometimes after it.
        self.now_ms += 400;
        let plan = self.planner.plan(self.now_ms, self.catalog.take_changes());
        let mut seen = vec![self.answers()];
        for op in &plan.ops {
            self.tables.apply(op);
            self.tables.check_readers_of_the_past();
            seen.push(self.answers());
        }
        let (before, after) = (&seen[0], &seen[seen.len() - 1]);
        for answers in &seen {
            for (key, answer) in answers {
                assert!(*answer == before[key] || *answer == after[key], "{key:?} {answer:?}");
            }
        }
        self.tables.check_counters();
        plan
    }

    fn answers(&self) -> BTreeMap<FrontendKey, Answer> {
        universe()
            .map(|(addr, protocol)| key(addr, protocol))
            .map(|key| (key, self.tables.lookup(key)))
            .collect()
    }

    fn check_against_model(&self) {
        for (addr, protocol) in universe() {
            let found = self.tables.lookup(key(addr, protocol));
            assert_eq!(found, self.model.answer(addr, protocol), "{protocol} {addr}");
        }
        let known: Vec<_> = universe().map(|(addr, protocol)| key(addr, protocol)).collect();
        assert!(self.tables.keys().all(|key| known.contains(&key)));
    }
}

/// All addresses that a Service can have here.
fn universe() -> impl Iterator<Item = (SocketAddrV4, &'static str)> {
    CLUSTER_IPS.iter().flat_map(|ip| {
        PORTS.iter().flat_map(|port| {
            let addr = SocketAddrV4::new(ip.parse().unwrap(), *port as u16);
            PROTOCOLS.iter().map(move |protocol| (addr, *protocol))
        })
    })
}

fn key(addr: SocketAddrV4, protocol: &str) -> FrontendKey {
    frontend_key(*addr.ip(), addr.port(), Protocol::parse(Some(protocol)).unwrap())
}

/// Room for all that can happen here.
const ENOUGH: Limits =
    Limits { frontends_max: 64, slots_max: 1024, tcp_peers_max: 1, flows_max: 1 };

/// Not room for all.
const SCARCE: Limits = Limits { frontends_max: 5, slots_max: 11, tcp_peers_max: 1, flows_max: 1 };

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn after_any_events_the_tables_are_what_the_rules_say(events in events()) {
        let mut world = World::new(ENOUGH);
        for event in &events {
            world.happen(event);
            if matches!(event, Event::Sync) {
                world.check_against_model();
            }
        }
        world.sync();
        world.check_against_model();
        let expected = world.model.services.len();
        let settled = world.sync();
        prop_assert_eq!(settled, Plan::default(), "of {} Services", expected);
    }

    #[test]
    fn where_room_is_scarce_each_address_is_right_or_reported(events in events()) {
        let mut world = World::new(SCARCE);
        for event in events.iter().chain([&Event::Sync, &Event::Sync]) {
            world.happen(event);
            if !matches!(event, Event::Sync) {
                continue;
            }
            let waiting: Vec<FrontendKey> =
                world.planner.rejected().map(|rejected| rejected.frontend).collect();
            for (addr, protocol) in universe() {
                let found = world.tables.lookup(key(addr, protocol));
                prop_assert!(
                    found == world.model.answer(addr, protocol)
                        || waiting.contains(&key(addr, protocol)),
                    "{} {} {:?}", protocol, addr, found
                );
            }
        }
        // Once there is room everything finds its place.
        for name in SERVICES {
            world.happen(&Event::RemoveService(name));
        }
        world.sync();
        prop_assert!(!world.planner.is_waiting());
        prop_assert_eq!(world.planner.rejected().count(), 0);
        let service = object::service("web", "10.96.0.1", &[("", "TCP", 80)]);
        world.happen(&Event::Service(Box::new(service)));
        for name in SLICES {
            world.happen(&Event::RemoveSlice(name));
        }
        let endpoints = (1..=8).map(|last| object::ready(&format!("10.244.0.{last}"))).collect();
        let slice = object::slice("one", "web", &[("", "TCP", 8080)], endpoints);
        world.happen(&Event::Slice(Box::new(slice)));
        world.sync();
        world.check_against_model();
    }

    #[test]
    fn the_plan_does_not_depend_on_how_the_tables_came_about(events in events()) {
        let mut world = World::new(ENOUGH);
        for event in &events {
            world.happen(event);
        }
        world.sync();
        let mut fresh = World::new(ENOUGH);
        for service in world.model.services.values().rev() {
            fresh.happen(&Event::Service(Box::new(service.clone())));
        }
        for slice in world.model.slices.values().rev() {
            fresh.happen(&Event::Slice(Box::new(slice.clone())));
        }
        fresh.sync();
        prop_assert_eq!(world.answers(), fresh.answers());
    }
}
