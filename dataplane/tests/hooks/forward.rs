//! Packets of clients outside the node: a client, a node and a pod, each a network namespace.
//!
//! ```text
//! client 192.0.2.2, 2001:db8::2 ── eth0 node cni0 ── pod 10.244.9.2, fd00:9::2
//!                192.0.2.1, 2001:db8::1      10.244.9.1, fd00:9::1
//! ```

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use pintle_dataplane::plan::{
    DesiredFrontend, DesiredPort, DesiredService, LocalDetector, NodeSpec, Planner, Policy,
    Protocol, ServiceName, SourceCidr, frontend_key, node_port_addresses,
};
use pintle_dataplane::{Dataplane, Limits, NodeNamespace};
use pintle_ebpf_common::flag;
use pintle_node::NetNs;

use crate::cgroup::Cgroup;

pub(crate) struct World {
    pub(crate) client: NetNs,
    pub(crate) node: NetNs,
    pub(crate) pod: NetNs,
    pub(crate) dataplane: Dataplane,
    pub(crate) planner: Planner,
    pub(crate) cgroup: Cgroup,
}

pub(crate) const CLIENT: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
pub(crate) const NODE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
pub(crate) const POD: [&str; 2] = ["10.244.9.2", "fd00:9::2"];
pub(crate) const GATEWAY: [&str; 2] = ["10.244.9.1", "fd00:9::1"];
/// Of nobody: the client sends what is for it to the node.
const OUTER: [&str; 2] = ["203.0.113.7", "2001:db8:7::7"];

impl World {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let make = |what| {
            let name = format!("pintle-t{}-{number}-{what}", std::process::id());
            NetNs::create(&name).unwrap()
        };
        let (client, node, pod) = (make("client"), make("node"), make("pod"));
        let names = [&client, &node, &pod].map(|namespace| namespace.name().to_owned());
        let script = LAYOUT
            .replace("CLIENT", &names[0])
            .replace("NODE", &names[1])
            .replace("POD", &names[2]);
        let made = Command::new("sh").args(["-ec", &script]).status().unwrap();
        assert!(made.success());
        for pod in POD {
            wait_for_the_way(&client, at(pod, UNUSED_PORT));
        }

        let cgroup = Cgroup::new();
        let (dataplane, planner) = load(&cgroup, &node);
        Self { client, node, pod, dataplane, planner, cgroup }
    }

    /// Publish one address of a Service whose endpoints are these.
    pub(crate) fn publish(
        &mut self,
        address: Published,
        cluster: &[SocketAddr],
        local: &[SocketAddr],
    ) {
        publish((&mut self.dataplane, &mut self.planner), address, cluster, local);
    }

    /// What the pod's server tells a client outside: the client's address as it sees it.
    pub(crate) fn ask(&self, to: SocketAddr) -> Result<String, std::io::ErrorKind> {
        self.client.run_in(move || ask(to)).unwrap()
    }
}

/// A dataplane on all links of the node.
fn load(cgroup: &Cgroup, node: &NetNs) -> (Dataplane, Planner) {
    let mut dataplane = Dataplane::load(cgroup.path(), Limits::default())
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
    let namespace = NodeNamespace::Named(node.clone());
    let detector = LocalDetector::Cidrs(vec!["10.244.0.0/16".parse().unwrap()]);
    dataplane.set_node_namespace(&namespace).unwrap();
    dataplane.set_local(&detector, false).unwrap();
    let links = namespace.links().unwrap();
    dataplane.set_links(&namespace, &detector, &links).unwrap();
    let mut planner = Planner::new(Limits::default());
    let ips: Vec<IpAddr> = links.iter().flat_map(|link| &link.addresses).copied().collect();
    let addresses = node_port_addresses(&[], &NodeSpec::default(), &ips);
    dataplane.apply(&planner.plan_node_addresses(addresses).ops).unwrap();
    (dataplane, planner)
}

fn publish(
    (dataplane, planner): (&mut Dataplane, &mut Planner),
    address: Published,
    cluster: &[SocketAddr],
    local: &[SocketAddr],
) {
    let of = |to: &[SocketAddr]| DesiredPort::new(address.addr, address.protocol, to).cluster;
    let frontend = DesiredFrontend {
        key: frontend_key(address.addr, address.protocol),
        internal: Policy::Cluster,
        external: address.policy,
        checks_source: !address.ranges.is_empty(),
        flags: address.flags,
    };
    let port = DesiredPort {
        cluster: of(cluster),
        local: of(local),
        source_ranges: address.ranges.into(),
        frontends: vec![frontend],
        ..DesiredPort::new(address.addr, address.protocol, &[])
    };
    let service = DesiredService { created_ms: 0, ports: vec![Arc::new(port)] };
    let plan = planner.plan(0, [(ServiceName::new("test", "web"), service)]);
    dataplane.apply(&plan.ops).unwrap();
}

