//! Packets through the programs without a link: tables of what goes in and what comes out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pintle_dataplane::plan::{DesiredPort, Protocol, ip_addr};
use pintle_dataplane::{Limits, PacketHook};
use pintle_ebpf_common::{Counters, Drop, event, flag};

use crate::fixture::Fixture;

/// TCP or UDP from one address to another, with its checksums.
pub(crate) fn packet(protocol: u8, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
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

pub(crate) fn ip(protocol: u8, from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
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

pub(crate) fn pseudo(protocol: u8, from: IpAddr, to: IpAddr, length: usize) -> Vec<u8> {
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
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for pair in parts.concat().chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An error of a router about a packet, of which it quotes the IP header and eight bytes: that a link
/// is too narrow for it.
fn too_big(router: IpAddr, to: IpAddr, about: &[u8]) -> Vec<u8> {
    let (number, kind, header) = if to.is_ipv4() { (1, [3, 4], 20) } else { (58, [2, 0], 40) };
    error(number, kind, router, to, &about[14..14 + header + 8])
}

pub(crate) fn error(
    number: u8,
    kind: [u8; 2],
    router: IpAddr,
    to: IpAddr,
    about: &[u8],
) -> Vec<u8> {
    let mut icmp = vec![kind[0], kind[1], 0, 0, 0, 0, 5, 0];
    icmp.extend(about);
    let pseudo = pseudo(number, router, to, icmp.len());
    let sum = if number == 58 { checksum(&[&pseudo, &icmp]) } else { checksum(&[&icmp]) };
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(number, router, to, &icmp)
}

/// A packet's piece from a byte of what is behind its IP header on, eight at a time.
fn fragment(packet: &[u8], at: usize, length: usize, more: bool) -> Vec<u8> {
    let v4 = packet[12..14] == [8, 0];
    let header = if v4 { 20 } else { 40 };
    let piece = &packet[14 + header..][at..at + length];
    let offset = (at as u16).to_be_bytes();
    if v4 {
        let mut header = packet[14..34].to_vec();
        header[2..4].copy_from_slice(&(20 + length as u16).to_be_bytes());
        let word = (at as u16 / 8) | if more { 0x2000 } else { 0 };
        header[6..8].copy_from_slice(&word.to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        return [&packet[..14], &header, piece].concat();
    }
    let mut header = packet[14..54].to_vec();
    let next = std::mem::replace(&mut header[6], 44);
    header[4..6].copy_from_slice(&(8 + length as u16).to_be_bytes());
    let extension = [next, 0, offset[0], offset[1] | u8::from(more), 0, 0, 0, 7];
    [&packet[..14], &header, &extension, piece].concat()
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A client, a Service, its backend, a router, and somebody else.
const FAMILIES: [[&str; 5]; 2] = [
    ["192.0.2.9:5555", "203.0.113.7:80", "10.244.1.5:8080", "192.0.2.77:0", "10.1.1.1:1"],
    [
        "[2001:db8::9]:5555",
        "[2001:db8:7::7]:80",
        "[fd00:9::5]:8080",
        "[2001:db8::77]:0",
        "[fd00::1]:1",
    ],
];

/// A load balancer's address of a Service with the policy Local and one endpoint.
fn fixture(service: SocketAddr, protocol: Protocol, backends: &[SocketAddr]) -> Fixture {
    let mut fixture = Fixture::new(Limits::default());
    let mut port = DesiredPort::new(service, protocol, backends);
    port.frontends[0].flags = flag::LOAD_BALANCER;
    fixture.publish_port(service, port);
    fixture
}

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

#[test]
#[ignore = "needs root"]
fn both_directions_are_translated_with_their_checksums() {
    for [client, service, backend, ..] in FAMILIES.map(|addrs| addrs.map(addr)) {
        for (number, protocol) in [(TCP, Protocol::Tcp), (UDP, Protocol::Udp)] {
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
    for [client, service, backend, router, nobody] in FAMILIES.map(|addrs| addrs.map(addr)) {
        let router = router.ip();
        {
            let (number, protocol) = (TCP, Protocol::Tcp);
            let fixture = fixture(service, protocol, &[backend]);
            let run =
                |hook, packet: &[u8]| fixture.dataplane.dry_run(hook, packet, 1).unwrap().packet;
            let of = |from, to| packet(number, from, to, b"");
            run(PacketHook::Ingress, &of(client, service));
            // A link behind the node is too narrow for what the client sends.
            let sent = too_big(router, client.ip(), &of(client, backend));
            let expected = too_big(router, client.ip(), &of(client, service));
            assert_eq!(run(PacketHook::Egress, &sent), expected);
            // One before it is for what the backend sends: for the node, as far as the router knows.
            let sent = too_big(router, service.ip(), &of(service, client));
            let expected = too_big(router, backend.ip(), &of(backend, client));
            assert_eq!(run(PacketHook::Ingress, &sent), expected);
            // An error about anything else is left alone.
            let other = too_big(router, client.ip(), &of(client, nobody));
            assert_eq!(run(PacketHook::Egress, &other), other);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn of_icmpv6_all_errors_are_translated_and_nothing_else() {
    let [client, service, backend, router, _] = FAMILIES[1].map(addr);
    let fixture = fixture(service, Protocol::Udp, &[backend]);
    let run = |hook, packet: &[u8]| fixture.dataplane.dry_run(hook, packet, 1).unwrap().packet;
    run(PacketHook::Ingress, &packet(UDP, client, service, b""));
    let about = |to| packet(UDP, client, to, b"payload that is quoted too")[14..].to_vec();
    for kind in [1, 2, 3, 4, 100, 127, 128, 129, 134, 135, 255] {
        let of = |to| error(58, [kind, 0], router.ip(), client.ip(), &about(to));
        let found = run(PacketHook::Egress, &of(backend));
        // What is quoted of the payload stands under a checksum that was not quoted right before.
        let expected = if kind < 128 { of(service) } else { of(backend) };
        assert_eq!(found[..14 + 40], expected[..14 + 40], "{kind}");
        assert_eq!(found[14 + 40 + 8..][..44], expected[14 + 40 + 8..][..44], "{kind}");
    }
}

#[test]
#[ignore = "needs root"]
fn fragments_follow_the_first_of_them() {
    for [client, service, backend, ..] in FAMILIES.map(|addrs| addrs.map(addr)) {
        let fixture = fixture(service, Protocol::Udp, &[backend]);
        let run = |packet: &[u8]| {
            fixture.dataplane.dry_run(PacketHook::Ingress, packet, 1).unwrap().packet
        };
        let payload = [7; 100];
        let (sent, expected) =
            (packet(UDP, client, service, &payload), packet(UDP, client, backend, &payload));
        let pieces = [(0, 48, true), (48, 48, true), (96, 12, false)];
        let cut = |whole: &[u8], (at, length, more)| fragment(whole, at, length, more);
        // A later one that comes before the first is left alone.
        assert_eq!(run(&cut(&sent, pieces[1])), cut(&sent, pieces[1]));
        for piece in pieces {
            assert_eq!(run(&cut(&sent, piece)), cut(&expected, piece), "{piece:?}");
        }
        // The header of a packet in one piece is none of a fragment.
        if client.is_ipv6() {
            let whole = (0, 108, false);
            assert_eq!(run(&cut(&sent, whole)), cut(&expected, whole));
        }
    }
}

#[test]
#[ignore = "needs root"]
fn sctp_is_translated_where_its_port_stays() {
    for [client, service, backend, ..] in FAMILIES.map(|addrs| addrs.map(addr)) {
        for same in [true, false] {
            let port = if same { service.port() } else { service.port() + 1 };
            let backend = SocketAddr::new(backend.ip(), port);
            let fixture = fixture(service, Protocol::Sctp, &[backend]);
            let sctp = |from: SocketAddr, to: SocketAddr| {
                let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
                ip(132, from.ip(), to.ip(), &[&ports[..], &[1, 2, 3, 4, 5, 6, 7, 8]].concat())
            };
            let run = |hook, packet: &[u8]| fixture.dataplane.dry_run(hook, packet, 1).unwrap();
            let there = run(PacketHook::Ingress, &sctp(client, service));
            assert_eq!(there.passed, same);
            if same {
                assert_eq!(there.packet, sctp(client, backend));
                let back = run(PacketHook::Egress, &sctp(backend, client));
                assert_eq!(back.packet, sctp(service, client));
            } else {
                assert_eq!(fixture.dataplane.events().unwrap().dropped_unfit, 1);
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_drop_says_which_packet_and_why_and_a_flood_of_them_is_not_written_down() {
    let [client, service, ..] = FAMILIES[0].map(addr);
    let mut fixture = Fixture::new(Limits::default());
    let mut port = DesiredPort::new(service, Protocol::Udp, &[]);
    port.frontends[0].flags = flag::LOAD_BALANCER | flag::DROP_EXTERNAL;
    fixture.publish_port(service, port);
    let sent = packet(UDP, client, service, b"");
    let run = |turns| fixture.dataplane.dry_run(PacketHook::Ingress, &sent, turns).unwrap();
    assert!(!run(1).passed);
    let drops = fixture.dataplane.drops().unwrap();
    assert_eq!(drops.len(), 1);
    let Drop { tuple, reason, length, service: number, .. } = drops[0];
    assert_eq!(reason, event::DROPPED_NO_BACKEND);
    assert_eq!(
        (tuple.source_port_be, tuple.destination_port_be),
        (5555_u16.to_be(), 80_u16.to_be())
    );
    assert_eq!(ip_addr(tuple.destination), service.ip());
    assert_eq!((length as usize, number), (sent.len(), 0));
    run(5000);
    let events = fixture.dataplane.events().unwrap();
    assert_eq!(events.dropped_no_backend, 5001);
    let written = fixture.dataplane.drops().unwrap().len() as u64;
    assert!(written <= 2 * Drop::PER_SECOND_MAX + 1, "{written}");
    assert_eq!(written + events.unrecorded, 5001);
}

#[test]
#[ignore = "needs root"]
fn packets_and_bytes_are_counted_in_both_directions() {
    let [client, service, backend, ..] = FAMILIES[1].map(addr);
    let fixture = fixture(service, Protocol::Tcp, &[backend]);
    let run = |hook, from, to, payload: &[u8]| {
        fixture.dataplane.dry_run(hook, &packet(TCP, from, to, payload), 1).unwrap()
    };
    run(PacketHook::Ingress, client, service, b"");
    run(PacketHook::Ingress, client, service, b"four");
    run(PacketHook::Egress, backend, client, b"");
    let counters = fixture.dataplane.counters(0).unwrap();
    let (packets_to, bytes_to) = (2, 2 * 60 + 4);
    let (packets_from, bytes_from) = (1, 60);
    let expected = Counters { connections: 1, packets_to, bytes_to, packets_from, bytes_from };
    assert_eq!(counters, expected);
}

#[test]
#[ignore = "needs root"]
fn flows_are_hashed_to_the_places_of_a_ring() {
    let [_, service, ..] = FAMILIES[0].map(addr);
    let backends: Vec<_> = (1..=9).map(|last| addr(&format!("10.244.1.{last}:8080"))).collect();
    let start = |gone: Option<usize>| {
        let left: Vec<_> = (0..9).filter(|n| Some(*n) != gone).map(|n| backends[n]).collect();
        let mut fixture = Fixture::new(Limits::default());
        let mut port = DesiredPort::new(service, Protocol::Udp, &left);
        port.frontends[0].flags = flag::LOAD_BALANCER;
        port.ring = 16_381;
        fixture.publish_port(service, port);
        fixture
    };
    let choices = |fixture: &Fixture| -> Vec<SocketAddr> {
        let flow = |port| {
            let client = SocketAddr::new([192, 0, 2, 9].into(), port);
            let sent = packet(UDP, client, service, b"");
            let found = fixture.dataplane.dry_run(PacketHook::Ingress, &sent, 1).unwrap().packet;
            *backends.iter().find(|to| found == packet(UDP, client, **to, b"")).unwrap()
        };
        (1000..3000).map(flow).collect()
    };
    let (one, other, without) =
        (choices(&start(None)), choices(&start(None)), choices(&start(Some(4))));
    // As two nodes would.
    assert_eq!(one, other);
    for backend in &backends {
        let share = one.iter().filter(|to| *to == backend).count();
        assert!((130..=320).contains(&share), "{backend} {share}");
    }
    let stayed = |(old, new): &(&SocketAddr, &SocketAddr)| **old == backends[4] || old == new;
    let moved = one.iter().zip(&without).filter(|pair| !stayed(pair)).count();
    println!("of 2000 flows {moved} moved without need");
    assert!(moved <= 40, "{moved}");
}

#[test]
#[ignore = "needs root"]
fn packets_that_are_cut_short_or_twisted_are_left_alone() {
    let (client, service) = (addr("192.0.2.9:5555"), addr("203.0.113.7:80"));
    let fixture = fixture(service, Protocol::Tcp, &[addr("10.244.1.5:8080")]);
    let whole = packet(TCP, client, service, b"");
    let error = too_big(client.ip(), service.ip(), &whole);
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
