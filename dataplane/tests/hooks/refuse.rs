//! Clients outside are told at once that nobody answers: the errors that the programs make themselves.

use std::net::SocketAddr;

use pintle_dataplane::plan::Protocol;
use pintle_dataplane::{Express, PacketHook};
use pintle_ebpf_common::flag;

use crate::express::{World, any_of};
use crate::packet::{TCP, UDP, addr, checksum, packet, pseudo};

const FAMILIES: [[&str; 3]; 2] = [
    ["192.0.2.2:5555", "203.0.113.7:80", "192.0.2.1:30080"],
    ["[2001:db8::2]:5555", "[2001:db8:7::7]:80", "[2001:db8::1]:30080"],
];

/// An ICMP error's parts, its checksums looked at.
pub(crate) struct IcmpError {
    pub(crate) kind: [u8; 2],
    pub(crate) mtu: u32,
    /// From its IP header on.
    pub(crate) quoted: Vec<u8>,
}

/// Read an error from `from` to `to`.
pub(crate) fn read(bytes: &[u8], from: SocketAddr, to: SocketAddr) -> IcmpError {
    let (number, header) = if from.is_ipv4() { (1, 20) } else { (58, 40) };
    let expected = crate::packet::ip(number, from.ip(), to.ip(), &bytes[14 + header..]);
    let mut addressed = bytes[14..14 + header].to_vec();
    if from.is_ipv4() {
        assert_eq!(checksum(&[&addressed]), 0);
        // Its number and flags, and so its checksum, are its own.
        addressed[4..8].copy_from_slice(&expected[18..22]);
        addressed[10..12].copy_from_slice(&expected[24..26]);
    }
    assert_eq!(addressed, expected[14..14 + header]);
    let icmp = &bytes[14 + header..];
    let pseudo = pseudo(number, from.ip(), to.ip(), icmp.len());
    let sum = if number == 58 { checksum(&[&pseudo, icmp]) } else { checksum(&[icmp]) };
    assert_eq!(sum, 0);
    let mtu = u32::from_be_bytes(icmp[4..8].try_into().unwrap());
    IcmpError { kind: [icmp[0], icmp[1]], mtu, quoted: icmp[8..].to_vec() }
}

/// That an error quotes a packet: its IP header and ports, and a checksum that stays as it is if a device
/// makes it yet.
pub(crate) fn assert_quotes(error: &IcmpError, protocol: u8, about: &[u8]) {
    let header = if about[12..14] == [8, 0] { 20 } else { 40 };
    assert_eq!(error.quoted.len(), header + 20);
    assert_eq!(error.quoted[..header + 4], about[14..14 + header + 4]);
    let segment = &error.quoted[header..];
    let at = if protocol == TCP { 16 } else { 6 };
    let mut made = checksum(&[segment]).to_be_bytes();
    if made == [0, 0] {
        made = [0xff; 2];
    }
    assert_eq!(segment[at..at + 2], made);
}

/// That a packet ends the connection that a packet with the number 1 opens, and that its checksum is right
/// and stays so if a device makes it yet.
fn assert_ends(bytes: &[u8], from: SocketAddr, to: SocketAddr) {
    let header = if from.is_ipv4() { 34 } else { 54 };
    let segment = &bytes[header..];
    let addressed = crate::packet::ip(TCP, from.ip(), to.ip(), segment);
    assert_eq!(bytes.len(), addressed.len());
    assert_eq!(source_and_destination(bytes), source_and_destination(&addressed));
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    assert_eq!(segment[..4], ports);
    assert_eq!(segment[4..14], [0, 0, 0, 0, 0, 0, 0, 2, 5 << 4, 0x14], "RST and ACK");
    let pseudo = pseudo(TCP, from.ip(), to.ip(), segment.len());
    assert_eq!(checksum(&[&pseudo, segment]), 0);
    let left_to_a_device = !checksum(&[&pseudo]);
    assert_eq!(segment[16..18], left_to_a_device.to_be_bytes());
    assert_eq!(checksum(&[segment]), left_to_a_device);
    if from.is_ipv4() {
        assert_eq!(checksum(&[&bytes[14..34]]), 0);
    }
}

