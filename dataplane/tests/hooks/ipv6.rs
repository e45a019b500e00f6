//! IPv6, and IPv4 in IPv6 sockets.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use pintle_dataplane::Limits;
use pintle_dataplane::plan::Protocol;

use crate::backend::Backend;
use crate::fixture::{Fixture, service};

/// A cluster IP that nobody has: traffic to it that is not translated has no route.
fn service6(last: u16, port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, last).into(), port)
}

const LOOPBACK: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[test]
#[ignore = "needs root"]
fn a_connection_lands_on_the_backend_and_shows_the_service() {
    let mut fixture = Fixture::new(Limits::default());
    let (backend, service) = (Backend::tcp_at(LOOPBACK), service6(1, 80));
    fixture.publish(service, Protocol::Tcp, &[backend.addr()]);
    let answer = fixture.agent.ask(format!("tcp {service}"));
    assert_eq!(answer, format!("{} peer {service}", backend.name()));
    fixture.publish(service, Protocol::Tcp, &[]);
    assert_eq!(fixture.agent.ask(format!("tcp {service}")), "errno 111");
}

#[test]
#[ignore = "needs root"]
fn datagrams_are_answered_from_the_service() {
    let mut fixture = Fixture::new(Limits::default());
    let backends = [Backend::udp_at(LOOPBACK), Backend::udp_at(LOOPBACK)];
    let services = [service6(1, 53), service6(2, 53)];
    for (service, backend) in services.iter().zip(&backends) {
        fixture.publish(*service, Protocol::Udp, &[backend.addr()]);
    }
    let [one, two] = services;
    let names = backends.each_ref().map(Backend::name);
    let answer = fixture.agent.ask(format!("udp-connected {one}"));
    assert_eq!(answer, format!("{} from {one} peer {one}", names[0]));
    let answers = fixture.agent.ask(format!("udp {one} {two} {one}"));
    for (name, service) in names.iter().zip(services) {
        assert!(answers.contains(&format!("{name} from {service}")), "{answers}");
    }
}

#[test]
#[ignore = "needs root"]
fn an_ipv6_socket_reaches_an_ipv4_service_by_its_mapped_address() {
    let mut fixture = Fixture::new(Limits::default());
    let (tcp, udp) = (Backend::tcp(), Backend::udp());
    let (web, dns) = (service(1, 80), service(1, 53));
    fixture.publish(web, Protocol::Tcp, &[tcp.addr()]);
    fixture.publish(dns, Protocol::Udp, &[udp.addr()]);
    let mapped = |addr: SocketAddr| {
        let IpAddr::V4(ip) = addr.ip() else { panic!("{addr} is IPv6") };
        SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port())
    };
    let (web, dns) = (mapped(web), mapped(dns));
    let answer = fixture.agent.ask(format!("tcp {web}"));
    assert_eq!(answer, format!("{} peer {web}", tcp.name()));
    let answer = fixture.agent.ask(format!("udp-connected {dns}"));
    assert_eq!(answer, format!("{} from {dns} peer {dns}", udp.name()));
    let answer = fixture.agent.ask(format!("udp {dns}"));
    assert_eq!(answer, format!("{} from {dns}", udp.name()));
}
