//! Connections: where they land, what they show, what is refused, what is left alone.

use std::collections::BTreeMap;
use std::net::TcpStream;

use pintle_dataplane::plan::{DesiredPort, MapOp, Protocol};
use pintle_dataplane::{Dataplane, Limits};
use pintle_ebpf_common::{Frontend, SlotRun};

use crate::agent::Agent;
use crate::backend::Backend;
use crate::cgroup::Cgroup;
use crate::fixture::{Fixture, service};

const ECONNREFUSED: &str = "errno 111";
const EHOSTUNREACH: &str = "errno 113";

#[test]
#[ignore = "needs root"]
fn a_connection_lands_on_the_backend_and_shows_the_service() {
    let mut fixture = Fixture::new(Limits::default());
    let backend = Backend::tcp();
    let service = service(1, 80);
    assert_eq!(fixture.agent.ask(format!("tcp {service}")), ECONNREFUSED);
    fixture.publish(service, Protocol::Tcp, &[backend.addr()]);
    let answer = fixture.agent.ask(format!("tcp {service}"));
    assert_eq!(answer, format!("{} peer {service}", backend.name()));
    assert_eq!(fixture.connections(service, Protocol::Tcp), 1);
}

#[test]
#[ignore = "needs root"]
fn backends_are_chosen_with_equal_chance() {
    let mut fixture = Fixture::new(Limits::default());
    let backends = [Backend::tcp(), Backend::tcp(), Backend::tcp()];
    let service = service(1, 80);
    fixture.publish(service, Protocol::Tcp, &backends.each_ref().map(Backend::addr));
    let mut answered = BTreeMap::<String, u32>::new();
    for _ in 0..300 {
        let answer = fixture.agent.ask(format!("tcp {service}"));
        *answered.entry(answer.split(' ').next().unwrap().to_owned()).or_default() += 1;
    }
    // 100 each, give or take six standard deviations of 8.2.
    for backend in &backends {
        let share = answered[&backend.name()];
        assert!((51..=149).contains(&share), "{answered:?}");
    }
    assert_eq!(answered.len(), 3, "{answered:?}");
    assert_eq!(fixture.connections(service, Protocol::Tcp), 300);
}

#[test]
#[ignore = "needs root"]
fn a_service_without_backends_refuses_and_one_without_local_ones_is_unreachable() {
    let mut fixture = Fixture::new(Limits::default());
    let (none, none_here, backend) = (service(1, 80), service(2, 80), Backend::tcp());
    fixture.publish(none, Protocol::Tcp, &[]);
    fixture.publish(none, Protocol::Udp, &[]);
    let mut dropped = DesiredPort::new(none_here, Protocol::Tcp, &[]);
    dropped.frontends[0].flags |= pintle_ebpf_common::flag::DROP_INTERNAL;
    fixture.publish_port(none_here, dropped);
    for order in ["tcp", "udp-connected", "udp"] {
        assert_eq!(fixture.agent.ask(format!("{order} {none}")), ECONNREFUSED, "{order}");
    }
    assert_eq!(fixture.agent.ask(format!("tcp {none_here}")), EHOSTUNREACH);
    assert_eq!(fixture.dataplane.events().unwrap().refused, 4);

    fixture.publish(none, Protocol::Tcp, &[backend.addr()]);
    assert!(fixture.agent.ask(format!("tcp {none}")).starts_with(&backend.name()));
    fixture.publish(none, Protocol::Tcp, &[]);
    assert_eq!(fixture.agent.ask(format!("tcp {none}")), ECONNREFUSED);
}

#[test]
#[ignore = "needs root"]
fn other_addresses_ports_protocols_and_processes_are_left_alone() {
    let mut fixture = Fixture::new(Limits::default());
    let backend = Backend::tcp();
    let (published, other_port, other_addr) = (service(1, 80), service(1, 81), service(2, 80));
    fixture.publish(published, Protocol::Tcp, &[backend.addr()]);
    let direct = backend.addr();
    assert_eq!(
        fixture.agent.ask(format!("tcp {direct}")),
        format!("{} peer {direct}", backend.name())
    );
    for untouched in [other_port, other_addr] {
        assert_eq!(fixture.agent.ask(format!("tcp {untouched}")), ECONNREFUSED);
    }
    // Not translated, so nobody is there; the kernel says so on the read.
    assert_eq!(fixture.agent.ask(format!("udp-connected {published}")), ECONNREFUSED);
    // This process is not in the cgroup.
    let error = TcpStream::connect(published).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(111));
}