fn source_and_destination(packet: &[u8]) -> &[u8] {
    if packet[12..14] == [8, 0] { &packet[26..34] } else { &packet[18..54] }
}

#[test]
#[ignore = "needs root"]
fn a_client_outside_is_told_that_a_service_has_no_endpoint() {
    for [client, service, node] in FAMILIES.map(|addrs| addrs.map(addr)) {
        for (number, protocol) in [(TCP, Protocol::Tcp), (UDP, Protocol::Udp)] {
            let mut world = World::new("refuse", Express::Off, false);
            world.publish_at(service, flag::LOAD_BALANCER, protocol, &[]);
            // A segment of TCP without a payload, and a datagram with this one, are quoted whole: of them the
            // kernel's own sum is looked at too.
            for payload in [&b""[..], b"odd", b"twelve bytes", &[7; 1000]] {
                let mut sent = packet(number, client, service, payload);
                sent[..12].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
                let told = world.run(PacketHook::Ingress, &sent, 1);
                assert!(told.sent_back, "{number} {service}");
                assert_eq!(told.packet[..12], [7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6]);
                if number == TCP {
                    assert_ends(&told.packet, service, client);
                    continue;
                }
                let error = read(&told.packet, service, client);
                let unreachable = if client.is_ipv4() { [3, 3] } else { [1, 4] };
                assert_eq!((error.kind, error.mtu), (unreachable, 0));
                assert_quotes(&error, number, &sent);
            }
            // At least: a dry run may try twice.
            assert!(world.dataplane.events().unwrap().dropped_no_backend >= 4);
            // At a node port nobody listens, which the kernel says itself.
            world.publish_at(any_of(node), flag::NODE_PORT, protocol, &[]);
            let sent = packet(number, client, node, b"");
            let left = world.run(PacketHook::Ingress, &sent, 1);
            assert!(left.passed && left.packet == sent);
            // Where a traffic policy leaves none of the endpoints the client hears nothing.
            let flags = flag::LOAD_BALANCER | flag::DROP_EXTERNAL;
            world.publish_at(service, flags, protocol, &[]);
            let dropped = world.run(PacketHook::Ingress, &packet(number, client, service, b""), 1);
            assert!(!dropped.passed && !dropped.sent_back);
        }
    }
}

/// Every checksum that there is for the rest of a segment.
#[test]
#[ignore = "needs root"]
fn the_quoted_checksum_is_one_that_making_it_leaves() {
    let [client, service, _] = FAMILIES[0].map(addr);
    let mut world = World::new("refuse-sums", Express::Off, false);
    world.publish_at(service, flag::LOAD_BALANCER, Protocol::Udp, &[]);
    // As many as a CPU sends in a second, of numbers all over.
    for number in (0..=u16::MAX).step_by(331) {
        let sent = packet(UDP, client, service, &number.to_be_bytes());
        let told = world.run(PacketHook::Ingress, &sent, 1);
        assert_quotes(&read(&told.packet, service, client), UDP, &sent);
    }
}

#[test]
#[ignore = "needs root"]
fn a_flood_is_not_answered_in_full() {
    let [client, service, _] = FAMILIES[0].map(addr);
    let mut world = World::new("refuse-flood", Express::Off, false);
    world.publish_at(service, flag::LOAD_BALANCER, Protocol::Udp, &[]);
    let sent = packet(UDP, client, service, b"");
    let start = std::time::Instant::now();
    let told = (0..5000).filter(|_| world.run(PacketHook::Ingress, &sent, 1).sent_back).count();
    // A thousand a second and CPU, and of each the second that began before.
    let seconds = start.elapsed().as_secs() as usize + 2;
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert!(told >= 1 && told <= 1000 * seconds * cpus, "{told} in {seconds} s");
}
