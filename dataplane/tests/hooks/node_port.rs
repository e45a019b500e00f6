//! Node ports from the node itself, and the ports they take from others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pintle_dataplane::Limits;
use pintle_dataplane::plan::{DesiredPort, Protocol};
use pintle_ebpf_common::flag;

use crate::agent::Agent;
use crate::backend::Backend;
use crate::fixture::Fixture;

const EADDRINUSE: &str = "errno 98";
const ECONNREFUSED: &str = "errno 111";

fn node_port(port: u16, backends: &[SocketAddr]) -> (SocketAddr, DesiredPort) {
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    let mut desired = DesiredPort::new(any, Protocol::Tcp, backends);
    desired.frontends[0].flags = flag::NODE_PORT | flag::MASQUERADE;
    (any, desired)
}

#[test]
#[ignore = "needs root"]
fn a_node_port_answers_at_the_chosen_addresses_alone() {
    let mut fixture = Fixture::new(Limits::default());
    let backend = Backend::tcp();
    let (any, desired) = node_port(30_080, &[backend.addr()]);
    fixture.publish_port(any, desired);
    let at = |ip: [u8; 4]| SocketAddr::new(ip.into(), 30_080);
    let ask = |fixture: &mut Fixture, to| fixture.agent.ask(format!("tcp {to}"));
    assert_eq!(ask(&mut fixture, at([127, 0, 0, 1])), ECONNREFUSED, "not a chosen address yet");
    fixture.node_address(Ipv4Addr::LOCALHOST.into());
    let one = at([127, 0, 0, 1]);
    assert_eq!(ask(&mut fixture, one), format!("{} peer {one}", backend.name()));
    // All of 127.0.0.0/8 is loopback.
    assert!(ask(&mut fixture, at([127, 3, 2, 1])).starts_with(&backend.name()));
    assert_eq!(ask(&mut fixture, SocketAddr::new([127, 0, 0, 1].into(), 30_081)), ECONNREFUSED);
    // Another address of the node takes its place.
    fixture.node_address([127, 0, 0, 1].into());
    fixture.node_address(IpAddr::from([10, 250, 250, 250]));
    assert_eq!(ask(&mut fixture, at([127, 0, 0, 1])), ECONNREFUSED);
    let other = at([10, 250, 250, 250]);
    assert_eq!(ask(&mut fixture, other), format!("{} peer {other}", backend.name()));
}

#[test]
#[ignore = "needs root"]
fn a_pods_own_loopback_is_not_the_nodes() {
    let mut fixture = Fixture::new(Limits::default());
    let backend = Backend::tcp();
    let (any, desired) = node_port(30_080, &[backend.addr()]);
    fixture.publish_port(any, desired);
    fixture.node_address(Ipv4Addr::LOCALHOST.into());
    let mut pod = Agent::start_in_new_namespace(fixture.cgroup.path());
    let answer = pod.ask("tcp 127.0.0.1:30080");
    assert_ne!(answer.split(' ').next(), Some(&*backend.name()), "{answer}");
    assert!(answer.starts_with("errno"), "{answer}");
    assert_eq!(pod.ask("bind 127.0.0.1:30080"), "bound", "and its ports are its own");
}

#[test]
#[ignore = "needs root"]
fn nobody_is_bound_to_a_node_port() {
    let mut fixture = Fixture::new(Limits::default());
    let (any, desired) = node_port(30_080, &[]);
    fixture.publish_port(any, desired);
    assert_eq!(fixture.agent.ask("bind 0.0.0.0:30080"), "bound", "where none answers");
    fixture.node_address(Ipv4Addr::LOCALHOST.into());
    for address in ["0.0.0.0:30080", "127.0.0.1:30080", "[::]:30080"] {
        assert_eq!(fixture.agent.ask(format!("bind {address}")), EADDRINUSE, "{address}");
    }
    assert_eq!(fixture.agent.ask("bind-udp 0.0.0.0:30080"), "bound", "another protocol");
    assert_eq!(fixture.agent.ask("bind 127.0.0.2:30080"), "bound", "another address");
    assert_eq!(fixture.agent.ask("bind 0.0.0.0:0"), "bound");
    fixture.remove(any, Protocol::Tcp);
    assert_eq!(fixture.agent.ask("bind 0.0.0.0:30080"), "bound");
}
