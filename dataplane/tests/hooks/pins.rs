//! Maps and links that outlive the process that made them.

use std::sync::Arc;
use std::time::Duration;

use pintle_dataplane::plan::{
    DesiredPort, DesiredService, LocalDetector, Planner, Protocol, ServiceName, ip_addr,
};
use pintle_dataplane::{Dataplane, Limits, PinnedMaps, Pins};

use crate::agent::Agent;
use crate::backend::Backend;
use crate::cgroup::Cgroup;
use crate::fixture::service;

/// Pins of one test, removed at its end.
struct Pinned {
    pins: Pins,
    cgroup: Cgroup,
}

impl Pinned {
    fn new(name: &str) -> Self {
        let cluster = format!("test-{}", std::process::id());
        Self { pins: Pins::of(&cluster, name), cgroup: Cgroup::new() }
    }

    fn load(&self, limits: Limits) -> (Dataplane, Planner) {
        Dataplane::load_pinned(self.cgroup.path(), limits, &self.pins)
            .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.pins.remove().unwrap();
    }
}

fn web(backends: &[&Backend]) -> [(ServiceName, DesiredService); 1] {
    let addrs: Vec<_> = backends.iter().map(|backend| backend.addr()).collect();
    let port = DesiredPort::new(service(1, 80), Protocol::Tcp, &addrs);
    let name = ServiceName::new("test", "web");
    [(name, DesiredService { created_ms: 0, ports: vec![Arc::new(port)] })]
}

#[test]
#[ignore = "needs root"]
fn services_answer_without_a_process_and_the_next_one_changes_nothing() {
    let pinned = Pinned::new("handover");
    let (first, second) = (Backend::tcp(), Backend::tcp());
    let mut agent = Agent::start(pinned.cgroup.path());
    let (mut dataplane, mut planner) = pinned.load(Limits::default());
    dataplane.apply(&planner.plan(0, web(&[&first])).ops).unwrap();
    drop((dataplane, planner));
    assert!(pinned.pins.exist());
    assert!(agent.ask(format!("tcp {}", service(1, 80))).starts_with(&first.name()));

    let (mut dataplane, mut planner) = pinned.load(Limits::default());
    assert!(agent.ask(format!("tcp {}", service(1, 80))).starts_with(&first.name()));
    assert_eq!(planner.plan(0, web(&[&first])).ops, [], "all is as it should be");
    dataplane.apply(&planner.plan(0, web(&[&second])).ops).unwrap();
    assert!(agent.ask(format!("tcp {}", service(1, 80))).starts_with(&second.name()));
    drop((dataplane, planner));

    // What is no Service any more is gone with the first plan.
    let (mut dataplane, mut planner) = pinned.load(Limits::default());
    dataplane.apply(&planner.plan(0, []).ops).unwrap();
    assert_eq!(agent.ask(format!("tcp {}", service(1, 80))), "errno 111");
    assert_eq!(dataplane.frontends().unwrap(), 0);
}

#[test]
#[ignore = "needs root"]
fn removed_pins_leave_nothing() {
    let pinned = Pinned::new("removal");
    let backend = Backend::tcp();
    let mut agent = Agent::start(pinned.cgroup.path());
    let (mut dataplane, mut planner) = pinned.load(Limits::default());
    dataplane.apply(&planner.plan(0, web(&[&backend])).ops).unwrap();
    assert!(Pins::list().contains(&pinned.pins));
    drop((dataplane, planner));
    pinned.pins.remove().unwrap();
    // The kernel frees a link that nobody holds in its own time.
    let detached = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        agent.ask(format!("tcp {}", service(1, 80))) == "errno 111"
    });
    assert!(detached);
    assert!(!pinned.pins.exist() && !Pins::list().contains(&pinned.pins));
    pinned.pins.remove().unwrap();
}

