//! Maps that are full are replaced by larger ones while they are in use.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pintle_dataplane::plan::{
    DesiredPort, DesiredService, LocalDetector, Planner, Protocol, ServiceName, frontend_key,
};
use pintle_dataplane::{Dataplane, Limits, NodeNamespace, PinnedMaps, Pins};
use pintle_ebpf_common::flag;
use pintle_node::NetNs;

use crate::agent::Agent;
use crate::backend::Backend;
use crate::cgroup::Cgroup;
use crate::fixture::service;

/// Pins of one test, removed at its end.
struct Pinned {
    pins: Pins,
    cgroup: Cgroup,
}

impl Pinned {
    fn new(name: &str) -> Self {
        let cluster = format!("test-grow-{}", std::process::id());
        Self { pins: Pins::of(&cluster, name), cgroup: Cgroup::new() }
    }

    fn load(&self) -> (Dataplane, Planner) {
        Dataplane::load_pinned(self.cgroup.path(), SMALL, &self.pins)
            .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.pins.remove().unwrap();
    }
}

fn web(last: u8, protocol: Protocol, backends: &[SocketAddr]) -> (ServiceName, DesiredService) {
    let port = DesiredPort::new(service(last, 80), protocol, backends);
    let name = ServiceName::new("test", &format!("web-{last}-{}", protocol.number()));
    (name, DesiredService { created_ms: 0, ports: vec![Arc::new(port)] })
}

/// What the daemon does when there is no room.
fn sync(
    (dataplane, planner): (&mut Dataplane, &mut Planner),
    changes: Vec<(ServiceName, DesiredService)>,
) {
    dataplane.apply(&planner.plan(0, changes).ops).unwrap();
    let limits = planner.wider(false).expect("there is no room");
    dataplane
        .grow(limits)
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
    planner.grow(limits);
    let plan = planner.plan(0, []);
    dataplane.apply(&plan.ops).unwrap();
    assert!(!planner.lacks_room());
    assert_eq!(dataplane.limits(), limits);
}

#[test]
#[ignore = "needs root"]
fn no_connection_fails_while_maps_grow_and_the_next_process_finds_them_grown() {
    let pinned = Pinned::new("storm");
    let (tcp, udp) = (Backend::tcp(), Backend::udp());
    let mut agent = Agent::start(pinned.cgroup.path());
    let mut talker = Agent::start(pinned.cgroup.path());
    let (mut dataplane, mut planner) = pinned.load();
    let first = [web(1, Protocol::Tcp, &[tcp.addr()]), web(1, Protocol::Udp, &[udp.addr()])];
    dataplane.apply(&planner.plan(0, first).ops).unwrap();
    assert_eq!(talker.ask(format!("udp-hold {}", service(1, 80))), udp.name());

    agent.begin(format!("storm {} 2 6000", service(1, 80)));
    let many: Vec<_> = (1..=40_u16).map(|port| service(9, port)).collect();
    sync((&mut dataplane, &mut planner), vec![web(2, Protocol::Tcp, &many)]);
    let more = (3..=200).map(|last| web(last, Protocol::Tcp, &[tcp.addr()])).collect();
    sync((&mut dataplane, &mut planner), more);
    assert_eq!(talker.ask("udp-held"), udp.name(), "a socket keeps its translation");
    let answer = agent.answer();
    println!("connections while the maps grew: {answer}");
    let words: Vec<&str> = answer.split(' ').collect();
    assert!(words[1].parse::<u64>().unwrap() > 500, "{answer}");
    assert_eq!(words[3], "0", "{answer}");
    for last in [3, 100, 200] {
        assert!(agent.ask(format!("tcp {}", service(last, 80))).starts_with(&tcp.name()));
    }
    // All were counted but those of the moments in which the counters were copied.
    let key = frontend_key(service(1, 80), Protocol::Tcp);
    let number = planner.published().find(|(_, found, _)| *found == key).unwrap().2;
    let (counted, made) =
        (dataplane.connections(number).unwrap(), words[1].parse::<u64>().unwrap());
    assert!(counted > made / 2 && counted <= made + 3, "{counted} of {made}");

    let grown = dataplane.limits();
    assert!(grown.frontends_max >= 201 && grown.slots_max >= 64, "{grown:?}");
    drop((dataplane, planner));
    assert_eq!(PinnedMaps::open(&pinned.pins).unwrap().services().unwrap().frontends.len(), 201);
    let left = std::fs::read_dir(pinned.pins.path()).unwrap().count();
    assert_eq!(left, 1, "the maps of before are gone");
    let (dataplane, mut planner) = pinned.load();
    assert_eq!(dataplane.limits(), grown);
    let mut all = vec![
        web(1, Protocol::Tcp, &[tcp.addr()]),
        web(1, Protocol::Udp, &[udp.addr()]),
        web(2, Protocol::Tcp, &many),
    ];
    all.extend((3..=200).map(|last| web(last, Protocol::Tcp, &[tcp.addr()])));
    let mut plan = planner.plan(0, all);
    plan.ops.retain(|op| !matches!(op, pintle_dataplane::plan::MapOp::EndFlows { .. }));
    assert_eq!(plan.ops, [], "all is as it should be");
}

