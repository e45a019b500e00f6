//! The whole daemon: an API of two scripted kinds on one side, sockets on the other.

use std::net::IpAddr;
use std::time::Duration;

use pintle_component::{Daemon, encode_metrics};
use pintle_dataplane::{Config, Pins, run};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::api::Api;
use crate::backend::Backend;
use crate::cgroup::Cgroup;
use crate::fixture::service;

fn slice_of(backend: &Backend, revision: u32) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": "web-1", "namespace": "default", "resourceVersion": revision.to_string(),
            "labels": { "kubernetes.io/service-name": "web" },
        },
        "ports": [{ "name": "", "protocol": "TCP", "port": backend.addr().port() }],
        "endpoints": [{ "addresses": ["127.0.0.1"], "conditions": { "ready": true } }],
    })
}

fn service_at(ip: IpAddr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "default", "resourceVersion": "1" },
        "spec": {
            "clusterIP": ip.to_string(), "clusterIPs": [ip.to_string()],
            "ports": [{ "protocol": "TCP", "port": 80 }],
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn two_nodes_of_one_process_follow_the_api() {
    let service = service(1, 80);
    let (first, second) = (Backend::tcp(), Backend::tcp());
    let api = Api::default();
    api.0.lock().services.push(service_at(service.ip()));
    api.0.lock().slices.push(slice_of(&first, 1));

    // The second node's cgroup is not there yet: the daemon makes it.
    let above = Cgroup::new();
    let (node_0, node_1) = (above.child("node-0"), above.path().join("node-1"));
    let daemon = Daemon::default();
    let start = |name: &str, cgroup: &std::path::Path| {
        tokio::spawn(run(api.client(), Config::new(name, cgroup), daemon.clone()))
    };
    let running = [start("node-0", node_0.path()), start("node-1", &node_1)];
    until(|| {
        let ready = |node| daemon.health.answer(&format!("/readyz/dataplane/{node}"), "");
        ["node-0", "node-1"].map(ready).iter().all(|r| r.as_ref().is_some_and(|r| r.status == 200))
    })
    .await;

    let mut agents = [Agent::start(node_0.path()), Agent::start(&node_1)];
    let mut ask = || {
        let mut answers = agents.each_mut().map(|agent| agent.ask(format!("tcp {service}")));
        answers.sort_unstable();
        answers
    };
    let from = |backend: &Backend| format!("{} peer {service}", backend.name());
    assert_eq!(ask(), [from(&first), from(&first)]);
    until(|| api.0.lock().watchers.len() == 2).await;
    api.modify_slice(&slice_of(&second, 2));
    until(|| ask() == [from(&second), from(&second)]).await;
    let text = encode_metrics(&daemon.registry);
    assert!(text.contains("pintle_dataplane_service_ports{node=\"node-1\"} 1"), "{text}");
    let queries = api.0.lock().queries.join("\n");
    for selector in [
        "services?&labelSelector=%21service.kubernetes.io%2Fservice-proxy-name&",
        "endpointslices?&labelSelector=%21service.kubernetes.io%2Fservice-proxy-name%2C\
         %21service.kubernetes.io%2Fheadless&",
    ] {
        assert!(queries.contains(selector), "{queries}");
    }

    daemon.shutdown.cancel();
    for running in running {
        running.await.unwrap().unwrap();
    }
    assert_eq!(ask(), ["errno 111", "errno 111"], "detached");
    drop(agents);
    std::thread::sleep(Duration::from_millis(50));
    std::fs::remove_dir(node_1).unwrap();
}

/// A daemon ends and the API goes on without it; the next finds the tables as they were, and brings
/// them to where the API is.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn services_answer_between_two_daemons_and_the_next_one_catches_up() {
    let service = service(1, 80);
    let (first, second) = (Backend::tcp(), Backend::tcp());
    let api = Api::default();
    api.0.lock().services.push(service_at(service.ip()));
    api.0.lock().slices.push(slice_of(&first, 1));
    let cgroup = Cgroup::new();
    let pins = Pins::of(&format!("test-{}", std::process::id()), "daemon");
    let config = Config {
        pins: Some(pins.clone()),
        keep_pins: true,
        ..Config::new("node-0", cgroup.path())
    };
    let start = |config: Config| {
        let daemon = Daemon::default();
        (tokio::spawn(run(api.client(), config, daemon.clone())), daemon)
    };
    let ready = |daemon: &Daemon| {
        let reply = daemon.health.answer("/readyz/dataplane/node-0", "");
        reply.is_some_and(|reply| reply.status == 200)
    };
    let mut agent = Agent::start(cgroup.path());
    let (running, daemon) = start(config.clone());
    until(|| ready(&daemon)).await;
    let from = |backend: &Backend| format!("{} peer {service}", backend.name());
    assert_eq!(agent.ask(format!("tcp {service}")), from(&first));
    // As killed: nothing is given the time to clean up.
    running.abort();
    let _ = running.await;
    assert_eq!(agent.ask(format!("tcp {service}")), from(&first));

    api.0.lock().slices[0] = slice_of(&second, 2);
    let (running, daemon) = start(config.clone());
    while !ready(&daemon) {
        let answer = agent.ask(format!("tcp {service}"));
        assert!(answer == from(&first) || answer == from(&second), "{answer}");
    }
    assert_eq!(agent.ask(format!("tcp {service}")), from(&second));
    daemon.shutdown.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(agent.ask(format!("tcp {service}")), from(&second), "kept");

    // One that does not keep its pins takes all with it.
    let (running, daemon) = start(Config { keep_pins: false, ..config });
    until(|| ready(&daemon)).await;
    daemon.shutdown.cancel();
    running.await.unwrap().unwrap();
    until(|| agent.ask(format!("tcp {service}")) == "errno 111").await;
    assert!(!pins.exist());
}

/// Wait for at most five seconds.
async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited for five seconds");
}
