//! Updates while connections are made.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pintle_dataplane::Limits;
use pintle_dataplane::plan::{DesiredPort, DesiredService, Protocol, ServiceName};

use crate::backend::Backend;
use crate::fixture::{Fixture, service};

/// Of three backends one is replaced every few milliseconds; the old one closes its socket a moment
/// after it was taken out, as a pod does that terminates gracefully. A second Service's backends
/// change all the time, and there are so few slots that the two use each other's right away.
#[test]
#[ignore = "needs root"]
fn no_connection_fails_while_backends_are_replaced() {
    let limits = Limits {
        frontends_max: 2,
        slots_max: 12,
        tcp_peers_max: 16,
        flows_max: 16,
        ..Limits::default()
    };
    let mut fixture = Fixture::new(limits);
    let (steady, noisy) = (service(1, 80), service(2, 80));
    let mut live: VecDeque<Backend> = (0..3).map(|_| Backend::tcp()).collect();
    let mut leaving: VecDeque<(Instant, Backend)> = VecDeque::new();
    let addrs = |live: &VecDeque<Backend>| live.iter().map(Backend::addr).collect::<Vec<_>>();
    fixture.publish(steady, Protocol::Tcp, &addrs(&live));

    fixture.agent.begin(format!("storm {steady} 4 3000"));
    let (start, mut updates) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(2900) {
        live.push_back(Backend::tcp());
        let old = live.pop_front().unwrap();
        fixture.publish(steady, Protocol::Tcp, &addrs(&live));
        leaving.push_back((Instant::now(), old));
        // A listener that nobody has: a connection that landed here would fail.
        for port in 1..=4 {
            fixture.publish(noisy, Protocol::Tcp, &[service(9, port), service(9, port + 1)]);
        }
        updates += 5;
        while leaving.front().is_some_and(|(since, _)| since.elapsed() > LINGER) {
            leaving.pop_front();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let answer = fixture.agent.answer();
    let events = fixture.dataplane.events().unwrap();
    println!("{updates} updates, connections {answer}, looked up again {}", events.retried);
    let words: Vec<&str> = answer.split(' ').collect();
    assert!(words[1].parse::<u64>().unwrap() > 1000, "{answer}");
    assert_eq!(words[3], "0", "{answer}");
    assert!(updates > 500, "{updates} updates");
    assert_eq!(events.refused, 0);
}

/// So many addresses that several share a bucket of the map, each put again all the time: whoever looks for
/// one while it is replaced finds the old or the new, and never neither.
#[test]
#[ignore = "needs root"]
fn an_address_that_is_replaced_is_there_all_the_time() {
    const ADDRESSES: u8 = 16;
    let limits = Limits { frontends_max: ADDRESSES.into(), ..Limits::default() };
    let mut fixture = Fixture::new(limits);
    let all: Vec<_> = (1..=ADDRESSES).map(|last| service(last, 80)).collect();
    let backends = [service(100, 80), service(101, 80)];
    // Of backends that serve on no flow has to be looked for, so that updates come fast.
    let port = |to, count| {
        let mut port = DesiredPort::new(to, Protocol::Udp, &backends);
        port.cluster = port.cluster[..count].into();
        port
    };
    all.iter().for_each(|to| fixture.publish_port(*to, port(*to, 1)));
    let order: Vec<String> = all.iter().map(ToString::to_string).collect();
    fixture.agent.begin(format!("connect-all 5000 {}", order.join(" ")));
    let (start, mut updates) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(4900) {
        for count in [2, 1] {
            all.iter().for_each(|to| fixture.publish_port(*to, port(*to, count)));
            updates += all.len();
        }
    }
    let made: u64 = fixture.agent.answer().parse().unwrap();
    let found: u64 = all.iter().map(|to| fixture.connections(*to, Protocol::Udp)).sum();
    println!("{updates} updates, {made} connections");
    assert!(made > 1000 && updates > 1000, "{made}, {updates}");
    assert_eq!(found, made);
}

/// How long a backend still accepts after it was taken out.
const LINGER: Duration = Duration::from_millis(500);

#[test]
#[ignore = "needs root"]
fn ten_thousand_services_are_programmed_whole() {
    let limits = Limits { frontends_max: 10_001, ..Limits::default() };
    let mut fixture = Fixture::new(limits);
    let backends: Vec<_> = (1..=10).map(|last| service(last, 8080)).collect();
    let services: Vec<_> = (0..10_000_u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            let addr = std::net::SocketAddr::new([127, 97, high, low].into(), 80);
            let ports = vec![DesiredPort::new(addr, Protocol::Tcp, &backends).into()];
            let name = ServiceName::new("bench", &format!("service-{number}"));
            (name, DesiredService { created_ms: 0, ports })
        })
        .collect();
    let start = Instant::now();
    let plan = fixture.planner.plan(0, services);
    let planned = start.elapsed();
    assert_eq!(plan.rejected, []);
    fixture.dataplane.apply(&plan.ops).unwrap();
    println!("10,000 Services of 10 backends: plan {planned:?}, with apply {:?}", start.elapsed());
    assert_eq!(fixture.dataplane.frontends().unwrap(), 10_000);

    let (backend, last) = (Backend::tcp(), service(200, 80));
    fixture.publish(last, Protocol::Tcp, &[backend.addr()]);
    assert!(fixture.agent.ask(format!("tcp {last}")).starts_with(&backend.name()));
}
