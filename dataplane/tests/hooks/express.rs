//! Packets that turn back before the kernel sees them: a client and a backend on the same link of the
//! node.
//!
//! ```text
//! client  192.0.2.2, 2001:db8::2 ─┐
//! backend 192.0.2.3, 2001:db8::3 ─┴─ eth0 node 192.0.2.1, 2001:db8::1
//! ```
#![expect(unsafe_code, reason = "there is no other way to a link's features")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData};
use nix::libc;
use pintle_dataplane::plan::{
    DesiredPort, DesiredService, LocalDetector, NodeSpec, Planner, Protocol, ServiceName, endpoint,
    node_port_addresses,
};
use pintle_dataplane::{Dataplane, DryRun, Express, Limits, NodeNamespace, PacketHook, Pins};
use pintle_ebpf_common::{Tracked, Tuple, flag, hook};
use pintle_node::NetNs;

use crate::cgroup::Cgroup;
use crate::packet::{UDP, addr, packet};

struct World {
    outside: NetNs,
    node: NetNs,
    dataplane: Dataplane,
    planner: Planner,
    pins: Pins,
    link: u32,
    _cgroup: Cgroup,
}

/// A client, the node's address, a backend.
const ADDRESSES: [[&str; 3]; 2] = [
    ["192.0.2.2:5555", "192.0.2.1:30080", "192.0.2.3:8080"],
    ["[2001:db8::2]:5555", "[2001:db8::1]:30080", "[2001:db8::3]:8080"],
];

impl World {
    fn new(name: &str, express: Express) -> Self {
        let make =
            |what| NetNs::create(&format!("pintle-x{}-{name}-{what}", std::process::id())).unwrap();
        let (outside, node) = (make("outside"), make("node"));
        let script = LAYOUT.replace("OUTSIDE", outside.name()).replace("NODE", node.name());
        assert!(Command::new("sh").args(["-ec", &script]).status().unwrap().success());
        outside
            .run_in(|| {
                // Take packets of a program, and leave no checksum to a device that there is none of.
                set_feature("eth0", ETHTOOL_SGRO, true);
                set_feature("eth0", ETHTOOL_STXCSUM, false);
            })
            .unwrap();
        let cgroup = Cgroup::new();
        let pins = Pins::of(&format!("test-x{}", std::process::id()), name);
        let (mut dataplane, mut planner) =
            Dataplane::load_pinned(cgroup.path(), Limits::default(), &pins)
                .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
        let namespace = NodeNamespace::Named(node.clone());
        dataplane.set_express(express);
        let links = namespace.links().unwrap();
        dataplane.set_links(&namespace, &LocalDetector::None, &links).unwrap();
        let ips: Vec<IpAddr> = links.iter().flat_map(|link| &link.addresses).copied().collect();
        let addresses = node_port_addresses(&[], &NodeSpec::default(), &ips);
        dataplane.apply(&planner.plan_node_addresses(addresses).ops).unwrap();
        let link = links.iter().find(|link| link.name == "eth0").unwrap().index;
        Self { outside, node, dataplane, planner, pins, link, _cgroup: cgroup }
    }

    /// Publish a masqueraded address of a Service with one backend.
    fn publish(&mut self, at: SocketAddr, flags: u32, protocol: Protocol, backend: SocketAddr) {
        let mut port = DesiredPort::new(at, protocol, &[backend]);
        port.frontends[0].flags = flags | flag::MASQUERADE;
        let service = DesiredService { created_ms: 0, ports: vec![Arc::new(port)] };
        let plan = self.planner.plan(0, [(ServiceName::new("test", "web"), service)]);
        self.dataplane.apply(&plan.ops).unwrap();
    }

    fn run(&self, hook: PacketHook, packet: &[u8], turns: u32) -> DryRun {
        let node = NodeNamespace::Named(self.node.clone());
        self.dataplane.dry_run_at(&node, self.link, hook, packet, turns).unwrap()
    }