#[test]
#[ignore = "needs root"]
fn each_cgroup_has_the_services_of_its_own_dataplane() {
    let (mut one, mut two) = (Fixture::new(Limits::default()), Fixture::new(Limits::default()));
    let (first, second) = (Backend::tcp(), Backend::tcp());
    let service = service(1, 80);
    one.publish(service, Protocol::Tcp, &[first.addr()]);
    two.publish(service, Protocol::Tcp, &[second.addr()]);
    for _ in 0..20 {
        assert!(one.agent.ask(format!("tcp {service}")).starts_with(&first.name()));
        assert!(two.agent.ask(format!("tcp {service}")).starts_with(&second.name()));
    }
}

#[test]
#[ignore = "needs root"]
fn a_process_in_a_cgroup_below_is_served_too() {
    let mut fixture = Fixture::new(Limits::default());
    let backend = Backend::tcp();
    let service = service(1, 80);
    fixture.publish(service, Protocol::Tcp, &[backend.addr()]);
    let pod = fixture.cgroup.child("pod");
    let mut agent = Agent::start(pod.path());
    assert!(agent.ask(format!("tcp {service}")).starts_with(&backend.name()));
    drop(agent);
}

#[test]
#[ignore = "needs root"]
fn nothing_is_translated_once_the_dataplane_is_dropped() {
    let mut fixture = Fixture::new(Limits::default());
    let backend = Backend::tcp();
    let service = service(1, 80);
    fixture.publish(service, Protocol::Tcp, &[backend.addr()]);
    assert!(fixture.agent.ask(format!("tcp {service}")).starts_with(&backend.name()));
    let Fixture { mut agent, dataplane, cgroup, .. } = fixture;
    drop(dataplane);
    assert_eq!(agent.ask(format!("tcp {service}")), ECONNREFUSED);
    drop(agent);
    drop(cgroup);
}

#[test]
#[ignore = "needs root"]
fn a_removed_service_is_gone() {
    let mut fixture = Fixture::new(Limits::default());
    let backend = Backend::tcp();
    let service = service(1, 80);
    fixture.publish(service, Protocol::Tcp, &[backend.addr()]);
    fixture.remove(service, Protocol::Tcp);
    assert_eq!(fixture.agent.ask(format!("tcp {service}")), ECONNREFUSED);
    assert_eq!(fixture.dataplane.frontends().unwrap(), 0);
    assert_eq!(fixture.dataplane.events().unwrap().refused, 0, "refused by the kernel itself");
}

/// What a program would see if user space were stopped in the middle of a write.
#[test]
#[ignore = "needs root"]
fn a_record_with_a_broken_seal_is_never_used() {
    let mut fixture = Fixture::new(Limits::default());
    let backend = Backend::tcp();
    let service = service(1, 80);
    let port = DesiredPort::new(service, Protocol::Tcp, &[backend.addr()]);
    let (key, backends) = (port.frontends[0].key, port.cluster);
    let internal = SlotRun { base: 0, count: 1 };
    let frontend = Frontend { table: 7, internal, ..Frontend::default() }.sealed_for(key);
    let mut answer = |table, frontend| {
        let write = MapOp::WriteSlots { base: 0, table, backends: backends.clone() };
        fixture.dataplane.apply(&[write, MapOp::PutFrontend { key, frontend }]).unwrap();
        fixture.agent.ask(format!("tcp {service}"))
    };
    assert_eq!(answer(8, frontend), ECONNREFUSED, "the slot is another table's");
    assert_eq!(answer(7, Frontend { flags: 2, ..frontend }), ECONNREFUSED, "half a record");
    assert!(answer(7, frontend).starts_with(&backend.name()));
    assert_eq!(fixture.dataplane.events().unwrap().retried, 8, "four looks each");
}

#[test]
#[ignore = "needs root"]
fn a_cgroup_that_is_not_there_is_named() {
    let cgroup = Cgroup::new();
    let missing = cgroup.path().join("missing");
    let error = Dataplane::load(&missing, Limits::default()).err().unwrap();
    assert_eq!(error.to_string(), format!("open cgroup {}", missing.display()));
}
