//! Packets through the programs without a link: tables of what goes in and what comes out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pintle_dataplane::plan::{DesiredPort, Protocol};
use pintle_dataplane::{Limits, PacketHook};
use pintle_ebpf_common::flag;

use crate::fixture::Fixture;

/// TCP or UDP from one address to another, with its checksums.
fn packet(protocol: u8, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut transport = Vec::new();
    transport.extend(from.port().to_be_bytes());
    transport.extend(to.port().to_be_bytes());
    let length = payload.len() as u16 + 8;
    let at = if protocol == TCP {
        // Numbers, a header of five words, SYN, a window, no urgent data.
        transport.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 1, 0, 0, 0, 0, 0]);
        16
    } else {
        transport.extend(length.to_be_bytes());
        transport.extend([0, 0]);
        6
    };
    transport.extend(payload);
    let sum = checksum(&[&pseudo(protocol, from.ip(), to.ip(), transport.len()), &transport]);
    transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    ip(protocol, from.ip(), to.ip(), &transport)
}

fn ip(protocol: u8, from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![2; 12];
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = (20 + payload.len() as u16).to_be_bytes();
            let mut header = vec![0x45, 0, length[0], length[1], 0, 7, 0, 0, 64, protocol, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            packet.extend([8, 0]);
            packet.extend(header);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length = (payload.len() as u16).to_be_bytes();
            packet.extend([0x86, 0xdd, 0x60, 0, 0, 0, length[0], length[1], protocol, 64]);
            packet.extend(from.octets());
            packet.extend(to.octets());
        }
        _ => panic!("{from} and {to}"),
    }
    packet.extend(payload);
    packet
}

