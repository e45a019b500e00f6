//! Random objects in a random order of events.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{
    ClientIPConfig, LoadBalancerIngress, LoadBalancerStatus, Node, NodeAddress, NodeStatus,
    Service, ServiceStatus, SessionAffinityConfig,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointSlice, ForNode, ForZone};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use pintle_ebpf_common::FrontendKey;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::memory::{Answer, CLIENTS, Client, MemoryTables, Terms};
use super::model::{Model, NODE};
use super::object;
use crate::Limits;
use crate::plan::{
    Catalog, MapOp, NodePortAddress, NodeSpec, Plan, Planner, PortName, Protocol, Rejected,
    Rejection, ServiceName, ServiceSpec, SliceSpec, frontend_key, node_port_addresses, socket_addr,
};

/// What happens to a cluster.
#[derive(Clone, Debug)]
enum Event {
    /// The node's links have these addresses from now on.
    Addresses(Vec<&'static str>),
    Node(Box<Node>),
    RemoveService(&'static str),
    RemoveSlice(&'static str),
    /// The process ends, and another takes over the tables.
    Restart,
    Service(Box<Service>),
    Slice(Box<EndpointSlice>),
    /// The changes so far are planned and applied.
    Sync,
}

const SERVICES: [&str; 4] = ["api", "dns", "shop", "web"];
const SLICES: [&str; 5] = ["one", "two", "three", "four", "five"];
const CLUSTER_IPS: [&str; 3] = ["10.96.0.1", "10.96.0.2", "fd00:96::1"];
/// External and load-balancer addresses; the last but one is also the node's own.
const OUTER_IPS: [&str; 4] = ["203.0.113.1", "203.0.113.2", "192.168.1.5", "2001:db8::1"];
const NODE_IPS: [&str; 4] = ["192.168.1.5", "127.0.0.1", "10.0.0.5", "fd00::5"];
const PORTS: [i32; 2] = [53, 80];
const NODE_PORTS: [i32; 2] = [30053, 30080];
const NAMES: [&str; 2] = ["", "http"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const ZONES: [&str; 2] = ["a", "b"];
/// The last asks for nothing that there is.
const WEIGHTS: [&str; 3] = ["10.244.0.0/30=3", "10.244.0.2=7, fd00:244::/126=2", "nonsense"];
const MAGLEV: [&str; 3] = ["1021", "4093", "1000"];
const RANGES: [&str; 4] =
    ["192.168.0.0/16", " 198.51.100.0/24", "198.51.100.7/32", "2001:db8::/32"];

fn port() -> impl Strategy<Value = (&'static str, &'static str, i32)> {
    (select(&NAMES), select(&PROTOCOLS), select(&PORTS))
}

fn policy() -> impl Strategy<Value = Option<String>> {
    select(&[None, Some("Cluster"), Some("Local")]).prop_map(|policy| policy.map(str::to_owned))
}

fn service() -> impl Strategy<Value = Service> {
    let kind = prop_oneof![
        6 => Just("ClusterIP"), 1 => Just("None"), 1 => Just("ExternalName"), 1 => Just("Proxied")
    ];
    let ips = subsequence(CLUSTER_IPS.to_vec(), 1..3);
    let spec = (ips, vec(port(), 1..4), kind, policy(), 0..3_i64);
    (select(&SERVICES), spec, exposure()).prop_map(|(name, spec, exposure)| {
        let (ips, ports, kind, internal, created) = spec;
        let mut service = object::service(name, ips[0], &ports);
        let created = Timestamp::from_second(created).expect("a time of ours");
        service.metadata.creation_timestamp = Some(Time(created));
        let spec = service.spec.as_mut().unwrap();
        spec.internal_traffic_policy = internal;
        // One of each family at most.
        let second = ips.get(1).filter(|ip| ip.contains(':') != ips[0].contains(':'));
        spec.cluster_ips = Some(
            [Some(&ips[0]), second].into_iter().flatten().map(|ip| (*ip).to_owned()).collect(),
        );
        exposure.expose(&mut service);
        let spec = service.spec.as_mut().unwrap();
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

/// What a Service has beside its cluster IPs.
#[derive(Clone, Debug)]
struct Exposure {
    external: Vec<&'static str>,
    load_balancer: Vec<(&'static str, Option<&'static str>)>,
    node_ports: Vec<Option<i32>>,
    policy: Option<String>,
    ranges: Vec<&'static str>,
    /// Session affinity, with or without a time.
    affinity: Option<Option<i32>>,
    maglev: Option<&'static str>,
    weights: Option<(&'static str, &'static str)>,
}

fn exposure() -> impl Strategy<Value = Exposure> {
    let outer = || subsequence(OUTER_IPS.to_vec(), 0..3);
    let modes = vec(select(&[None, Some("VIP"), Some("Proxy")]), 3);
    let node_ports = vec(option::of(select(&NODE_PORTS)), 4);
    let affinity = option::of(option::of(1..100_i32));
    let maglev = option::weighted(0.3, select(&MAGLEV));
    let ranges = subsequence(RANGES.to_vec(), 0..3);
    let weights = option::of(select(&WEIGHTS).prop_map(|text| ("pintle.dev/weights", text)));
    let chosen = (affinity, maglev, weights);
    (outer(), outer(), modes, node_ports, policy(), ranges, chosen).prop_map(
        |(external, ips, modes, node_ports, policy, ranges, (affinity, maglev, weights))| {
            Exposure {
                maglev,
                weights,
                external,
                load_balancer: ips.into_iter().zip(modes).collect(),
                node_ports,
                policy,
                ranges,
                affinity,
            }
        },
    )
}

impl Exposure {
    fn expose(self, service: &mut Service) {
        let annotation = |(name, text): (&str, &str)| (name.to_owned(), text.to_owned());
        if let Some(places) = self.maglev {
            let weights = self.weights.filter(|_| places != "1000");
            let said = [Some(("pintle.dev/maglev", places)), weights];
            let said = said.into_iter().flatten().map(annotation);
            service.metadata.annotations = Some(said.collect());
        }
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let spec = service.spec.as_mut().unwrap();
        spec.external_ips = Some(owned(self.external));
        spec.external_traffic_policy = self.policy;
        spec.load_balancer_source_ranges = Some(owned(self.ranges));
        for (port, node_port) in spec.ports.iter_mut().flatten().zip(self.node_ports) {
            port.node_port = node_port;
        }
        if let Some(timeout_seconds) = self.affinity {
            spec.session_affinity = Some("ClientIP".to_owned());
            let client_ip = Some(ClientIPConfig { timeout_seconds });
            spec.session_affinity_config = Some(SessionAffinityConfig { client_ip });
        }
        let ingress = |(ip, mode): (&str, Option<&str>)| LoadBalancerIngress {
            ip: Some(ip.to_owned()),
            ip_mode: mode.map(str::to_owned),
            ..LoadBalancerIngress::default()
        };
        let ingress = Some(self.load_balancer.into_iter().map(ingress).collect());
        let load_balancer = Some(LoadBalancerStatus { ingress });
        service.status = Some(ServiceStatus { load_balancer, ..ServiceStatus::default() });
    }
}

fn endpoint(v4: bool) -> impl Strategy<Value = Endpoint> {
    let condition = || option::of(any::<bool>());
    let node = option::of(select(&[NODE, "node-1"]));
    let hints =
        (subsequence(vec![NODE, "node-1"], 0..=2), subsequence(ZONES.to_vec(), 0..=2), 0..4_u8);
    (1..5_u8, condition(), condition(), condition(), node, hints).prop_map(
        move |(last, ready, serving, terminating, node, (nodes, zones, hinted))| {
            let address = if v4 { format!("10.244.0.{last}") } else { format!("fd00:244::{last}") };
            let mut endpoint = object::endpoint(&address, ready, serving, terminating);
            endpoint.node_name = node.map(ToOwned::to_owned);
            let for_nodes = nodes.into_iter().map(|name| ForNode { name: name.to_owned() });
            let for_zones = zones.into_iter().map(|name| ForZone { name: name.to_owned() });
            endpoint.hints = Some(EndpointHints {
                for_nodes: Some(for_nodes.collect()).filter(|_| hinted & 1 != 0),
                for_zones: Some(for_zones.collect()).filter(|_| hinted & 2 != 0),
            });
            endpoint
        },
    )
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let kind = prop_oneof![
        6 => Just("IPv4"), 4 => Just("IPv6"), 1 => Just("FQDN"), 1 => Just("Headless")
    ];
    kind.prop_flat_map(|kind| {
        let ports = vec((select(&NAMES), select(&PROTOCOLS), select(&[8080, 8081])), 0..3);
        let endpoints = vec(endpoint(kind != "IPv6"), 0..5);
        (select(&SLICES), select(&SERVICES), ports, endpoints).prop_map(
            move |(name, service, ports, endpoints)| {
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
    })
}

fn node() -> impl Strategy<Value = Node> {
    let addresses = subsequence(NODE_IPS.to_vec(), 0..3);
    (option::of(select(&ZONES)), addresses).prop_map(|(zone, addresses)| {
        let mut node = Node::default();
        let zone = zone.map(|zone| ("topology.kubernetes.io/zone".to_owned(), zone.to_owned()));
        node.metadata.labels = zone.map(|label| BTreeMap::from([label]));
        let address = |ip: &str| NodeAddress { type_: "InternalIP".into(), address: ip.into() };
        let addresses = addresses.into_iter().map(address).collect();
        node.status = Some(NodeStatus { addresses: Some(addresses), ..NodeStatus::default() });
        node
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => service().prop_map(|service| Event::Service(Box::new(service))),
        6 => slice().prop_map(|slice| Event::Slice(Box::new(slice))),
        1 => select(&SERVICES).prop_map(Event::RemoveService),
        1 => select(&SLICES).prop_map(Event::RemoveSlice),
        1 => node().prop_map(|node| Event::Node(Box::new(node))),
        1 => subsequence(NODE_IPS.to_vec(), 0..=4).prop_map(Event::Addresses),
        1 => Just(Event::Restart),
        5 => Just(Event::Sync),
    ];
    vec(event, 1..60)
}

/// All that the daemon has, with tables in memory.
struct World {
    limits: Limits,
    model: Model,
    catalog: Catalog,
    planner: Planner,
    tables: MemoryTables,
    interfaces: Vec<IpAddr>,
    now_ms: u64,
    /// Whether the maps grow where there is no room.
    grows: bool,
    /// The datagram flows when the latest plan was made.
    flows: BTreeSet<(FrontendKey, pintle_ebpf_common::Endpoint)>,
}

impl World {
    fn check_rings(&self) {
        self.tables.check_rings(|service| self.model.weights(&service.name));
    }
}

impl World {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            model: Model::default(),
            catalog: Catalog::default(),
            planner: Planner::new(limits),
            tables: MemoryTables::new(limits),
            interfaces: Vec::new(),
            now_ms: 0,
            grows: false,
            flows: BTreeSet::new(),
        }
    }

    fn happen(&mut self, event: &Event) {
        let named = |name: &str| ServiceName::new("default", name);
        match event {
            Event::Addresses(addresses) => {
                self.interfaces = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            }
            Event::Node(node) => {
                self.catalog.set_node(NodeSpec::from_object(node));
                self.model.node = (**node).clone();
            }
            Event::RemoveService(name) => {
                self.model.services.remove(*name);
                self.catalog.set_service(&named(name), None);
            }
            Event::RemoveSlice(name) => {
                self.model.slices.remove(*name);
                self.catalog.set_slice(&named(name), None);
            }
            Event::Restart => self.restart(),
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

    /// A new process knows what the tables and the API say, and nothing else.
    fn restart(&mut self) {
        self.planner = Planner::restore(self.limits, self.tables.inventory());
        self.catalog = Catalog::default();
        let model = self.model.clone();
        self.happen(&Event::Node(Box::new(model.node)));
        for service in model.services.into_values() {
            self.happen(&Event::Service(Box::new(service)));
        }
        for slice in model.slices.into_values() {
            self.happen(&Event::Slice(Box::new(slice)));
        }
    }

    /// Plan and apply, and look at every address after every operation.
    fn sync(&mut self) -> Plan {
        // Sometimes within the grace time of what was retired, sometimes after it.
        self.now_ms += 400;
        for (client, addr, protocol) in universe().filter(|(.., protocol)| *protocol == "UDP") {
            self.tables.begin_flows(client, key(addr, protocol));
        }
        self.flows = self.tables.flows.clone();
        let mut plan = self.planner.plan(self.now_ms, self.catalog.take_changes());
        self.apply(&plan);
        if self.grows
            && let Some(limits) = self.planner.wider(true)
        {
            self.limits = limits;
            self.planner.grow(limits);
            self.tables.grow(limits);
            let more = self.planner.plan(self.now_ms, []);
            self.apply(&more);
            plan.ops.extend(more.ops);
        }
        let wanted = [NodePortAddress::All];
        let addresses = node_port_addresses(&wanted, self.catalog.node(), &self.interfaces);
        let of_node = self.planner.plan_node_addresses(addresses);
        self.apply(&of_node);
        plan.ops.extend(of_node.ops);
        self.model.node_addresses = self.interfaces.iter().copied().collect();
        self.check_numbers();
        plan
    }

    fn apply(&mut self, plan: &Plan) {
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
    }

    /// Sync until there is nothing left to take away.
    fn settle(&mut self) -> Plan {
        for _ in 0..4 {
            self.sync();
        }
        self.sync()
    }

    fn answers(&self) -> BTreeMap<(Client, FrontendKey), (Answer, Option<Terms>)> {
        universe()
            .map(|(client, addr, protocol)| (client, key(addr, protocol)))
            .map(|(client, key)| {
                let terms = self.tables.terms(client, key);
                ((client, key), (self.tables.lookup(client, key), terms))
            })
            .collect()
    }

    /// The flows that are left are those whose backends serve.
    fn check_flows(&self) {
        for (_, addr, protocol) in universe().filter(|(.., protocol)| *protocol == "UDP") {
            // What became of flows by an address that is not the node's any more nobody asks.
            let of_node = self.model.node_addresses.contains(&addr.ip());
            if NODE_PORTS.contains(&i32::from(addr.port())) && !of_node {
                continue;
            }
            let serving = self.model.serving(addr, protocol);
            let key = key(addr, protocol);
            for flow in self.flows.iter().filter(|(to, _)| *to == key) {
                let goes_on = serving.contains(&socket_addr(flow.1));
                assert_eq!(self.tables.flows.contains(flow), goes_on, "{addr} {flow:?}");
            }
        }
    }

    fn check_against_model(&self) {
        for (client, addr, protocol) in universe() {
            let key = key(addr, protocol);
            let who = format!("{client:?} to {protocol} {addr}");
            let expected = self.model.answer(client, addr, protocol);
            assert_eq!(self.tables.lookup(client, key), expected, "{who}");
            let expected = self.model.terms(client, addr, protocol);
            assert_eq!(self.tables.terms(client, key), expected, "{who}");
        }
        let known: BTreeSet<_> =
            universe().map(|(_, addr, protocol)| key(addr, protocol)).collect();
        assert!(self.tables.keys().all(|key| {
            known.contains(&key) || known.iter().any(|other| other.node_port() == key)
        }));
    }

    /// All addresses of a Service's port and family have one number, and no other port has it.
    fn check_numbers(&self) {
        let published = self.planner.published();
        let names: BTreeMap<FrontendKey, PortName> =
            published.map(|(name, key, _)| (key, name.clone())).collect();
        self.tables.check_numbers(&names);
    }
}

/// Who can ask for which address here.
fn universe() -> impl Iterator<Item = (Client, SocketAddr, &'static str)> {
    let ips = || CLUSTER_IPS.iter().chain(&OUTER_IPS).chain(&NODE_IPS).collect::<BTreeSet<_>>();
    CLIENTS.into_iter().flat_map(move |client| {
        ips().into_iter().flat_map(move |ip| {
            PORTS.iter().chain(&NODE_PORTS).flat_map(move |port| {
                let addr = SocketAddr::new(ip.parse().unwrap(), *port as u16);
                PROTOCOLS.iter().map(move |protocol| (client, addr, *protocol))
            })
        })
    })
}

fn key(addr: SocketAddr, protocol: &str) -> FrontendKey {
    frontend_key(addr, Protocol::parse(Some(protocol)).unwrap())
}

/// Room for all that can happen here.
const ENOUGH: Limits = Limits {
    frontends_max: 256,
    slots_max: 65_536,
    tcp_peers_max: 1,
    affinity_max: 1,
    connections_max: 1,
    source_ranges_max: 256,
    flows_max: 1,
};

/// Not room for all.
const SCARCE: Limits = Limits { frontends_max: 7, slots_max: 23, source_ranges_max: 3, ..ENOUGH };

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn after_any_events_the_tables_are_what_the_rules_say(events in events()) {
        let mut world = World::new(ENOUGH);
        for event in &events {
            world.happen(event);
            if matches!(event, Event::Sync) {
                world.check_against_model();
                world.check_flows();
            }
        }
        world.sync();
        world.check_against_model();
        world.check_flows();
        world.check_rings();
        prop_assert_eq!(world.settle(), Plan::default());
        // Another process finds everything as it would have it.
        world.restart();
        let mut ops = world.sync().ops;
        // But does not know what went on meanwhile.
        ops.retain(|op| !matches!(op, MapOp::EndFlows { .. }));
        prop_assert_eq!(ops, []);
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
            for (client, addr, protocol) in universe() {
                let key = key(addr, protocol);
                let found = world.tables.lookup(client, key);
                prop_assert!(
                    found == world.model.answer(client, addr, protocol)
                        || waiting.contains(&key)
                        || waiting.contains(&key.node_port()),
                    "{} {} {:?}", protocol, addr, found
                );
            }
        }
        // Once there is room everything finds its place.
        for name in SERVICES {
            world.happen(&Event::RemoveService(name));
        }
        world.settle();
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
    fn where_maps_grow_everything_finds_its_place(events in events()) {
        let mut world = World { grows: true, ..World::new(SCARCE) };
        for event in &events {
            world.happen(event);
        }
        world.settle();
        world.check_against_model();
        world.check_rings();
        let claimed = |rejected: &Rejected| matches!(rejected.reason, Rejection::Claimed(_));
        prop_assert!(world.planner.rejected().all(|rejected| claimed(&rejected)));
        prop_assert!(!world.planner.lacks_room());
    }

    #[test]
    fn the_plan_does_not_depend_on_how_the_tables_came_about(events in events()) {
        let mut world = World::new(ENOUGH);
        for event in &events {
            world.happen(event);
        }
        world.sync();
        let mut fresh = World::new(ENOUGH);
        fresh.interfaces = world.interfaces.clone();
        fresh.happen(&Event::Node(Box::new(world.model.node.clone())));
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
