//! Datagram flows to a backend that is gone.

use std::net::SocketAddr;
use std::time::Instant;

use pintle_dataplane::Limits;
use pintle_dataplane::plan::{DesiredPort, Protocol};

use crate::agent::Agent;
use crate::backend::Backend;
use crate::fixture::{Fixture, service};

/// What a socket's owner who waits hears when the socket is disconnected.
const ECONNABORTED: &str = "errno 103";
/// And what one hears who sends.
const EDESTADDRREQ: &str = "errno 89";

/// A port whose new flows go to `ready`, and whose old ones may go on with `serving`.
fn port(at: SocketAddr, ready: &[SocketAddr], serving: &[SocketAddr]) -> DesiredPort {
    let of = |addrs| DesiredPort::new(at, Protocol::Udp, addrs).cluster;
    DesiredPort { serving: of(serving), ..DesiredPort::new(at, Protocol::Udp, ready) }
}

#[test]
#[ignore = "needs root"]
fn a_connected_socket_keeps_a_backend_that_drains_and_is_torn_down_when_it_is_gone() {
    let mut fixture = Fixture::new(Limits::default());
    let (old, new) = (Backend::udp(), Backend::udp());
    let at = service(1, 53);
    fixture.publish(at, Protocol::Udp, &[old.addr()]);
    assert_eq!(fixture.agent.ask(format!("udp-hold {at}")), old.name());
    // It drains: new flows go elsewhere, this one goes on.
    fixture.publish_port(at, port(at, &[new.addr()], &[old.addr(), new.addr()]));
    assert_eq!(fixture.agent.ask("udp-held"), old.name());
    assert!(fixture.agent.ask(format!("udp {at}")).starts_with(&new.name()));
    // It is gone.
    fixture.publish_port(at, port(at, &[new.addr()], &[new.addr()]));
    assert_eq!(fixture.agent.ask("udp-heard"), ECONNABORTED);
    assert_eq!(fixture.agent.ask("udp-held"), EDESTADDRREQ);
    assert_eq!(fixture.agent.ask(format!("udp-hold {at}")), new.name());
    // So is the Service.
    fixture.remove(at, Protocol::Udp);
    assert_eq!(fixture.agent.ask("udp-heard"), ECONNABORTED);
}

#[test]
#[ignore = "needs root"]
fn sockets_of_other_services_namespaces_and_ways_are_left_alone() {
    let mut fixture = Fixture::new(Limits::default());
    let (old, new) = (Backend::udp(), Backend::udp());
    let (going, staying) = (service(1, 53), service(2, 53));
    for at in [going, staying] {
        fixture.publish(at, Protocol::Udp, &[old.addr()]);
    }
    let start = || Agent::start(fixture.cgroup.path());
    let (mut other, mut direct, mut unconnected) = (start(), start(), start());
    let mut elsewhere = Agent::start_in_new_namespace(fixture.cgroup.path());
    assert_eq!(fixture.agent.ask(format!("udp-hold {going}")), old.name());
    assert_eq!(other.ask(format!("udp-hold {staying}")), old.name());
    assert_eq!(direct.ask(format!("udp-hold {}", old.addr())), old.name());
    assert!(unconnected.ask(format!("udp {going}")).starts_with(&old.name()));
    // Nobody answers there, but the socket is connected to the same backend.
    assert_eq!(elsewhere.ask(format!("udp-hold {going}")), "errno 111");

    fixture.publish(going, Protocol::Udp, &[new.addr()]);
    assert_eq!(fixture.agent.ask("udp-heard"), ECONNABORTED);
    assert_eq!(elsewhere.ask("udp-heard"), ECONNABORTED);
    assert_eq!(other.ask("udp-held"), old.name());
    assert_eq!(direct.ask("udp-held"), old.name());
    assert!(unconnected.ask(format!("udp {going}")).starts_with(&new.name()));
}

#[test]
#[ignore = "needs root"]
fn an_ipv6_sockets_flow_to_an_ipv4_service_ends_too() {
    let mut fixture = Fixture::new(Limits::default());
    let (old, new) = (Backend::udp(), Backend::udp());
    let at = service(1, 53);
    fixture.publish(at, Protocol::Udp, &[old.addr()]);
    assert_eq!(fixture.agent.ask(format!("udp-hold [::ffff:{}]:53", at.ip())), old.name());
    fixture.publish(at, Protocol::Udp, &[new.addr()]);
    assert_eq!(fixture.agent.ask("udp-heard"), ECONNABORTED);
}

#[test]
#[ignore = "needs root"]
fn what_an_end_costs() {
    let mut fixture = Fixture::new(Limits::default());
    let (old, at) = (Backend::udp(), service(1, 53));
    let publish = |fixture: &mut Fixture, serving: &[SocketAddr]| {
        let start = Instant::now();
        fixture.publish_port(at, port(at, &[], serving));
        start.elapsed()
    };
    publish(&mut fixture, &[old.addr()]);
    println!("looking for flows to end: {:?}", publish(&mut fixture, &[]));
}
