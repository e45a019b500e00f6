//! One whole control plane for one test: store, API server and controllers on a directory of its
//! own, and what a test needs to play the other parts.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use pintle_apiserver::{ApiServer, UserInfo};
use pintle_component::Daemon;
use pintle_controllers::Config;
use pintle_store::{EmbeddedStore, Options};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A running control plane.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    controllers: JoinHandle<Result<(), pintle_controllers::Error>>,
    daemon: Daemon,
    // Removed when dropped, also if the test fails.
    _directory: TempDir,
}

impl Cluster {
    /// Start everything and wait until it is ready. Nodes are silent after two seconds.
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path(), Options::default()).unwrap();
        let daemon = Daemon::default();
        let config = pintle_apiserver::Config::default();
        let server = ApiServer::new(store, config, &daemon).await.unwrap();
        let client = pintle_client::in_process(server.in_process(UserInfo::admin()));
        let config = Config {
            node_monitor_grace_period: Duration::from_secs(2),
            node_monitor_period: Duration::from_millis(200),
            ..Config::default()
        };
        // The controllers may do what kube-apiserver's roles allow them, and no more.
        let user = UserInfo::new("system:kube-controller-manager", []);
        let own = pintle_client::in_process(server.in_process(user));
        let run = pintle_controllers::run(own, config, daemon.clone());
        let controllers = tokio::spawn(run);
        let health = daemon.health.clone();
        wait_for("readiness", || async { health.is_ready().then_some(()) }).await;
        Self { client, controllers, daemon, _directory: directory }
    }

    /// Stop cleanly: the controllers end without an error.
    pub(crate) async fn stop(mut self) {
        self.daemon.shutdown.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(60), &mut self.controllers).await;
        ended.expect("the controllers stop in time").unwrap().unwrap();
    }

    /// The API of a kind in the namespace `default`.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Create an object in the namespace `default`.
    pub(crate) async fn create<K>(&self, object: Value)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
        K: Serialize + DeserializeOwned + Clone + Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap();
    }

    /// Every 20 ms: bind new pods, make them run and be ready, and end those that are being deleted.
    pub(crate) fn play_kubelet(&self) -> JoinHandle<()> {
        let pods = self.api::<Pod>();
        tokio::spawn(async move {
            let mut address: u16 = 0;
            loop {
                for pod in pods.list(&ListParams::default()).await.unwrap().items {
                    let name = pod.metadata.name.clone().unwrap();
                    if pod.metadata.deletion_timestamp.is_some() {
                        let now = DeleteParams::default().grace_period(0);
                        let _ = pods.delete(&name, &now).await;
                    } else if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()) {
                        bind(&pods, &name).await;
                    } else if !is_ready(&pod) {
                        address += 1;
                        let ip = format!("10.244.{}.{}", address / 256, address % 256);
                        let patch = pod_status(true, &ip);
                        let _ = pods
                            .patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
                            .await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    }

    /// Change a running pod's readiness.
    pub(crate) async fn set_ready(&self, pod: &Pod, ready: bool) {
        let name = pod.metadata.name.as_deref().unwrap();
        let ip = pod.status.as_ref().unwrap().pod_ip.as_deref().unwrap();
        let patch = Patch::Merge(pod_status(ready, ip));
        self.api::<Pod>().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// The addresses that the Service's slices call ready; nothing before there is a slice.
    pub(crate) async fn ready_addresses(&self, service: &str) -> Option<Vec<String>> {
        let labelled =
            ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let slices = self.api::<EndpointSlice>().list(&labelled).await.unwrap().items;
        (!slices.is_empty()).then_some(())?;
        let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints);
        let ready = endpoints.filter(|endpoint| {
            endpoint.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true))
        });
        Some(ready.flat_map(|endpoint| endpoint.addresses).collect())
    }

    /// Post that a node is ready, as its kubelet would.
    pub(crate) async fn report_ready(&self, node: &str) {
        report_ready(&self.client, node).await;
    }

    /// Renew the node's Lease every 300 ms.
    pub(crate) fn keep_alive(&self, node: &str) -> JoinHandle<()> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        let node = node.to_owned();
        tokio::spawn(async move {
            let lease = serde_json::from_value(json!({"metadata": {"name": node}})).unwrap();
            let _ = leases.create(&PostParams::default(), &lease).await;
            loop {
                let renewed = MicroTime(Timestamp::now());
                let patch = json!({"spec": {
                    "holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": renewed,
                }});
                let _ = leases.patch(&node, &PatchParams::default(), &Patch::Merge(patch)).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.daemon.shutdown.cancel();
    }
}

/// As a scheduler does; the node need not be there.
async fn bind(pods: &Api<Pod>, name: &str) {
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "model"},
    });
    let params = PostParams::default();
    let bound = pods.create_subresource::<_, Value>("binding", name, &params, &binding).await;
    assert!(bound.is_ok() || pods.get_opt(name).await.unwrap().is_none(), "{bound:?}");
}

async fn report_ready(client: &Client, node: &str) {
    let nodes: Api<Node> = Api::all(client.clone());
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "reason": "Posted",
            "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let patch = json!({"status": {"conditions": [
        condition("Ready", "True"), condition("MemoryPressure", "False"),
        condition("DiskPressure", "False"), condition("PIDPressure", "False"),
    ]}});
    nodes.patch_status(node, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

fn pod_status(ready: bool, ip: &str) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({"status": {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [
            {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ],
    }})
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions.unwrap_or_default().iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Status and reason of a Deployment's condition.
pub(crate) fn condition<'a>(deployment: &'a Deployment, kind: &str) -> Option<(&'a str, &'a str)> {
    let conditions = deployment.status.as_ref()?.conditions.as_deref()?;
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((&found.status, found.reason.as_deref()?))
}

/// Ask every 20 ms until there is an answer; fail with `what` after twenty seconds.
pub(crate) async fn wait_for<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
