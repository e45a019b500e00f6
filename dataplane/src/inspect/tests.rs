//! Rows and ways of tables that a plan has filled.

use std::net::SocketAddr;
use std::sync::Arc;

use pintle_ebpf_common::{Tracked, Tuple, flag, hook, node_address, setting, tracked};

use super::*;
use crate::Limits;
use crate::plan::{
    DesiredFrontend, DesiredPort, DesiredService, Family, MapOp, Planner, Policy, PortId, Protocol,
    ServiceName, address, endpoint, frontend_key, socket_addr,
};

/// What the operations of a plan make of empty tables.
fn apply(tables: &mut Tables, ops: Vec<MapOp>) {
    for op in ops {
        match op {
            MapOp::PutService { service, port } => {
                let mut label = ServiceLabel {
                    namespace: [0; 64],
                    name: [0; 64],
                    port: [0; 64],
                    protocol: port.port.protocol.number(),
                    family: if port.port.family == Family::V4 { 4 } else { 6 },
                    padding: [0; 6],
                };
                let put = |field: &mut [u8; 64], text: &str| {
                    field[..text.len()].copy_from_slice(text.as_bytes());
                };
                put(&mut label.namespace, &port.service.namespace);
                put(&mut label.name, &port.service.name);
                put(&mut label.port, &port.port.name);
                tables.services.insert(service, label);
            }
            MapOp::WriteSlots { base, table, backends } => {
                for (number, backend) in (base..).zip(backends.iter()) {
                    tables.slots.insert(number, Slot::new(*backend, table));
                }
            }
            MapOp::PutFrontend { key, frontend } => {
                tables.frontends.insert(key, frontend);
            }
            MapOp::PutSourceRange { ranges, cidr } => tables.source_ranges.push(SourceRangeEntry {
                ranges,
                address: cidr.address,
                bits: u32::from(cidr.bits),
            }),
            MapOp::PutNodeAddress { address, flags } => {
                tables.node_addresses.insert(address, flags);
            }
            other => panic!("{other:?} in a plan for empty tables"),
        }
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A Service of every kind of address: two endpoints, the first of them on this node.
fn shop(affinity_seconds: u32, ranges: &[&str]) -> Tables {
    let cluster = ["10.244.1.5:8080", "10.244.2.7:8080"].map(|text| endpoint(addr(text)));
    let frontend = |at: &str, flags: u32, external: Policy| DesiredFrontend {
        key: frontend_key(addr(at), Protocol::Tcp),
        internal: Policy::Cluster,
        external,
        checks_source: flags & flag::LOAD_BALANCER != 0,
        flags,
    };
    let port = DesiredPort {
        id: PortId { name: "http".into(), protocol: Protocol::Tcp, family: Family::V4 },
        cluster: cluster.into(),
        local: cluster[..1].into(),
        serving: [].into(),
        affinity_seconds,
        ring: 0,
        weights: None,
        source_ranges: ranges
            .iter()
            .map(|cidr| cidr.parse::<ipnet::IpNet>().unwrap().into())
            .collect(),
        frontends: vec![
            frontend("10.96.0.10:80", flag::CLUSTER_IP, Policy::Cluster),
            frontend("0.0.0.0:30080", flag::NODE_PORT | flag::MASQUERADE, Policy::Cluster),
            frontend("203.0.113.7:80", flag::LOAD_BALANCER, Policy::Local),
        ],
    };
    let empty = DesiredPort {
        cluster: [].into(),
        local: [].into(),
        ..DesiredPort::new(addr("10.96.0.11:53"), Protocol::Udp, &[])
    };
    let service = |port| DesiredService { created_ms: 0, ports: vec![Arc::new(port)] };
    let mut planner = Planner::new(Limits::default());
    let mut tables = Tables::default();
    let services = [
        (ServiceName::new("shop", "web"), service(port)),
        (ServiceName::new("shop", "empty"), service(empty)),
    ];
    apply(&mut tables, planner.plan(0, services).ops);
    let node = [(address("192.0.2.1".parse().unwrap()), node_address::NODE_PORTS)].into();
    apply(&mut tables, planner.plan_node_addresses(node).ops);
    tables.settings.flags = setting::NODE_PORTS | setting::DETECTS_LOCAL;
    let pods = "10.244.0.0/16".parse::<ipnet::IpNet>().unwrap();
    let local = MapOp::PutSourceRange { ranges: 0, cidr: pods.into() };
    apply(&mut tables, vec![local]);
    tables
}

fn ask(tables: &Tables, from: &str, to: &str, protocol: Protocol) -> Trace {
    ask_with(tables, &Flows::default(), from, to, protocol)
}

fn ask_with(tables: &Tables, flows: &Flows, from: &str, to: &str, protocol: Protocol) -> Trace {
    let (source, destination) = (addr(from), addr(to));
    trace(tables, flows, TraceRequest { source, destination, protocol, place: None, now_ns: 10 })
}

fn went(backends: &[&str], masquerade: bool) -> Verdict {
    Verdict::Backend { backends: backends.iter().map(|text| addr(text)).collect(), masquerade }
}

const BOTH: [&str; 2] = ["10.244.1.5:8080", "10.244.2.7:8080"];

#[test]
fn services_stand_in_the_order_of_their_names() {
    let rows = services(&shop(0, &[]));
    let shown: Vec<String> = rows
        .iter()
        .map(|row| {
            let ServiceRow { namespace, name, port_name, .. } = row;
            let to = SocketAddr::new(row.address, row.port);
            let (kind, inside, outside) = (row.kind.name(), row.backends, row.external_backends);
            format!(
                "{namespace}/{name}:{port_name} {kind} {to}/{} {inside} {outside}",
                row.protocol
            )
        })
        .collect();
    let expected = [
        "shop/empty: ClusterIP 10.96.0.11:53/UDP 0 0",
        "shop/web:http ClusterIP 10.96.0.10:80/TCP 2 2",
        "shop/web:http LoadBalancer 203.0.113.7:80/TCP 2 1",
        "shop/web:http NodePort 0.0.0.0:30080/TCP 2 2",
    ];
    assert_eq!(shown, expected);
    assert_eq!(rows[0].otherwise, "reject");
    assert!(rows.iter().all(|row| row.whole));
    let json = serde_json::to_value(&rows[1]).unwrap();
    assert_eq!(json["portName"], "http");
    assert_eq!(json["kind"], "ClusterIP");
}

#[test]
fn a_record_that_is_being_replaced_is_shown_as_such() {
    let mut tables = shop(0, &[]);
    let frontend = tables.frontends.values_mut().next().unwrap();
    frontend.affinity_seconds += 1;
    assert_eq!(services(&tables).iter().filter(|row| !row.whole).count(), 1);
    // Slots of another table are none of its backends.
    for slot in tables.slots.values_mut() {
        slot.seal ^= 1;
    }
    assert_eq!(backends(&tables), []);
}

#[test]
fn backends_say_for_whom_they_are() {
    let rows = backends(&shop(0, &[]));
    let shown: Vec<_> =
        rows.iter().map(|row| (row.backend.to_string(), row.internal, row.external)).collect();
    let expected = BOTH.map(|backend| (backend.to_owned(), true, true));
    assert_eq!(shown, expected);
    assert_eq!(rows[0].share_ppm, 500_000);
}

#[test]
fn the_way_of_a_client_by_where_it_is() {
    let tables = shop(0, &[]);
    let cluster_ip = |from| ask(&tables, from, "10.96.0.10:80", Protocol::Tcp);
    let pod = cluster_ip("10.244.9.9:4000");
    assert_eq!((pod.place, &pod.verdict), (Place::Pod, &went(&BOTH, false)));
    assert_eq!(pod.rule, "each connection draws one, with equal chances");
    let tables_looked: Vec<_> = pod.steps.iter().map(|step| step.table).collect();
    assert_eq!(tables_looked, ["CLIENT", "FRONTENDS", "SLOTS"]);
    assert_eq!(pod.steps[1].found, "ClusterIP of shop/web:http");
    let node = cluster_ip("192.0.2.1:4000");
    assert_eq!((node.place, &node.verdict), (Place::Node, &went(&BOTH, false)));
    let outside = cluster_ip("198.51.100.9:4000");
    assert_eq!((outside.place, &outside.verdict), (Place::Outside, &went(&BOTH, true)));

    let node_port = |from, to| ask(&tables, from, to, Protocol::Tcp).verdict;
    assert_eq!(node_port("198.51.100.9:4000", "192.0.2.1:30080"), went(&BOTH, true));
    assert_eq!(node_port("10.244.9.9:4000", "192.0.2.1:30080"), went(&BOTH, false));
    assert_eq!(node_port("198.51.100.9:4000", "192.0.2.2:30080"), Verdict::NotService);
    assert_eq!(node_port("198.51.100.9:4000", "192.0.2.1:30081"), Verdict::NotService);

    // Local for clients from outside, Cluster for the cluster's own.
    let balanced = |from| ask(&tables, from, "203.0.113.7:80", Protocol::Tcp).verdict;
    assert_eq!(balanced("198.51.100.9:4000"), went(&BOTH[..1], false));
    assert_eq!(balanced("10.244.9.9:4000"), went(&BOTH, false));
}

#[test]
fn who_is_turned_away_and_by_which_rule() {
    let tables = shop(0, &["198.51.100.0/24"]);
    let balanced = |from| ask(&tables, from, "203.0.113.7:80", Protocol::Tcp);
    assert_eq!(balanced("198.51.100.9:4000").verdict, went(&BOTH[..1], false));
    let refused = balanced("198.51.101.9:4000");
    assert_eq!(refused.verdict, Verdict::Drop);
    assert_eq!(refused.rule, "loadBalancerSourceRanges leave the client out");
    let empty = ask(&tables, "10.244.9.9:4000", "10.96.0.11:53", Protocol::Udp);
    assert_eq!(
        (empty.verdict, empty.rule.as_str()),
        (Verdict::Reject, "the Service has no endpoint")
    );
    let other = ask(&tables, "10.244.9.9:4000", "10.96.0.12:53", Protocol::Udp);
    assert_eq!(other.verdict, Verdict::NotService);
    assert_eq!(other.rule, "10.96.0.12:53/UDP is no Service's address");
}

#[test]
fn a_client_comes_back_while_its_affinity_lasts() {
    let tables = shop(60, &[]);
    let client = address("198.51.100.9".parse().unwrap());
    let (_, frontend) = tables
        .frontends
        .iter()
        .find(|(key, _)| key.address == address("10.96.0.10".parse().unwrap()))
        .unwrap();
    let key = AffinityKey { client, service: frontend.service, padding: 0 };
    let mut flows = Flows::default();
    let ask = |flows: &Flows| {
        ask_with(&tables, flows, "198.51.100.9:4000", "10.96.0.10:80", Protocol::Tcp)
    };
    assert!(ask(&flows).rule.starts_with("session affinity: draws one"));
    let known = Affinity { backend: endpoint(addr(BOTH[1])), used_ns: 1 };
    flows.affinity.insert(key, known);
    assert_eq!(ask(&flows).verdict, went(&BOTH[1..], true));
    flows.affinity.insert(key, Affinity { backend: endpoint(addr("10.244.3.3:1")), ..known });
    assert_eq!(ask(&flows).verdict, went(&BOTH, true));
}

/// The four entries that a masqueraded connection to a node port leaves.
fn masqueraded() -> Flows {
    let tuple = |hook, from: &str, to: &str| {
        let (from, to) = (endpoint(addr(from)), endpoint(addr(to)));
        Tuple {
            source: from.address,
            destination: to.address,
            source_port_be: from.port_be,
            destination_port_be: to.port_be,
            protocol: Protocol::Tcp.number(),
            hook,
            padding: [0; 2],
        }
    };
    let (client, node, inner) = ("198.51.100.9:4000", "192.0.2.1:30080", "10.244.1.1:2345");
    let entries = [
        (hook::INGRESS, client, node, client, BOTH[0], 0),
        (hook::EGRESS, client, BOTH[0], inner, BOTH[0], 0),
        (hook::INGRESS, BOTH[0], inner, BOTH[0], client, tracked::REPLY),
        (hook::EGRESS, BOTH[0], client, node, client, tracked::REPLY),
    ];
    let tracked = entries.map(|(hook, from, to, new_from, new_to, flags)| {
        let to_tuple = tuple(hook, new_from, new_to);
        (tuple(hook, from, to), Tracked { to: to_tuple, paired_ticks: 0, flags, service: 1 })
    });
    Flows { tracked: tracked.into(), ..Flows::default() }
}

#[test]
fn one_row_for_the_four_entries_of_a_connection() {
    let tables = shop(0, &[]);
    let mut flows = masqueraded();
    let web =
        Translation { service: endpoint(addr("10.96.0.10:80")), backend: endpoint(addr(BOTH[1])) };
    flows.tcp.insert(77, web);
    flows.tcp.insert(78, web);
    flows.connected.insert(79, web);
    let sockets = Sockets::from([(78, addr("10.244.9.9:4001"))]);
    let rows = connections(&tables, &flows, &sockets);
    assert_eq!(rows.len(), 4);
    let packet = &rows[0];
    assert_eq!(packet.client, Some(addr("198.51.100.9:4000")));
    assert_eq!(packet.service_address, addr("192.0.2.1:30080"));
    assert_eq!(packet.backend, addr(BOTH[0]));
    assert_eq!(packet.masqueraded_as, Some(addr("10.244.1.1:2345")));
    let [unknown, known, connected] = &rows[1..] else { panic!("{rows:?}") };
    assert_eq!((connected.protocol, connected.socket), ("UDP", Some(79)));
    assert_eq!((unknown.client, unknown.socket), (None, Some(77)));
    assert_eq!((known.client, known.name.as_str()), (Some(addr("10.244.9.9:4001")), "web"));
    assert_eq!(socket_addr(web.backend), known.backend);
}

#[test]
fn a_known_connection_stays_where_it_is() {
    let tables = shop(0, &[]);
    let known =
        ask_with(&tables, &masqueraded(), "198.51.100.9:4000", "192.0.2.1:30080", Protocol::Tcp);
    assert_eq!(known.verdict, went(&BOTH[..1], true));
    assert_eq!(known.rule, "the connection is known, and stays with its backend");
}