/// A client outside, whose packets are translated on the node's link.
#[test]
#[ignore = "needs root"]
fn connections_from_outside_outlive_the_maps() {
    let names = ["client", "node"].map(|what| format!("pintle-g{}-{what}", std::process::id()));
    let [client, node] = names.each_ref().map(|name| NetNs::create(name).unwrap());
    let script = LAYOUT.replace("CLIENT", &names[0]).replace("NODE", &names[1]);
    assert!(Command::new("sh").args(["-ec", &script]).status().unwrap().success());
    let listener = node.run_in(|| TcpListener::bind("192.0.2.1:8080").unwrap()).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(|| echo(stream.unwrap()));
        }
    });

    let pinned = Pinned::new("outside");
    let (mut dataplane, mut planner) = pinned.load();
    let namespace = NodeNamespace::Named(node);
    let detector = LocalDetector::None;
    dataplane.set_node_namespace(&namespace).unwrap();
    dataplane.set_links(&namespace, &detector, &namespace.links().unwrap()).unwrap();
    let outer = |last| -> (ServiceName, DesiredService) {
        let addr = SocketAddr::new([203, 0, 113, last].into(), 80);
        let mut port = DesiredPort::new(addr, Protocol::Tcp, &["192.0.2.1:8080".parse().unwrap()]);
        port.frontends[0].flags = flag::LOAD_BALANCER;
        let name = ServiceName::new("test", &format!("outer-{last}"));
        (name, DesiredService { created_ms: 0, ports: vec![Arc::new(port)] })
    };
    dataplane.apply(&planner.plan(0, [outer(1)]).ops).unwrap();
    let connect = |last: u8| {
        client.run_in(move || TcpStream::connect((std::net::Ipv4Addr::new(203, 0, 113, last), 80)))
    };
    let mut kept = connect(1).unwrap().unwrap();
    kept.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut ask = |text: &str| {
        kept.write_all(text.as_bytes()).unwrap();
        let mut answer = vec![0; text.len()];
        kept.read_exact(&mut answer).unwrap();
        assert_eq!(answer, text.as_bytes());
    };
    ask("before");
    sync((&mut dataplane, &mut planner), (2..=50).map(outer).collect());
    ask("after");
    // What is new is in the larger maps alone, so the link runs the new programs.
    for last in [1, 2, 50] {
        connect(last).unwrap().unwrap_or_else(|error| panic!("{last}: {error}"));
    }
    for namespace in names {
        NetNs::open(&namespace).unwrap().delete().unwrap();
    }
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// Full with the first Services.
const SMALL: Limits = Limits {
    frontends_max: 4,
    slots_max: 8,
    tcp_peers_max: 1024,
    affinity_max: 1024,
    connections_max: 1024,
    source_ranges_max: 64,
    flows_max: 1024,
};

const LAYOUT: &str = "
ip -n NODE link set lo up
ip -n NODE link add eth0 type veth peer name eth0 netns CLIENT
ip -n NODE address add 192.0.2.1/24 dev eth0
ip -n NODE link set eth0 up
ip -n CLIENT link set lo up
ip -n CLIENT address add 192.0.2.2/24 dev eth0
ip -n CLIENT link set eth0 up
ip -n CLIENT route add default via 192.0.2.1
";
