//! What the programs for packets take for one, by `BPF_PROG_TEST_RUN`.
//!
//! The kernel gives a program the packet of a turn as the turn before left it. So that each turn has
//! the whole work, two load balancers' addresses are each other's endpoint: a packet of a
//! connection that is known goes back and forth between them.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use anyhow::ensure;
use pintle_dataplane::plan::{DesiredPort, DesiredService, Protocol, ServiceName};
use pintle_dataplane::{Dataplane, PacketHook};
use pintle_ebpf_common::flag;

/// The two Services.
pub(super) fn services() -> Vec<(ServiceName, DesiredService)> {
    [(ONE, OTHER), (OTHER, ONE)]
        .map(|(from, to)| {
            let mut port = DesiredPort::new(from.into(), Protocol::Tcp, &[to.into()]);
            for frontend in &mut port.frontends {
                frontend.flags = flag::LOAD_BALANCER;
            }
            let service = DesiredService { created_ms: 0, ports: vec![Arc::new(port)] };
            (ServiceName::new("bench", &format!("packet-{}", from.ip())), service)
        })
        .into()
}

/// Nanoseconds of a packet that is translated, and of one that is for no Service.
pub(super) fn nanoseconds(dataplane: &Dataplane) -> anyhow::Result<[f64; 2]> {
    let translated = packet(ONE);
    let there = dataplane.dry_run(PacketHook::Ingress, &translated, 1)?;
    ensure!(there.passed && there.packet == packet(OTHER), "the packet was not translated");
    let nobodys = packet(NOBODY);
    let left = dataplane.dry_run(PacketHook::Ingress, &nobodys, 1)?;
    ensure!(left.passed && left.packet == nobodys, "the packet for no Service was changed");
    let mut took = [0.0; 2];
    for (packet, took) in [translated, nobodys].iter().zip(&mut took) {
        *took = dataplane.dry_run(PacketHook::Ingress, packet, TURNS)?.duration.as_nanos() as f64;
    }
    Ok(took)
}

/// An acknowledgement without data, from its Ethernet header on.
fn packet(to: SocketAddrV4) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 40, 0, 7, 0, 0, 64, 6, 0, 0];
    ip.extend(CLIENT.ip().octets());
    ip.extend(to.ip().octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut tcp = [CLIENT.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    // Numbers, a header of five words, ACK, a window, no urgent data.
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, 0x10, 1, 0, 0, 0, 0, 0]);
    let mut pseudo = [CLIENT.ip().octets(), to.ip().octets()].concat();
    pseudo.extend([0, 6, 0, 20]);
    pseudo.extend(&tcp);
    let sum = checksum(&pseudo);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    [vec![2; 12], vec![8, 0], ip, tcp].concat()
}

/// A datagram of 18 bytes, from its Ethernet header on.
pub(super) fn udp(from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 46, 0, 7, 0, 0, 64, 17, 0, 0];
    ip.extend(from.ip().octets());
    ip.extend(to.ip().octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    udp.extend([0, 26, 0, 0]);
    udp.extend([b'r'; 18]);
    let mut pseudo = [from.ip().octets(), to.ip().octets()].concat();
    pseudo.extend([0, 17, 0, 26]);
    pseudo.extend(&udp);
    let sum = checksum(&pseudo);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    [vec![2; 12], vec![8, 0], ip, udp].concat()
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 5555);
const ONE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 80);
const OTHER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 2), 80);
const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 2), 80);
/// About a tenth of a second; the kernel gives up its turn now and then.
const TURNS: u32 = 1_000_000;
