//! Datagrams: the answers come from the Service, as far as the application can tell.

use std::net::{IpAddr, SocketAddr};

use pintle_dataplane::plan::Protocol;
use pintle_dataplane::{Limits, NodeNamespace};

use crate::agent::Agent;
use crate::backend::Backend;
use crate::fixture::{Fixture, service};

#[test]
#[ignore = "needs root"]
fn a_connected_socket_hears_from_the_service() {
    let mut fixture = Fixture::new(Limits::default());
    let backend = Backend::udp();
    let service = service(1, 53);
    fixture.publish(service, Protocol::Udp, &[backend.addr()]);
    let answer = fixture.agent.ask(format!("udp-connected {service}"));
    assert_eq!(answer, format!("{} from {service} peer {service}", backend.name()));
    assert_eq!(fixture.connections(service, Protocol::Udp), 1);
}

#[test]
#[ignore = "needs root"]
fn an_unconnected_socket_hears_from_the_service_and_keeps_its_backend() {
    let mut fixture = Fixture::new(Limits::default());
    let backends = [Backend::udp(), Backend::udp(), Backend::udp()];
    let service = service(1, 53);
    fixture.publish(service, Protocol::Udp, &backends.each_ref().map(Backend::addr));
    let answers = fixture.agent.ask(format!("udp {service} {service} {service} {service}"));
    let first = answers.split(", ").next().unwrap();
    assert!(first.ends_with(&format!("from {service}")), "{answers}");
    assert!(answers.split(", ").all(|answer| answer == first), "{answers}");
    assert_eq!(fixture.connections(service, Protocol::Udp), 1, "one flow");
}

#[test]
#[ignore = "needs root"]
fn one_socket_may_speak_to_several_services() {
    let mut fixture = Fixture::new(Limits::default());
    let backends = [Backend::udp(), Backend::udp(), Backend::udp()];
    let services = [service(1, 53), service(2, 53), service(3, 53)];
    for (service, backend) in services.iter().zip(&backends) {
        fixture.publish(*service, Protocol::Udp, &[backend.addr()]);
    }
    let [one, two, three] = services;
    let answers = fixture.agent.ask(format!("udp {one} {two} {three} {one}"));
    let mut answers: Vec<&str> = answers.split(", ").collect();
    answers.sort_unstable();
    let name = |index: usize| backends[index].name();
    let mut expected = vec![
        format!("{} from {one}", name(0)),
        format!("{} from {two}", name(1)),
        format!("{} from {three}", name(2)),
        format!("{} from {one}", name(0)),
    ];
    expected.sort_unstable();
    assert_eq!(answers, expected);
}

#[test]
#[ignore = "needs root"]
fn a_backend_spoken_to_directly_answers_under_its_own_address() {
    let mut fixture = Fixture::new(Limits::default());
    let (backend, service) = (Backend::udp(), service(1, 53));
    fixture.publish(service, Protocol::Udp, &[backend.addr()]);
    let direct = backend.addr();
    let answer = fixture.agent.ask(format!("udp {direct}"));
    assert_eq!(answer, format!("{} from {direct}", backend.name()));
    // The later of the two ways decides what the answers of one backend are taken for.
    let answer = fixture.agent.ask(format!("udp {service} {direct}"));
    assert!(answer.ends_with(&format!("{} from {direct}", backend.name())), "{answer}");
}

#[test]
#[ignore = "needs root"]
fn a_socket_connected_again_past_the_services_shows_its_real_peer() {
    let mut fixture = Fixture::new(Limits::default());
    let (backend, service) = (Backend::udp(), service(1, 53));
    fixture.publish(service, Protocol::Udp, &[backend.addr()]);
    let direct = backend.addr();
    let answer = fixture.agent.ask(format!("udp-reconnected {service} {direct}"));
    assert_eq!(answer, format!("{service} {direct}"));
}

#[test]
#[ignore = "needs root"]
fn sockets_of_pods_can_be_left_alone() {
    let mut fixture = Fixture::new(Limits::default());
    let (backend, service) = (Backend::udp(), service(1, 53));
    fixture.publish(service, Protocol::Udp, &[backend.addr()]);
    let mut pod = Agent::start_in_new_namespace(fixture.cgroup.path());
    fixture.dataplane.set_node_namespace(&NodeNamespace::Own).unwrap();
    let order = format!("udp-target {service}");
    let (to_backend, to_service) = (hex(backend.addr()), hex(service));
    for (only, of_pod) in [(false, &to_backend), (true, &to_service), (false, &to_backend)] {
        fixture.dataplane.set_node_sockets_only(only).unwrap();
        assert_eq!(pod.ask(&order), *of_pod, "{only}");
        assert_eq!(fixture.agent.ask(&order), to_backend, "{only}");
    }
}

/// As the kernel shows it in `/proc/net/udp`.
fn hex(addr: SocketAddr) -> String {
    let IpAddr::V4(ip) = addr.ip() else { panic!("{addr}") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), addr.port())
}