fn pseudo(protocol: u8, from: IpAddr, to: IpAddr, length: usize) -> Vec<u8> {
    let octets = |ip| match ip {
        IpAddr::V4(ip) => Ipv4Addr::octets(&ip).to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut header = [octets(from), octets(to)].concat();
    header.extend((length as u32).to_be_bytes());
    header.extend([0, 0, 0, protocol]);
    header
}

/// RFC 1071, over parts of an even length but for the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for pair in parts.concat().chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An ICMP error of a router about a packet, of which it quotes the IP header and eight bytes.
fn unreachable(router: IpAddr, to: IpAddr, about: &[u8]) -> Vec<u8> {
    let mut icmp = vec![3, 4, 0, 0, 0, 0, 5, 0];
    icmp.extend(&about[14..14 + 28]);
    let sum = checksum(&[&icmp]);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(1, router, to, &icmp)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A load balancer's address of a Service with the policy Local and one endpoint.
fn fixture(service: SocketAddr, protocol: Protocol, backends: &[SocketAddr]) -> Fixture {
    let mut fixture = Fixture::new(Limits::default());
    let mut port = DesiredPort::new(service, protocol, backends);
    port.frontends[0].flags = flag::LOAD_BALANCER;
    fixture.publish_port(service, port);
    fixture
}

const TCP: u8 = 6;
const UDP: u8 = 17;

#[test]
#[ignore = "needs root"]
fn both_directions_are_translated_with_their_checksums() {
    for (client, service, backend) in [
        ("192.0.2.9:5555", "203.0.113.7:80", "10.244.1.5:8080"),
        ("[2001:db8::9]:5555", "[2001:db8:7::7]:80", "[fd00:9::5]:8080"),
    ] {
        for (number, protocol) in [(TCP, Protocol::Tcp), (UDP, Protocol::Udp)] {
            let (client, service, backend) = (addr(client), addr(service), addr(backend));
            let fixture = fixture(service, protocol, &[backend]);
            let run = |hook, from, to, payload: &[u8]| {
                fixture.dataplane.dry_run(hook, &packet(number, from, to, payload), 1).unwrap()
            };
            for payload in [&b"odd"[..], b"even", b""] {
                let there = run(PacketHook::Ingress, client, service, payload);
                assert_eq!(there.packet, packet(number, client, backend, payload));
                let back = run(PacketHook::Egress, backend, client, payload);
                assert_eq!(back.packet, packet(number, service, client, payload));
                assert!(there.passed && back.passed);
            }
            // What is not the connection's is left alone.
            for (hook, from, to) in [
                (PacketHook::Egress, client, service),
                (PacketHook::Ingress, backend, client),
                (PacketHook::Egress, backend, SocketAddr::new(client.ip(), 5556)),
                (PacketHook::Ingress, client, backend),
            ] {
                let left = run(hook, from, to, b"alone");
                assert_eq!(left.packet, packet(number, from, to, b"alone"), "{hook:?} {from} {to}");
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn an_error_quotes_what_its_receiver_has_sent() {
    let (client, service) = (addr("192.0.2.9:5555"), addr("203.0.113.7:80"));
    let (backend, router) = (addr("10.244.1.5:8080"), addr("192.0.2.77:0").ip());
    let fixture = fixture(service, Protocol::Tcp, &[backend]);
    let run = |hook, packet: &[u8]| fixture.dataplane.dry_run(hook, packet, 1).unwrap().packet;
    run(PacketHook::Ingress, &packet(TCP, client, service, b""));
    // A link behind the node is too narrow for what the client sends.
    let sent = unreachable(router, client.ip(), &packet(TCP, client, backend, b""));
    let mut expected = unreachable(router, client.ip(), &packet(TCP, client, service, b""));
    let mut found = run(PacketHook::Egress, &sent);
    assert_eq!(found, expected);
    // One before it is for what the backend sends: for the node, as far as the router knows.
    let sent = unreachable(router, service.ip(), &packet(TCP, service, client, b""));
    expected = unreachable(router, backend.ip(), &packet(TCP, backend, client, b""));
    found = run(PacketHook::Ingress, &sent);
    assert_eq!(found, expected);
    // An error about anything else is left alone.
    let other = unreachable(router, client.ip(), &packet(TCP, client, addr("10.1.1.1:1"), b""));
    assert_eq!(run(PacketHook::Egress, &other), other);
}

#[test]
#[ignore = "needs root"]
fn packets_that_are_cut_short_or_twisted_are_left_alone() {
    let (client, service) = (addr("192.0.2.9:5555"), addr("203.0.113.7:80"));
    let fixture = fixture(service, Protocol::Tcp, &[addr("10.244.1.5:8080")]);
    let whole = packet(TCP, client, service, b"");
    let error = unreachable(client.ip(), service.ip(), &whole);
    for hook in [PacketHook::Ingress, PacketHook::Egress] {
        for full in [&whole, &error] {
            // The kernel itself lets no shorter one in than with an IP header.
            for length in 34..full.len() {
                let cut = &full[..length];
                let result = fixture.dataplane.dry_run(hook, cut, 1).unwrap();
                // With ports, flags and checksum there is all that translation asks for.
                let translatable = full == &whole && length >= 14 + 20 + 18;
                assert!(translatable || result.packet == cut || !result.passed, "{length}");
            }
        }
        // Headers that lie: every value of the version and length, the protocol and the ethertype.
        for at in [12, 13, 14, 23] {
            for value in 0..=u8::MAX {
                let mut twisted = whole.clone();
                if twisted[at] == value {
                    continue;
                }
                twisted[at] = value;
                let result = fixture.dataplane.dry_run(hook, &twisted, 1).unwrap();
                let untouched = result.packet == twisted;
                // A header with options has its ports elsewhere; that may be a packet to nobody.
                assert!(untouched || at == 14 || at == 23, "{at} {value}");
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn what_a_packet_costs() {
    let (client, service) = (addr("192.0.2.9:5555"), addr("203.0.113.7:80"));
    let fixture = fixture(service, Protocol::Udp, &[addr("10.244.1.5:8080")]);
    let run = |hook, from, to| {
        let packet = packet(UDP, from, to, b"payload");
        // The first begins the connection.
        fixture.dataplane.dry_run(hook, &packet, 1).unwrap();
        fixture.dataplane.dry_run(hook, &packet, 1_000_000).unwrap().duration
    };
    println!("not a Service: {:?}", run(PacketHook::Ingress, client, addr("192.0.2.1:9")));
    // A connection that is translated to itself, so that each turn finds it.
    let itself = addr("203.0.113.8:80");
    let fixture = self::fixture(itself, Protocol::Udp, &[itself]);
    let packet = packet(UDP, client, itself, b"payload");
    fixture.dataplane.dry_run(PacketHook::Ingress, &packet, 1).unwrap();
    let cost = fixture.dataplane.dry_run(PacketHook::Ingress, &packet, 1_000_000).unwrap();
    println!("translated: {:?}", cost.duration);
    assert_eq!(cost.packet, packet);
    assert_eq!(fixture.connections(itself, Protocol::Udp), 1);
}
