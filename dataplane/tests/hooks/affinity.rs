//! Session affinity.

use std::collections::BTreeSet;
use std::time::Duration;

use pintle_dataplane::Limits;
use pintle_dataplane::plan::{DesiredFrontend, DesiredPort, Protocol, frontend_key};

use crate::agent::Agent;
use crate::backend::Backend;
use crate::fixture::{Fixture, service};

/// A port with two addresses and affinity.
fn sticky(backends: &[Backend], seconds: u32) -> DesiredPort {
    let addrs: Vec<_> = backends.iter().map(Backend::addr).collect();
    let mut port = DesiredPort::new(service(1, 80), Protocol::Tcp, &addrs);
    port.affinity_seconds = seconds;
    let second = frontend_key(service(2, 80), Protocol::Tcp);
    let second = DesiredFrontend { key: second, ..port.frontends[0] };
    port.frontends.push(second);
    port
}

fn backends() -> Vec<Backend> {
    let mut backends: Vec<Backend> = (0..9).map(|_| Backend::tcp()).collect();
    backends.sort_by_key(Backend::addr);
    backends
}

fn ask(agent: &mut Agent, last: u8) -> String {
    let answer = agent.ask(format!("tcp {}", service(last, 80)));
    answer.split(' ').next().unwrap().to_owned()
}

#[test]
#[ignore = "needs root"]
fn a_client_keeps_its_backend_over_all_addresses_of_a_service() {
    let mut fixture = Fixture::new(Limits::default());
    let backends = backends();
    fixture.publish_port(service(1, 80), sticky(&backends, 100));
    let first = ask(&mut fixture.agent, 1);
    for turn in 0..40 {
        assert_eq!(ask(&mut fixture.agent, 1 + turn % 2), first);
    }
    // Its backend stays while others come and go, and when it goes there is another.
    let mut without = backends;
    let place = without.iter().position(|backend| backend.name() != first).unwrap();
    let gone = without.remove(place);
    fixture.publish_port(service(1, 80), sticky(&without, 100));
    assert_eq!(ask(&mut fixture.agent, 2), first);
    without.retain(|backend| backend.name() != first);
    without.push(gone);
    fixture.publish_port(service(1, 80), sticky(&without, 100));
    let second = ask(&mut fixture.agent, 1);
    assert_ne!(second, first);
    assert_eq!(ask(&mut fixture.agent, 2), second);
}

#[test]
#[ignore = "needs root"]
fn affinity_ends_after_its_time_and_each_connection_renews_it() {
    let mut fixture = Fixture::new(Limits::default());
    let backends = backends();
    fixture.publish_port(service(1, 80), sticky(&backends, 1));
    let first = ask(&mut fixture.agent, 1);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(ask(&mut fixture.agent, 1), first, "renewed");
    }
    let mut seen = BTreeSet::from([first]);
    // Each is the first again with a chance of 1/9.
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(1100));
        seen.insert(ask(&mut fixture.agent, 1));
    }
    assert!(seen.len() > 1, "{seen:?}");
}

#[test]
#[ignore = "needs root"]
fn clients_in_other_namespaces_are_other_clients() {
    let mut fixture = Fixture::new(Limits::default());
    let addrs: Vec<_> = (0..9).map(|last| service(last, 8053)).collect();
    let mut port = DesiredPort::new(service(1, 80), Protocol::Udp, &addrs);
    port.affinity_seconds = 100;
    fixture.publish_port(service(1, 80), port);
    let mut chosen = BTreeSet::new();
    for _ in 0..12 {
        let mut pod = Agent::start_in_new_namespace(fixture.cgroup.path());
        let mine: BTreeSet<String> =
            (0..5).map(|_| pod.ask(format!("udp-target {}", service(1, 80)))).collect();
        assert_eq!(mine.len(), 1, "{mine:?}");
        chosen.extend(mine);
    }
    assert!(chosen.len() > 1, "{chosen:?}");
}
