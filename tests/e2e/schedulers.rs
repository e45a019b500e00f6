//! Several schedulers with one Lease: one works, another takes over, and no pod is bound twice.

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use pintle_api::quantity::Quantity;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

use crate::scheduler::{Scheduler, until};
use crate::server::Server;

/// A scheduler of the test's own beside the server's, which leaves its pods alone.
const NAME: &str = "side";
const PODS: usize = 2_000;
/// Room for 2,200 pods.
const NODES: usize = 20;

/// Short times, so that the test is.
const CONFIG: &str = "\
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {resourceName: side, leaseDuration: 8s, renewDeadline: 6s, retryPeriod: 1s}
profiles: [{schedulerName: side}]
";

fn pod(number: usize) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": format!("p{number}")}, "spec": {
        "schedulerName": NAME, "containers": [{"name": "c", "image": "i",
            "resources": {"requests": {"cpu": "10m"}}}]}}))
    .unwrap()
}

async fn create_pods(client: &Client, count: usize) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let created = futures::stream::iter(0..count).for_each_concurrent(32, |number| {
        let pods = pods.clone();
        async move {
            pods.create(&PostParams::default(), &pod(number)).await.unwrap();
        }
    });
    created.await;
}

/// Every node that a pod was ever seen on, from the first pod on.
async fn follow(client: Client, seen: std::sync::Arc<parking_lot::Mutex<Seen>>) {
    let pods: Api<Pod> = Api::default_namespaced(client);
    let mut events = std::pin::pin!(watcher(pods, watcher::Config::default()));
    while let Some(event) = events.next().await {
        let Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) = event else {
            continue;
        };
        let node = pod.spec.and_then(|spec| spec.node_name);
        if let Some(node) = node.filter(|node| !node.is_empty()) {
            seen.lock().entry(pod.metadata.name.unwrap()).or_default().insert(node);
        }
    }
}

/// Nodes by pod.
type Seen = BTreeMap<String, BTreeSet<String>>;

fn leases(client: &Client) -> Api<Lease> {
    Api::namespaced(client.clone(), "kube-system")
}

async fn holder(client: &Client) -> Option<String> {
    leases(client).get_opt(NAME).await.unwrap()?.spec?.holder_identity
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed_while_two_thousand_pods_wait() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = format!("--nodes={NODES}");
    let server = Server::start(&dir.path().join("data"), &[&nodes, "--runtime=hollow"]).await;
    let client = server.client().await;
    create_pods(&client, PODS).await;
    let seen = std::sync::Arc::<parking_lot::Mutex<Seen>>::default();
    let following = tokio::spawn(follow(client.clone(), seen.clone()));

    let first = Scheduler::start(&server, dir.path(), "first", CONFIG);
    until("the first leads", &[&first], async || holder(&client).await.is_some()).await;
    let leader = holder(&client).await;
    let second = Scheduler::start(&server, dir.path(), "second", CONFIG);
    until("some are bound", &[&first], async || seen.lock().len() >= 200).await;
    first.signal(nix::sys::signal::Signal::SIGKILL);
    let bound = seen.lock().len();
    assert!(bound < PODS, "all were bound before the leader could be killed");
    until("all are bound", &[&second], async || seen.lock().len() == PODS).await;

    let lease = leases(&client).get(NAME).await.unwrap().spec.unwrap();
    assert_ne!(lease.holder_identity, leader);
    assert_eq!((lease.lease_transitions, lease.lease_duration_seconds), (Some(1), Some(8)));
    let twice: Vec<_> = seen.lock().clone().into_iter().filter(|(_, on)| on.len() > 1).collect();
    assert_eq!(twice, [], "bound more than once");
    check_room(&client).await;
    following.abort();
    assert!(server.terminate().await.success());
}

/// What the pods of each node ask for, it has.
async fn check_room(client: &Client) {
    let pods: Api<Pod> = Api::all(client.clone());
    let mut by_node: BTreeMap<String, u32> = BTreeMap::new();
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        *by_node.entry(pod.spec.unwrap().node_name.unwrap()).or_default() += 1;
    }
    let nodes: Api<Node> = Api::all(client.clone());
    for node in nodes.list(&ListParams::default()).await.unwrap() {
        let has = node.status.unwrap().allocatable.unwrap();
        let room = |name: &str, each: &str| {
            let (has, each): (Quantity, Quantity) =
                (has[name].0.parse().unwrap(), each.parse().unwrap());
            has.milli_value() / each.milli_value()
        };
        let most = room("pods", "1").min(room("cpu", "10m"));
        let on = by_node.remove(&node.metadata.name.unwrap()).unwrap_or(0);
        assert!(i64::from(on) <= most, "{on} pods on a node with room for {most}");
    }
    assert!(by_node.is_empty(), "pods on nodes that are none: {by_node:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_hands_over_and_a_lost_lease_ends_the_leader() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--nodes=1", "--runtime=hollow"]).await;
    let client = server.client().await;
    let mut first = Scheduler::start(&server, dir.path(), "first", CONFIG);
    until("the first leads", &[&first], async || holder(&client).await.is_some()).await;
    let leader = holder(&client).await;
    let mut second = Scheduler::start(&server, dir.path(), "second", CONFIG);
    first.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(first.exit_code().await, Some(0), "{}", first.log());
    until("the second leads", &[&second], async || {
        let now = holder(&client).await;
        now.is_some() && now != leader
    })
    .await;
    create_pods(&client, 1).await;
    until("it works", &[&second], async || {
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        pods.get("p0").await.unwrap().spec.unwrap().node_name.is_some()
    })
    .await;

    // Somebody takes the Lease by force.
    let theft = json!({"spec": {"holderIdentity": "thief"}});
    leases(&client).patch(NAME, &PatchParams::default(), &Patch::Merge(theft)).await.unwrap();
    assert_eq!(second.exit_code().await, Some(1), "{}", second.log());
    let log = second.log();
    let last = log.trim_end().lines().last().unwrap();
    assert_eq!(
        last,
        "pintle: leader election lost: lease kube-system/side could not be renewed in time"
    );
    assert!(server.terminate().await.success());
}