    fn turned_back(&self) -> u64 {
        self.dataplane.events().unwrap().turned_back
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.pins.remove().unwrap();
        for namespace in [&self.outside, &self.node] {
            namespace.delete().unwrap();
        }
    }
}

fn any_of(addr: SocketAddr) -> SocketAddr {
    let any = if addr.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    SocketAddr::new(any, addr.port())
}

#[test]
#[ignore = "needs root"]
fn a_packet_turns_back_as_it_would_leave_by_the_kernel() {
    for [client, node, backend] in ADDRESSES.map(|addrs| addrs.map(addr)) {
        let mut world = World::new("verdict", Express::Native);
        world.publish(any_of(node), flag::NODE_PORT, Protocol::Udp, backend);
        let sent = packet(UDP, client, node, b"payload");
        let untouched = world.run(PacketHook::Express, &sent, 1);
        assert!(untouched.passed && untouched.packet == sent, "not known yet");
        let routed = world.run(PacketHook::Ingress, &sent, 1).packet;
        assert_eq!(routed, packet(UDP, client, backend, b"payload"));
        let untouched = world.run(PacketHook::Express, &sent, 1);
        assert!(untouched.passed && untouched.packet == sent, "not masqueraded yet");
        let left = world.run(PacketHook::Egress, &routed, 1).packet;

        let express = world.run(PacketHook::Express, &sent, 1);
        assert!(express.sent_back);
        assert_eq!(express.packet[..12], BACKEND_AND_NODE, "hardware addresses");
        let mut expected = left.clone();
        expected[..12].copy_from_slice(&BACKEND_AND_NODE);
        hop(&mut expected);
        assert_eq!(express.packet, expected);
        assert_eq!(world.turned_back(), 1);

        // The last hop, a packet that is too long, a fragment, one that is cut short: the kernel's.
        let mut last = sent.clone();
        let (at, of_v4) = if client.is_ipv4() { (22, true) } else { (21, false) };
        last[at] = 1;
        let long = packet(UDP, client, node, &[0; 1500]);
        let mut others = vec![last, long];
        others.extend((14..sent.len() - b"payload".len()).map(|length| sent[..length].to_vec()));
        if of_v4 {
            let mut fragment = sent.clone();
            fragment[20] = 0x20;
            others.push(fragment);
        }
        for other in others {
            let result = world.run(PacketHook::Express, &other, 1);
            assert!(!result.sent_back && result.packet == other, "{other:?}");
        }
    }
}

/// Count a hop as a router does.
fn hop(packet: &mut [u8]) {
    if packet[12..14] == [0x86, 0xdd] {
        packet[21] -= 1;
        return;
    }
    packet[22] -= 1;
    packet[24..26].fill(0);
    let sum = crate::packet::checksum(&[&packet[14..34]]);
    packet[24..26].copy_from_slice(&sum.to_be_bytes());
}

#[test]
#[ignore = "needs root"]
fn a_link_without_a_driver_that_can_is_the_kernels() {
    let mut world = World::new("none", Express::Off);
    let [_, node, backend] = ADDRESSES[0].map(addr);
    world.publish(any_of(node), flag::NODE_PORT, Protocol::Udp, backend);
    let server = world.outside.run_in(move || UdpSocket::bind(backend)).unwrap().unwrap();
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 64];
        let (length, peer) = server.recv_from(&mut buffer).unwrap();
        server.send_to(&buffer[..length], peer).unwrap();
    });
    let asked = move || {
        let socket = UdpSocket::bind(addr("0.0.0.0:0")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.connect(node).unwrap();
        socket.send(b"hello").unwrap();
        socket.recv(&mut [0; 64]).unwrap()
    };
    assert_eq!(world.outside.run_in(asked).unwrap(), 5);
    thread.join().unwrap();
    assert_eq!(world.turned_back(), 0);
}

