//! Packets that turn back before the kernel sees them: a client and a backend on the same link of the
//! node.
//!
//! ```text
//! client  192.0.2.2, 2001:db8::2 ─┐
//! backend 192.0.2.3, 2001:db8::3 ─┴─ eth0 node 192.0.2.1, 2001:db8::1
//! ```
#![expect(unsafe_code, reason = "there is no other way to a link's features")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData};
use nix::libc;
use pintle_dataplane::plan::{
    DesiredPort, DesiredService, LocalDetector, NodeSpec, Planner, Protocol, ServiceName, endpoint,
    frontend_key, node_port_addresses,
};
use pintle_dataplane::{Dataplane, DryRun, Express, Limits, NodeNamespace, PacketHook, Pins};
use pintle_ebpf_common::{Endpoint, Tracked, Tuple, flag, hook};
use pintle_node::NetNs;

use crate::cgroup::Cgroup;
use crate::packet::{UDP, addr, packet};

pub(crate) struct World {
    outside: NetNs,
    node: NetNs,
    pub(crate) dataplane: Dataplane,
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
    /// The other end of the node's link takes packets from a program, and leaves checksums to a device
    /// (that there is none of) or not.
    pub(crate) fn new(name: &str, express: Express, leaves_sums: bool) -> Self {
        let make =
            |what| NetNs::create(&format!("pintle-x{}-{name}-{what}", std::process::id())).unwrap();
        let (outside, node) = (make("outside"), make("node"));
        let script = LAYOUT.replace("OUTSIDE", outside.name()).replace("NODE", node.name());
        assert!(Command::new("sh").args(["-ec", &script]).status().unwrap().success());
        outside
            .run_in(move || {
                set_feature("eth0", ETHTOOL_SGRO, express != Express::Generic);
                set_feature("eth0", ETHTOOL_STXCSUM, leaves_sums);
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
        self.publish_at(at, flags, protocol, &[endpoint(backend)]);
    }

    pub(crate) fn publish_at(
        &mut self,
        at: SocketAddr,
        flags: u32,
        protocol: Protocol,
        backends: &[Endpoint],
    ) {
        let mut port = DesiredPort::new(at, protocol, &[]);
        port.cluster = backends.into();
        port.frontends[0].flags = flags | flag::MASQUERADE;
        let service = DesiredService { created_ms: 0, ports: vec![Arc::new(port)] };
        let plan = self.planner.plan(0, [(ServiceName::new("test", "web"), service)]);
        self.dataplane.apply(&plan.ops).unwrap();
    }

    pub(crate) fn run(&self, hook: PacketHook, packet: &[u8], turns: u32) -> DryRun {
        let node = NodeNamespace::Named(self.node.clone());
        self.dataplane.dry_run_at(&node, self.link, hook, packet, turns).unwrap()
    }

    pub(crate) fn turned_back(&self) -> u64 {
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

pub(crate) fn any_of(addr: SocketAddr) -> SocketAddr {
    let any = if addr.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    SocketAddr::new(any, addr.port())
}

#[test]
#[ignore = "needs root"]
fn a_packet_turns_back_as_it_would_leave_by_the_kernel() {
    for [client, node, backend] in ADDRESSES.map(|addrs| addrs.map(addr)) {
        let mut world = World::new("verdict", Express::Native, false);
        world.publish(any_of(node), flag::NODE_PORT, Protocol::Udp, backend);
        let sent = packet(UDP, client, node, b"payload");
        let first = world.run(PacketHook::Express, &sent, 1);
        assert!(first.sent_back);
        assert_eq!(first.packet[..12], BACKEND_AND_NODE, "hardware addresses");

        // The kernel's way goes by the same entries.
        let routed = world.run(PacketHook::Ingress, &sent, 1).packet;
        assert_eq!(routed, packet(UDP, client, backend, b"payload"));
        let left = world.run(PacketHook::Egress, &routed, 1).packet;
        let mut expected = left.clone();
        expected[..12].copy_from_slice(&BACKEND_AND_NODE);
        hop(&mut expected);
        assert_eq!(first.packet, expected);
        assert_eq!(world.run(PacketHook::Express, &sent, 1).packet, expected);
        assert_eq!(world.turned_back(), 2);
        assert_eq!(world.connections(node), 1);

        // So does what is left to a device.
        let unfinished = leave_sum(&sent, client, node);
        assert_eq!(world.run(PacketHook::Express, &unfinished, 1).packet, expected);
        assert_eq!(world.run(PacketHook::Ingress, &sent, 1).packet, routed, "not begun twice");
        assert_eq!(world.connections(node), 1);

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

/// A packet whose checksum the kernel leaves to a device: in its place is the pseudo-header's sum.
pub(crate) fn leave_sum(packet: &[u8], from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let transport = if from.is_ipv4() { 34 } else { 54 };
    let length = packet.len() - transport;
    let pseudo = crate::packet::pseudo(UDP, from.ip(), to.ip(), length);
    let sum = !crate::packet::checksum(&[&pseudo]);
    let mut packet = packet.to_vec();
    packet[transport + 6..transport + 8].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Every checksum that a packet can have, the one that is the pseudo-header's sum by chance among them.
#[test]
#[ignore = "needs root"]
fn a_packet_with_any_checksum_turns_back_with_a_right_one() {
    for [client, node, backend] in ADDRESSES.map(|addrs| addrs.map(addr)) {
        let mut world = World::new("sums", Express::Native, false);
        world.publish(any_of(node), flag::NODE_PORT, Protocol::Udp, backend);
        let transport = if client.is_ipv4() { 34 } else { 54 };
        let mut by_chance = 0;
        for number in 0..=u16::MAX {
            let sent = packet(UDP, client, node, &number.to_be_bytes());
            by_chance += u32::from(leave_sum(&sent, client, node) == sent);
            let turned = world.run(PacketHook::Express, &sent, 1);
            if !turned.sent_back {
                // It is the kernel's turn to keep the entries.
                world.keep_entries(&sent);
                continue;
            }
            let segment = &turned.packet[transport..];
            if sent[transport + 6..transport + 8] == [0, 0] {
                assert_eq!(segment[6..8], [0, 0], "UDP has none, and gets none");
                continue;
            }
            let node = SocketAddr::new(node.ip(), 0);
            let pseudo = crate::packet::pseudo(UDP, node.ip(), backend.ip(), segment.len());
            assert_eq!(crate::packet::checksum(&[&pseudo, segment]), 0, "{number}");
        }
        assert!(by_chance > 0);
    }
}

/// Count a hop as a router does.
pub(crate) fn hop(packet: &mut [u8]) {
    if packet[12..14] == [0x86, 0xdd] {
        packet[21] -= 1;
        return;
    }
    packet[22] -= 1;
    packet[24..26].fill(0);
    let sum = crate::packet::checksum(&[&packet[14..34]]);
    packet[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// Datagrams of many lengths and a connection with much to say, both ways. Returns how many packets turned
/// back.
fn talk(express: Express, leaves_sums: bool, family: usize) -> u64 {
    println!("{express:?}, checksums left to a device: {leaves_sums}, family {family}");
    let mut world = World::new("talk", express, leaves_sums);
    let [_, node, backend] = ADDRESSES[family].map(addr);
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        world.publish(any_of(node), flag::NODE_PORT, protocol, backend);
        let (client, server) = (world.outside.clone(), world.outside.clone());
        server
            .run_in(move || match protocol {
                Protocol::Udp => echo_datagrams(UdpSocket::bind(backend).unwrap()),
                _ => echo_streams(TcpListener::bind(backend).unwrap()),
            })
            .unwrap();
        client
            .run_in(move || match protocol {
                Protocol::Udp => send_datagrams(node),
                _ => send_stream(node),
            })
            .unwrap();
    }
    world.turned_back()
}

fn echo_datagrams(server: UdpSocket) {
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        for _ in 0..DATAGRAMS {
            let (length, peer) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&buffer[..length], peer).unwrap();
        }
    });
}

fn send_datagrams(to: SocketAddr) {
    let any = if to.is_ipv4() { addr("0.0.0.0:0") } else { addr("[::]:0") };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket.connect(to).unwrap();
    for length in (0..DATAGRAMS).map(|number| number * 7) {
        let sent: Vec<u8> = (0..length).map(|byte| (byte * 31) as u8).collect();
        socket.send(&sent).unwrap();
        let mut buffer = [0; 2048];
        let received = socket.recv(&mut buffer).unwrap();
        assert!(buffer[..received] == sent, "{length} bytes");
    }
}

fn echo_streams(listener: TcpListener) {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut back = stream.try_clone().unwrap();
        std::io::copy(&mut stream, &mut back).unwrap();
    });
}

fn send_stream(to: SocketAddr) {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let sent: Vec<u8> = (0..400_001_u32).map(|byte| ((byte * 31) >> 3) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let written = sent.clone();
    let writer = std::thread::spawn(move || {
        writer.write_all(&written).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert!(received == sent, "{} bytes", received.len());
}

/// Up to 1,400 bytes.
const DATAGRAMS: usize = 200;

#[test]
#[ignore = "needs root"]
fn sockets_of_other_namespaces_are_served_whoever_makes_their_checksums() {
    for leaves_sums in [false, true] {
        for family in [0, 1] {
            let turned_back = talk(Express::Native, leaves_sums, family);
            // 200 datagrams there and back, and 400,001 bytes in packets of 1,500.
            assert!(turned_back > 2 * 200 + 2 * 270, "{leaves_sums} {family}: {turned_back}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn the_kernels_imitation_serves_them_too() {
    for leaves_sums in [false, true] {
        let turned_back = talk(Express::Generic, leaves_sums, 0);
        // What is left to a device is the kernel's.
        assert!(leaves_sums || turned_back > 2 * 200, "{turned_back}");
    }
}

/// A link has one program before the kernel. Where there is one of somebody else's, it stays.
#[test]
#[ignore = "needs root"]
fn where_others_have_a_program_before_the_kernel_it_stays() {
    let foreign = World::new("foreign", Express::Native, false);
    let cgroup = Cgroup::new();
    let (mut dataplane, mut planner) = (
        Dataplane::load(cgroup.path(), Limits::default()).unwrap(),
        Planner::new(Limits::default()),
    );
    let namespace = NodeNamespace::Named(foreign.node.clone());
    dataplane.set_express(Express::Generic);
    let links = namespace.links().unwrap();
    dataplane.set_links(&namespace, &LocalDetector::None, &links).unwrap();
    let ips: Vec<IpAddr> = links.iter().flat_map(|link| &link.addresses).copied().collect();
    let addresses = node_port_addresses(&[], &NodeSpec::default(), &ips);
    dataplane.apply(&planner.plan_node_addresses(addresses).ops).unwrap();
    let [client, node, backend] = ADDRESSES[0].map(addr);
    let mut port = DesiredPort::new(any_of(node), Protocol::Udp, &[backend]);
    port.frontends[0].flags = flag::NODE_PORT | flag::MASQUERADE;
    let service = DesiredService { created_ms: 0, ports: vec![Arc::new(port)] };
    let plan = planner.plan(0, [(ServiceName::new("test", "web"), service)]);
    dataplane.apply(&plan.ops).unwrap();

    let sent = packet(UDP, client, node, b"payload");
    assert!(foreign.run(PacketHook::Express, &sent, 1).passed, "theirs knows nothing of it");
    let server = foreign.outside.clone();
    server.run_in(move || echo_datagrams(UdpSocket::bind(backend).unwrap())).unwrap();
    foreign.outside.run_in(move || send_datagrams(node)).unwrap();
    assert_eq!(dataplane.events().unwrap().turned_back, 0);
}

#[test]
#[ignore = "needs root"]
fn a_link_without_a_driver_that_can_is_the_kernels() {
    assert_eq!(talk(Express::Off, true, 0), 0);
}

#[test]
#[ignore = "needs root"]
fn what_turning_back_costs() {
    for [client, _, backend] in ADDRESSES.map(|addrs| addrs.map(addr)) {
        let mut world = World::new("cost", Express::Native, false);
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
    /// What the kernel does with a packet that a program leaves to it.
    fn keep_entries(&self, packet: &[u8]) {
        let routed = self.run(PacketHook::Ingress, packet, 1).packet;
        self.run(PacketHook::Egress, &routed, 1);
    }

    /// Connections counted for the node port.
    fn connections(&self, node: SocketAddr) -> u64 {
        let key = frontend_key(any_of(node), Protocol::Udp);
        let (.., counter) = self.planner.published().find(|(_, one, _)| *one == key).unwrap();
        self.dataplane.connections(counter).unwrap()
    }

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
pub(crate) fn set_feature(link: &str, command: u32, on: bool) {
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
pub(crate) const ETHTOOL_SGRO: u32 = 0x2c;

/// The destination and the source of a packet to the backend.
pub(crate) const BACKEND_AND_NODE: [u8; 12] = [2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 1];

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
ip -n NODE route add 10.244.2.0/24 via 192.0.2.3
ip -n NODE route add fd00:2::/64 via 2001:db8::3
ip netns exec NODE sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
ip netns exec NODE sh -c 'for f in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 > $f; done'
ip netns exec OUTSIDE sh -c 'for f in /proc/sys/net/ipv4/conf/*/accept_redirects; do echo 0 > $f; done'
";
