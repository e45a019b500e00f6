//! Connections while everything changes and the proxy is killed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::Value;

use super::{Backend, Node, answered, service};
use crate::server::Server;

/// Connections, while the Service's endpoints roll and the proxy is killed again and again: none that
/// has a live backend fails. `PINTLE_CHURN_SECONDS` makes it longer than twenty seconds, and
/// `PINTLE_CHURN_KILL_SECONDS` sets the time between two kills (three).
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn no_connection_fails_while_endpoints_roll_and_the_proxy_is_killed() {
    let seconds = |name: &str, default| {
        std::env::var(name).map_or(default, |text| text.parse().expect("whole seconds"))
    };
    let length = Duration::from_secs(seconds("PINTLE_CHURN_SECONDS", 20));
    let between_kills = Duration::from_secs(seconds("PINTLE_CHURN_KILL_SECONDS", 3));
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--nodes=0"]).await;
    let client = server.client().await;
    let web = service(&client).await;
    let slices = Api::<EndpointSlice>::namespaced(client, "default");
    let mut rolling = Rolling { slices, live: Vec::new(), drained: Vec::new(), number: 0 };
    for _ in 0..BACKENDS {
        rolling.add().await;
    }
    let mut node = Node::new("churn", dir.path(), server.kubeconfig());
    node.start(&[]);
    node.ready();

    let clients = Clients::start(&node, web);
    let (start, mut kills, mut rolls) = (Instant::now(), 0, 0);
    let mut killed_at = Instant::now();
    while start.elapsed() < length {
        if killed_at.elapsed() > between_kills {
            node.kill();
            // Endpoints roll while there is no process, too.
            rolling.roll().await;
            node.start(&[]);
            (killed_at, kills) = (Instant::now(), kills + 1);
        }
        rolling.roll().await;
        rolls += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let elapsed = start.elapsed();
    let (answered, failed) = clients.stop();
    let rate = answered as f64 / elapsed.as_secs_f64();
    println!("{kills} kills, {rolls} rolls, {answered} connections ({rate:.0} a second)");
    assert_eq!(failed, Vec::<String>::new(), "{}", node.log());
    assert!(kills > 0 && rolls > 10, "{kills} {rolls}");
    assert!(rate > 100.0, "{rate}");
    node.ready();
    assert!(server.terminate().await.success());
}

/// Backends that come and go as a Deployment's pods do: one that leaves goes on answering for as long
/// as a pod has to end.
struct Rolling {
    slices: Api<EndpointSlice>,
    live: Vec<(String, Backend)>,
    drained: Vec<(Instant, Backend)>,
    number: u32,
}

impl Rolling {
    async fn add(&mut self) {
        let (name, backend) = (format!("web-{}", self.number), Backend::start());
        self.number += 1;
        self.slices.create(&PostParams::default(), &backend.slice(&name)).await.unwrap();
        self.live.push((name, backend));
    }

    async fn roll(&mut self) {
        self.add().await;
        let (name, backend) = self.live.remove(0);
        self.slices.delete(&name, &DeleteParams::default()).await.unwrap();
        self.drained.push((Instant::now(), backend));
        self.drained.retain(|(since, _)| since.elapsed() < GRACE);
    }
}

/// Processes in the node's cgroup that open connections until they are stopped.
struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    tallies: Arc<Mutex<(u64, Vec<String>)>>,
}

impl Clients {
    fn start(node: &Node, web: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tallies = Arc::new(Mutex::new((0, Vec::new())));
        let client = |_| {
            let (stop, tallies) = (Arc::clone(&stop), Arc::clone(&tallies));
            let to = web.to_string();
            let args =
                ["agnhost", "connect", &to, "--count=2000", "--interval-ms=2", "--timeout-ms=5000"];
            let mut command = node.cgroup.command(&args);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let output = command.output().unwrap();
                    let tally: Value = serde_json::from_slice(&output.stdout).unwrap();
                    let mut tallies = tallies.lock().unwrap();
                    tallies.0 += answered(&tally);
                    let failed = tally["failed"].as_object().unwrap();
                    tallies.1.extend(failed.iter().map(|(why, number)| format!("{number} {why}")));
                }
            })
        };
        let threads = (0..CLIENTS).map(client).collect();
        Self { stop, threads, tallies }
    }

    fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        std::mem::take(&mut self.tallies.lock().unwrap())
    }
}

const BACKENDS: u32 = 4;
/// Each with up to 500 connections a second.
const CLIENTS: u32 = 5;
/// Longer than a process takes to come back; Kubernetes gives a pod thirty seconds.
const GRACE: Duration = Duration::from_secs(15);