#[test]
#[ignore = "needs root"]
fn maps_keep_the_sizes_they_have() {
    let pinned = Pinned::new("sizes");
    let small = Limits { frontends_max: 5, slots_max: 64, ..Limits::default() };
    drop(pinned.load(small));
    let (dataplane, _) = pinned.load(Limits::default());
    assert_eq!(dataplane.limits().frontends_max, 5);
    assert_eq!(dataplane.limits().slots_max, 64);
}

#[test]
#[ignore = "needs root"]
fn a_cgroup_that_was_made_anew_gets_links_of_its_own() {
    let pinned = Pinned::new("cgroup");
    let backend = Backend::tcp();
    let old = pinned.cgroup.child("node");
    let path = old.path().to_owned();
    let (mut dataplane, mut planner) =
        Dataplane::load_pinned(&path, Limits::default(), &pinned.pins).unwrap();
    dataplane.apply(&planner.plan(0, web(&[&backend])).ops).unwrap();
    drop((dataplane, planner, old));
    let new = pinned.cgroup.child("node");
    let (_dataplane, _planner) =
        Dataplane::load_pinned(&path, Limits::default(), &pinned.pins).unwrap();
    let mut agent = Agent::start(new.path());
    assert!(agent.ask(format!("tcp {}", service(1, 80))).starts_with(&backend.name()));
    drop(agent);
}

/// The cluster's own clients are those that were named last, whoever named others before.
#[test]
#[ignore = "needs root"]
fn ranges_of_pods_that_are_no_more_do_not_count() {
    let pinned = Pinned::new("ranges");
    let ranges = |cidrs: &[&str]| {
        LocalDetector::Cidrs(cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect())
    };
    let found = || {
        let tables = PinnedMaps::open(&pinned.pins).unwrap().tables().unwrap();
        let cidrs = tables.source_ranges.iter().map(|entry| (ip_addr(entry.address), entry.bits));
        let mut texts: Vec<String> =
            cidrs.map(|(ip, bits)| format!("{ip}/{}", bits - 96)).collect();
        texts.sort();
        texts
    };
    let (mut dataplane, _) = pinned.load(Limits::default());
    dataplane.set_local(&ranges(&["10.244.1.0/24", "10.244.7.0/24"]), false).unwrap();
    assert_eq!(found(), ["10.244.1.0/24", "10.244.7.0/24"]);
    dataplane.set_local(&ranges(&["10.244.2.0/24", "10.244.7.0/24"]), false).unwrap();
    assert_eq!(found(), ["10.244.2.0/24", "10.244.7.0/24"]);
    drop(dataplane);
    let (mut dataplane, mut planner) = pinned.load(Limits::default());
    dataplane.set_local(&ranges(&["10.244.3.0/24"]), false).unwrap();
    dataplane.apply(&planner.plan(0, []).ops).unwrap();
    assert_eq!(found(), ["10.244.3.0/24"]);
}

/// While connections are made, processes take over from each other without an end.
#[test]
#[ignore = "needs root"]
fn no_connection_fails_while_processes_come_and_go() {
    let pinned = Pinned::new("churn");
    let backends = [Backend::tcp(), Backend::tcp(), Backend::tcp()];
    let all: Vec<&Backend> = backends.iter().collect();
    let mut agent = Agent::start(pinned.cgroup.path());
    let (mut dataplane, mut planner) = pinned.load(Limits::default());
    dataplane.apply(&planner.plan(0, web(&all)).ops).unwrap();
    drop((dataplane, planner));
    agent.begin(format!("storm {} 2 4000", service(1, 80)));
    let (start, mut takeovers) = (std::time::Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(3500) {
        let (mut dataplane, mut planner) = pinned.load(Limits::default());
        let some = &all[takeovers % 2..];
        dataplane.apply(&planner.plan(0, web(some)).ops).unwrap();
        takeovers += 1;
    }
    let answer = agent.answer();
    println!("{takeovers} takeovers, connections {answer}");
    let words: Vec<&str> = answer.split(' ').collect();
    assert!(words[1].parse::<u64>().unwrap() > 500, "{answer}");
    assert_eq!(words[3], "0", "{answer}");
    assert!(takeovers > 1, "{takeovers}");
}
