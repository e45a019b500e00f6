//! The scheduler with an extender: its word counts, and its failures as `ignorable` says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::routing::post;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::scheduler::{Scheduler, until};
use crate::server::Server;

/// Lets pods on every node but `node-0`, prefers `node-2`, and binds.
struct Extender {
    address: std::net::SocketAddr,
    calls: Arc<Calls>,
    _stop: DropGuard,
}

struct Calls {
    client: Client,
    filtered: AtomicUsize,
    bound: AtomicUsize,
}

impl Extender {
    async fn start(client: Client) -> Self {
        let calls = Arc::new(Calls {
            client,
            filtered: AtomicUsize::default(),
            bound: AtomicUsize::default(),
        });
        let app = axum::Router::new()
            .route("/filter", post(filter))
            .route("/prioritize", post(prioritize))
            .route("/bind", post(bind))
            .route("/lie", post(async || r#"{"NodeNames": ["atlantis"]}"#))
            .route("/garbage", post(async || "<html>"))
            .with_state(Arc::clone(&calls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            axum::serve(listener, app).with_graceful_shutdown(stopped).await.unwrap();
        });
        Self { address, calls, _stop: stop.drop_guard() }
    }
}

async fn filter(State(calls): State<Arc<Calls>>, body: String) -> String {
    let asked: Value = serde_json::from_str(&body).unwrap();
    calls.filtered.fetch_add(1, Ordering::Relaxed);
    let names = asked["NodeNames"].as_array().unwrap();
    let kept: Vec<&Value> = names.iter().filter(|name| *name != "node-0").collect();
    json!({"NodeNames": kept, "FailedNodes": {"node-0": "is haunted"}}).to_string()
}

async fn prioritize(body: String) -> String {
    let asked: Value = serde_json::from_str(&body).unwrap();
    let names = asked["NodeNames"].as_array().unwrap();
    let score =
        |name: &Value| json!({"Host": name, "Score": if name == "node-2" { 10 } else { 0 }});
    Value::from_iter(names.iter().map(score)).to_string()
}

async fn bind(State(calls): State<Arc<Calls>>, body: String) -> String {
    let asked: Value = serde_json::from_str(&body).unwrap();
    calls.bound.fetch_add(1, Ordering::Relaxed);
    let (namespace, name) =
        (asked["PodNamespace"].as_str().unwrap(), asked["PodName"].as_str().unwrap());
    let pods: Api<Pod> = Api::namespaced(calls.client.clone(), namespace);
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": name, "uid": asked["PodUID"]}, "target": {"name": asked["Node"]},
    });
    let bound: Result<Value, _> =
        pods.create_subresource("binding", name, &PostParams::default(), &binding).await;
    json!({"Error": bound.err().map(|error| error.to_string()).unwrap_or_default()}).to_string()
}

fn configuration(name: &str, extender: &str) -> String {
    format!(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n\
         leaderElection: {{leaderElect: false}}\nprofiles: [{{schedulerName: {name}}}]\n\
         extenders: [{extender}]\n"
    )
}

async fn create(client: &Client, name: &str, scheduler: &str) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = json!({"metadata": {"name": name}, "spec": {
        "schedulerName": scheduler, "containers": [{"name": "c", "image": "i"}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
}

async fn node_of(client: &Client, name: &str) -> Option<String> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    pods.get(name).await.unwrap().spec.unwrap().node_name
}

/// The notes of a pod's FailedScheduling events.
async fn failures_of(client: &Client, name: &str) -> Vec<String> {
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let events = events.list(&ListParams::default()).await.unwrap().items.into_iter();
    let failed = events.filter(|event| {
        event.reason.as_deref() == Some("FailedScheduling")
            && event.involved_object.name.as_deref() == Some(name)
    });
    failed.filter_map(|event| event.message).collect()
}

/// Until pods may go to every node: a new one has a taint until it is seen to be ready.
async fn nodes_can_be_used(client: &Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    until("nodes can be used", &[], async || {
        let nodes = nodes.list(&ListParams::default()).await.unwrap();
        nodes.iter().all(|node| node.spec.as_ref().is_none_or(|spec| spec.taints.is_none()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extender_filters_prefers_and_binds() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--nodes=3", "--runtime=hollow"]).await;
    let client = server.client().await;
    nodes_can_be_used(&client).await;
    let extender = Extender::start(client.clone()).await;
    let url = format!("http://{}", extender.address);
    let entry = format!(
        "{{urlPrefix: {url:?}, filterVerb: filter, prioritizeVerb: prioritize, bindVerb: bind, \
         weight: 100, nodeCacheCapable: true}}"
    );
    let scheduler =
        Scheduler::start(&server, dir.path(), "extended", &configuration("extended", &entry));
    for number in 0..4 {
        let name = format!("p{number}");
        create(&client, &name, "extended").await;
        until("the pod is bound", &[&scheduler], async || {
            node_of(&client, &name).await.as_deref() == Some("node-2")
        })
        .await;
    }
    let count = |calls: &AtomicUsize| calls.load(Ordering::Relaxed);
    assert_eq!((count(&extender.calls.filtered), count(&extender.calls.bound)), (4, 4));
    assert!(server.terminate().await.success());
}

/// A pod fails by an extender that is not ignorable, and goes its way without one that is.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_extender_counts_as_ignorable_says() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--nodes=1", "--runtime=hollow"]).await;
    let client = server.client().await;
    nodes_can_be_used(&client).await;
    let extender = Extender::start(client.clone()).await;
    let url = format!("http://{}", extender.address);
    let gone = crate::server::free_address();
    for (name, prefix, verb, words) in [
        ("liar", url.clone(), "lie", "atlantis"),
        ("babbler", url.clone(), "garbage", "garbage"),
        ("absent", url.clone(), "nowhere", "404"),
        ("dead", format!("http://{gone}"), "filter", "filter"),
    ] {
        let entry = |ignorable: bool| {
            format!(
                "{{urlPrefix: {prefix:?}, filterVerb: {verb}, nodeCacheCapable: true, \
                 httpTimeout: 2s, ignorable: {ignorable}}}"
            )
        };
        let strict =
            Scheduler::start(&server, dir.path(), name, &configuration(name, &entry(false)));
        create(&client, name, name).await;
        until(words, &[&strict], async || {
            failures_of(&client, name).await.iter().any(|note| note.contains(words))
        })
        .await;
        assert_eq!(node_of(&client, name).await, None);
        drop(strict);
        let lax = Scheduler::start(&server, dir.path(), name, &configuration(name, &entry(true)));
        until("the pod is bound", &[&lax], async || node_of(&client, name).await.is_some()).await;
    }
    assert!(server.terminate().await.success());
}