#[test]
#[ignore = "needs root"]
fn what_turning_back_costs() {
    for [client, _, backend] in ADDRESSES.map(|addrs| addrs.map(addr)) {
        let mut world = World::new("cost", Express::Native);
        // A connection that is translated to itself, so that each turn finds it.
        world.publish(backend, flag::LOAD_BALANCER, Protocol::Udp, backend);
        let mut sent = packet(UDP, client, backend, b"payload");
        world.run(PacketHook::Ingress, &sent, 1);
        world.run(PacketHook::Egress, &sent, 1);
        world.keep(client, backend);
        // Turns enough for all hops that a packet may make.
        let at = if client.is_ipv4() { 22 } else { 21 };
        sent[at] = 255;
        let one = || {
            let result = world.run(PacketHook::Express, &sent, 250);
            assert!(result.sent_back);
            result.duration
        };
        let mut costs: Vec<Duration> = (0..200).map(|_| one()).collect();
        costs.sort_unstable();
        println!("turned back: {:?}, at best {:?}", costs[100], costs[0]);
    }
}

impl World {
    /// Let a masqueraded connection keep its client's address and port.
    fn keep(&self, client: SocketAddr, backend: SocketAddr) {
        let path = std::fs::read_dir(self.pins.path()).unwrap().next().unwrap().unwrap().path();
        let map = Map::LruHashMap(MapData::from_pin(path.join("TRACKED")).unwrap());
        let mut map = HashMap::<_, Tuple, Tracked>::try_from(map).unwrap();
        let (client, backend) = (endpoint(client), endpoint(backend));
        let key = Tuple {
            source: client.address,
            destination: backend.address,
            source_port_be: client.port_be,
            destination_port_be: backend.port_be,
            protocol: UDP,
            hook: hook::EGRESS,
            padding: [0; 2],
        };
        let entry = map.get(&key, 0).unwrap();
        map.insert(key, Tracked { to: key, ..entry }, 0).unwrap();
    }
}

/// Switch a feature of a link of this thread's network namespace.
fn set_feature(link: &str, command: u32, on: bool) {
    let socket = UdpSocket::bind(addr("127.0.0.1:0")).unwrap();
    let mut value = [command, u32::from(on)];
    // SAFETY: all zeros are a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    // SAFETY: the request and what it points to live through the call, and are as the kernel reads
    // them: `struct ethtool_value`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    assert_eq!(result, 0, "{link} {command}: {}", std::io::Error::last_os_error());
}

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_SGRO: u32 = 0x2c;

/// The destination and the source of a packet to the backend.
const BACKEND_AND_NODE: [u8; 12] = [2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 1];

const LAYOUT: &str = "
ip -n OUTSIDE link set lo up
ip -n NODE link set lo up
ip -n OUTSIDE link add eth0 address 02:00:00:00:00:03 type veth \
  peer name eth0 address 02:00:00:00:00:01 netns NODE
for last in 2 3; do
  ip -n OUTSIDE address add 192.0.2.$last/24 dev eth0
  ip -n OUTSIDE address add 2001:db8::$last/64 dev eth0 nodad
done
ip -n NODE address add 192.0.2.1/24 dev eth0
ip -n NODE address add 2001:db8::1/64 dev eth0 nodad
ip -n OUTSIDE link set eth0 up
ip -n NODE link set eth0 up
for address in 192.0.2.2 192.0.2.3 2001:db8::2 2001:db8::3; do
  ip -n NODE neighbour replace $address lladdr 02:00:00:00:00:03 dev eth0 nud permanent
done
for address in 192.0.2.1 2001:db8::1; do
  ip -n OUTSIDE neighbour replace $address lladdr 02:00:00:00:00:01 dev eth0 nud permanent
done
ip netns exec NODE sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
ip netns exec NODE sh -c 'for f in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 > $f; done'
ip netns exec OUTSIDE sh -c 'for f in /proc/sys/net/ipv4/conf/*/accept_redirects; do echo 0 > $f; done'
";