pub(crate) struct Published {
    pub(crate) addr: SocketAddr,
    protocol: Protocol,
    policy: Policy,
    pub(crate) flags: u32,
    ranges: Vec<SourceCidr>,
}

impl Published {
    pub(crate) fn node_port(family: usize, policy: Policy) -> Self {
        let any = if family == 0 { IpAddr::from([0; 4]) } else { Ipv6Addr::UNSPECIFIED.into() };
        let masquerade = if policy == Policy::Cluster { flag::MASQUERADE } else { 0 };
        Self {
            addr: SocketAddr::new(any, 30_080),
            protocol: Protocol::Tcp,
            policy,
            flags: flag::NODE_PORT | masquerade,
            ranges: Vec::new(),
        }
    }

    fn load_balancer(family: usize, range: &str) -> Self {
        let net: ipnet::IpNet = range.parse().unwrap();
        Self {
            addr: at(OUTER[family], 80),
            flags: flag::LOAD_BALANCER | flag::MASQUERADE,
            ranges: vec![net.into()],
            ..Self::node_port(family, Policy::Cluster)
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.node, &self.pod] {
            namespace.delete().unwrap();
        }
    }
}

pub(crate) fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// The kernel takes up to a second to make use of IPv6 on a link that came up.
fn wait_for_the_way(client: &NetNs, closed: SocketAddr) {
    let refused = move || {
        let connected = TcpStream::connect_timeout(&closed, Duration::from_millis(200));
        connected.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !client.run_in(refused).unwrap() {
        assert!(Instant::now() < deadline, "no way to {closed}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where no server listens.
const UNUSED_PORT: u16 = 9;

pub(crate) fn ask(to: SocketAddr) -> Result<String, std::io::ErrorKind> {
    let mut stream =
        TcpStream::connect_timeout(&to, Duration::from_secs(1)).map_err(|error| error.kind())?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.kind())?;
    Ok(answer)
}

/// From this port, or any if it is 0, whether or not a connection of it has just ended; returns the
/// answer and the port.
fn ask_from(port: u16, to: SocketAddr) -> std::io::Result<(String, u16)> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::empty(), None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(2))?;
    let any = at(if to.is_ipv4() { "0.0.0.0" } else { "::" }, port);
    bind(socket.as_raw_fd(), &SockaddrStorage::from(any))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok((answer, stream.local_addr()?.port()))
}

/// Serves `connections` in a namespace: tells each client its address, in so many copies.
pub(crate) fn serve(namespace: &NetNs, addr: SocketAddr, connections: usize, copies: usize) {
    let listener = namespace.run_in(move || TcpListener::bind(addr)).unwrap().unwrap();
    std::thread::spawn(move || {
        for _ in 0..connections {
            let (mut stream, peer) = listener.accept().unwrap();
            let _ = stream.write_all(peer.ip().to_string().repeat(copies).as_bytes());
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_node_port_is_masqueraded_under_the_policy_cluster() {
    for family in [0, 1] {
        let mut world = World::new();
        let backend = at(POD[family], 8080);
        serve(&world.pod, backend, 9, 1);
        world.publish(Published::node_port(family, Policy::Cluster), &[backend], &[]);
        let to = at(NODE[family], 30_080);
        for _ in 0..8 {
            assert_eq!(world.ask(to).as_deref(), Ok(GATEWAY[family]));
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_node_port_keeps_the_clients_address_under_the_policy_local() {
    for family in [0, 1] {
        let mut world = World::new();
        let backend = at(POD[family], 8080);
        serve(&world.pod, backend, 2, 1);
        world.publish(Published::node_port(family, Policy::Local), &[backend], &[backend]);
        let to = at(NODE[family], 30_080);
        assert_eq!(world.ask(to).as_deref(), Ok(CLIENT[family]));
    }
}

#[test]
#[ignore = "needs root"]
fn a_process_of_the_node_itself_answers_too() {
    for policy in [Policy::Cluster, Policy::Local] {
        let mut world = World::new();
        let backend = at(NODE[0], 9090);
        serve(&world.node, backend, 1, 1);
        world.publish(Published::node_port(0, policy), &[backend], &[backend]);
        assert_eq!(world.ask(at(NODE[0], 30_080)).as_deref(), Ok(CLIENT[0]), "{policy:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn large_answers_arrive_whole() {
    let mut world = World::new();
    let backend = at(POD[0], 8080);
    serve(&world.pod, backend, 1, 200_000);
    world.publish(Published::node_port(0, Policy::Cluster), &[backend], &[]);
    let answer = world.ask(at(NODE[0], 30_080)).unwrap();
    assert_eq!(answer, GATEWAY[0].repeat(200_000));
}

#[test]
#[ignore = "needs root"]
fn source_ranges_let_in_whom_they_name() {
    for (family, ranges) in
        [(0, ["192.0.2.0/24", "198.51.100.0/24"]), (1, ["2001:db8::/64", "fd01::/16"])]
    {
        let mut world = World::new();
        let backend = at(POD[family], 8080);
        serve(&world.pod, backend, 1, 1);
        let to = at(OUTER[family], 80);
        world.publish(Published::load_balancer(family, ranges[0]), &[backend], &[]);
        assert_eq!(world.ask(to).as_deref(), Ok(GATEWAY[family]));
        world.publish(Published::load_balancer(family, ranges[1]), &[backend], &[]);
        assert_eq!(world.ask(to), Err(std::io::ErrorKind::TimedOut));
        assert!(world.dataplane.events().unwrap().dropped_source > 0);
    }
}

#[test]
#[ignore = "needs root"]
fn without_endpoints_a_node_port_refuses_and_without_local_ones_it_drops() {
    let mut world = World::new();
    let to = at(NODE[0], 30_080);
    world.publish(Published::node_port(0, Policy::Cluster), &[], &[]);
    assert_eq!(world.ask(to), Err(std::io::ErrorKind::ConnectionRefused));
    let mut dropped = Published::node_port(0, Policy::Local);
    dropped.flags |= flag::DROP_EXTERNAL;
    world.publish(dropped, &[at(POD[0], 8080)], &[]);
    assert_eq!(world.ask(to), Err(std::io::ErrorKind::TimedOut));
    assert!(world.dataplane.events().unwrap().dropped_no_backend > 0);
}

#[test]
#[ignore = "needs root"]
fn datagrams_and_their_fragments_come_and_go() {
    for family in [0, 1] {
        let mut world = World::new();
        let backend = at(POD[family], 8053);
        let server = world.pod.run_in(move || UdpSocket::bind(backend)).unwrap().unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, peer)) = server.recv_from(&mut buffer) {
                let _ = server.send_to(&buffer[..length], peer);
            }
        });
        let mut address = Published::node_port(family, Policy::Cluster);
        address.protocol = Protocol::Udp;
        world.publish(address, &[backend], &[]);
        for length in [5, 20_000] {
            let echoed = world.client.run_in(move || {
                let socket = UdpSocket::bind(at(["0.0.0.0", "::"][family], 0)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                socket.connect(at(NODE[family], 30_080)).unwrap();
                let sent: Vec<u8> = (0..length).map(|byte: u32| byte as u8).collect();
                socket.send(&sent).unwrap();
                let mut buffer = vec![0; 65_536];
                let length = socket.recv(&mut buffer).map_err(|error| error.kind())?;
                Ok::<_, std::io::ErrorKind>(buffer[..length] == sent)
            });
            assert_eq!(echoed.unwrap(), Ok(true), "{length} bytes");
        }
    }
}

/// Also those of a Service that is gone meanwhile, as kube-proxy leaves TCP.
#[test]
#[ignore = "needs root"]
fn connections_go_on_when_the_filter_is_made_anew() {
    for (family, policy) in [(0, Policy::Cluster), (0, Policy::Local), (1, Policy::Cluster)] {
        let mut world = World::new();
        let backend = at(POD[family], 8080);
        let listener = world.pod.run_in(move || TcpListener::bind(backend)).unwrap().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    std::io::copy(&mut stream.try_clone().unwrap(), &mut stream)
                });
            }
        });
        world.publish(Published::node_port(family, policy), &[backend], &[backend]);
        let to = at(NODE[family], 30_080);
        let connect = || world.client.run_in(move || TcpStream::connect(to)).unwrap();
        let echoes = |mut stream: &TcpStream| {
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            stream.write_all(b"hello").unwrap();
            let mut buffer = [0; 5];
            stream.read_exact(&mut buffer).map(|()| buffer == *b"hello").unwrap_or(false)
        };
        let first = connect().unwrap();
        assert!(echoes(&first));
        let mut connections = vec![first];
        for _ in 0..2 {
            world.dataplane.rebuild_filter().unwrap();
            connections.push(connect().unwrap());
            assert!(connections.iter().all(echoes));
        }
        let gone = (ServiceName::new("test", "web"), DesiredService::default());
        world.dataplane.apply(&world.planner.plan(0, [gone]).ops).unwrap();
        world.dataplane.rebuild_filter().unwrap();
        assert!(connections.iter().all(echoes));
    }
}

/// Programs of others on the same links: here another instance's, which knows nothing of the first.
#[test]
#[ignore = "needs root"]
fn programs_on_the_same_links_leave_each_other_alone() {
    for family in [0, 1] {
        let mut world = World::new();
        let (ours, theirs) = (at(NODE[family], 30_080), at(OUTER[family], 80));
        let backends = [at(POD[family], 8080), at(POD[family], 8081)];
        for backend in backends {
            serve(&world.pod, backend, 2, 50_000);
        }
        world.publish(Published::node_port(family, Policy::Cluster), &backends[..1], &[]);
        let (mut foreign, mut planner) = load(&world.cgroup, &world.node);
        let anyone = Published { ranges: Vec::new(), ..Published::load_balancer(family, "::/0") };
        publish((&mut foreign, &mut planner), anyone, &backends[1..], &[]);
        let answer = GATEWAY[family].repeat(50_000);
        for to in [ours, theirs] {
            assert_eq!(world.ask(to).as_ref(), Ok(&answer), "{to}");
        }
        // Whoever leaves takes nothing of the other's along.
        drop(foreign);
        assert_eq!(world.ask(ours).as_ref(), Ok(&answer));
        assert!(world.ask(theirs).is_err());
    }
}

/// A client that has used a Service comes to the backend itself, from the same port.
#[test]
#[ignore = "needs root"]
fn an_old_connection_by_a_service_is_not_in_the_way_of_one_past_it() {
    for (family, policy) in [(0, Policy::Cluster), (0, Policy::Local), (1, Policy::Local)] {
        let mut world = World::new();
        let backend = at(POD[family], 8080);
        serve(&world.pod, backend, 2, 1);
        world.publish(Published::node_port(family, policy), &[backend], &[backend]);
        let ask = |from, to| world.client.run_in(move || ask_from(from, to)).unwrap();
        let (_, port) = ask(0, at(NODE[family], 30_080)).unwrap();
        // As long as it may still be in use its answers are its own.
        std::thread::sleep(Duration::from_secs(3));
        let (seen_as, same) = ask(port, backend).unwrap();
        assert_eq!((&*seen_as, same), (CLIENT[family], port), "{policy:?}");
    }
}

/// A client outside whose backend is gone gets another one, and one whose backend drains keeps it.
#[test]
#[ignore = "needs root"]
fn datagrams_find_another_backend_when_theirs_is_gone() {
    for family in [0, 1] {
        let mut world = World::new();
        let backends = [at(POD[family], 8053), at(POD[family], 8054)];
        for backend in backends {
            let server = world.pod.run_in(move || UdpSocket::bind(backend)).unwrap().unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok((_, peer)) = server.recv_from(&mut buffer) {
                    let _ = server.send_to(backend.port().to_string().as_bytes(), peer);
                }
            });
        }
        let node = at(NODE[family], 30_080);
        let socket = world.client.run_in(move || {
            let any = if node.is_ipv4() { at("0.0.0.0", 0) } else { at("::", 0) };
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.connect(node).unwrap();
            socket
        });
        let socket = socket.unwrap();
        let ask = || {
            socket.send(b"hello").unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        let [old, new] = backends;
        for (ready, serving, expected) in
            [(old, vec![old], "8053"), (new, vec![old, new], "8053"), (new, vec![new], "8054")]
        {
            let of = |to: &[SocketAddr]| DesiredPort::new(node, Protocol::Udp, to).cluster;
            let mut frontend = Published::node_port(family, Policy::Cluster);
            frontend.protocol = Protocol::Udp;
            let mut port = DesiredPort::new(frontend.addr, Protocol::Udp, &[ready]);
            port.serving = of(&serving);
            port.frontends[0].flags = frontend.flags;
            let service = DesiredService { created_ms: 0, ports: vec![Arc::new(port)] };
            let plan = world.planner.plan(0, [(ServiceName::new("test", "web"), service)]);
            world.dataplane.apply(&plan.ops).unwrap();
            assert_eq!(ask(), expected);
        }
    }
}

const LAYOUT: &str = "
ip -n CLIENT link set lo up
ip -n NODE link set lo up
ip -n POD link set lo up
ip -n CLIENT link add eth0 type veth peer name eth0 netns NODE
ip -n NODE link add cni0 type veth peer name eth0 netns POD
ip -n CLIENT address add 192.0.2.2/24 dev eth0
ip -n CLIENT address add 2001:db8::2/64 dev eth0 nodad
ip -n NODE address add 192.0.2.1/24 dev eth0
ip -n NODE address add 2001:db8::1/64 dev eth0 nodad
ip -n NODE address add 10.244.9.1/24 dev cni0
ip -n NODE address add fd00:9::1/64 dev cni0 nodad
ip -n POD address add 10.244.9.2/24 dev eth0
ip -n POD address add fd00:9::2/64 dev eth0 nodad
ip -n CLIENT link set eth0 up
ip -n NODE link set eth0 up
ip -n NODE link set cni0 up
ip -n POD link set eth0 up
ip -n CLIENT route add default via 192.0.2.1
ip -n CLIENT route add default via 2001:db8::1
ip -n POD route add default via 10.244.9.1
ip -n POD route add default via fd00:9::1
ip netns exec NODE sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
";
