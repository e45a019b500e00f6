//! Whole kubelets against the API server in the same process.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use pintle_component::Daemon;
use pintle_kubelet::{Capacity, Config, Error, Runtime};
use pintle_node::ClusterNetworkConfig;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::machine::{Machine, pod_cidr};

/// An API server on a store of its own.
struct Server {
    client: Client,
    _data: tempfile::TempDir,
}

impl Server {
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let options = pintle_store::Options::default();
        let store = pintle_store::EmbeddedStore::open(data.path(), options).unwrap();
        let store: Arc<dyn pintle_store::Store> = store;
        let config = pintle_apiserver::Config::default();
        let daemon = Daemon::default();
        let server = pintle_apiserver::ApiServer::new(store, config, &daemon).await.unwrap();
        let service = server.in_process(pintle_apiserver::UserInfo::admin());
        Self { client: pintle_client::in_process(service), _data: data }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn create(&self, name: &str, node: &str, container: Value) -> Pod {
        let mut spec = json!({ "nodeName": node, "terminationGracePeriodSeconds": 2 });
        spec["containers"] = json!([container]);
        let pod = json!({ "metadata": { "name": name }, "spec": spec });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap()
    }

    /// Wait until a pod's status fits.
    async fn status(&self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..400 {
            let pod = self.pods().get(name).await.unwrap();
            last = serde_json::to_value(pod.status).unwrap();
            if fits(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} stays {last:#}");
    }

    async fn gone(&self, name: &str) {
        for _ in 0..400 {
            if self.pods().get_opt(name).await.unwrap().is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} stays");
    }
}

fn capacity() -> Capacity {
    Capacity {
        milli_cpu: 4000,
        memory_bytes: 8 << 30,
        ephemeral_storage_bytes: 100 << 30,
        pods: 110,
    }
}

fn start(api: &Server, machine: &Machine, third: u8) -> (Daemon, JoinHandle<Result<(), Error>>) {
    let process = machine.process_config();
    let config = Config {
        node_name: "node-0".to_owned(),
        node_ip: process.network.address(),
        capacity: capacity(),
        pod_cidr: Some(pod_cidr(third)),
        labels: Vec::new(),
        runtime: Runtime::Process(process),
    };
    let daemon = Daemon::default();
    (daemon.clone(), tokio::spawn(pintle_kubelet::run(api.client.clone(), config, daemon)))
}

fn ready(status: &Value) -> bool {
    let conditions = status["conditions"].as_array();
    status["phase"] == "Running"
        && conditions
            .is_some_and(|all| all.iter().any(|it| it["type"] == "Ready" && it["status"] == "True"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn a_pod_runs_is_restarted_and_deleted_without_a_trace() {
    let (api, machine) = (Server::new().await, Machine::new("node").await);
    let (daemon, kubelet) = start(&api, &machine, 11);
    let pod = api
        .create(
            "web",
            "node-0",
            json!({ "name": "main", "image": "none",
        "command": ["sh", "-c", "exec sleep $N"], "env": [{ "name": "N", "value": "1000" }],
        "resources": { "requests": { "cpu": "10m" } } }),
        )
        .await;
    let status = api.status("web", ready).await;
    assert!(status["podIP"].as_str().unwrap().starts_with("10.214.11."), "{status}");
    assert_eq!(status["qosClass"], "Burstable");

    let uid = pod.metadata.uid.unwrap();
    let cgroup = machine.process_config().cgroup.child(&format!("pod{uid}"));
    assert_eq!(cgroup.processes().len(), 1);
    cgroup.kill().unwrap();
    let status = api.status("web", |it| it["containerStatuses"][0]["restartCount"] == 1).await;
    let last = &status["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["signal"]), (&json!(137), &json!(9)));

    let node: Node = Api::all(api.client.clone()).get("node-0").await.unwrap();
    let node = serde_json::to_value(node.status).unwrap();
    let conditions = node["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True"));
    assert_eq!(node["allocatable"]["cpu"], "4");
    let leases: Api<Lease> = Api::namespaced(api.client.clone(), "kube-node-lease");
    let lease = leases.get("node-0").await.unwrap();
    assert_eq!(lease.metadata.owner_references.unwrap()[0].kind, "Node");

    api.pods().delete("web", &DeleteParams::default()).await.unwrap();
    api.gone("web").await;
    assert_eq!(machine.pods_left(), Vec::<String>::new());
    let events: Api<Event> = Api::namespaced(api.client.clone(), "default");
    let mut reasons = Vec::new();
    for _ in 0..100 {
        let all = events.list(&ListParams::default()).await.unwrap().items;
        reasons = all.into_iter().filter_map(|it| it.reason).collect();
        if reasons.iter().any(|it| it == "Killing") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for reason in ["NodeReady", "Created", "Started", "Killing"] {
        assert!(reasons.iter().any(|it| it == reason), "{reason} is not in {reasons:?}");
    }
    daemon.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(20), kubelet).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn a_clean_stop_leaves_no_process_and_a_crash_is_made_good() {
    let (api, mut machine) = (Server::new().await, Machine::new("crash").await);
    let (_, kubelet) = start(&api, &machine, 12);
    api.create(
        "web",
        "node-0",
        json!({ "name": "main", "image": "none",
        "command": ["sleep", "1000"] }),
    )
    .await;
    api.status("web", ready).await;
    kubelet.abort();
    // A new process begins by removing what the old one left.
    machine.network = None;
    let config = ClusterNetworkConfig { id: machine.id.clone(), nodes: 1, subnet: None };
    machine.network = Some(pintle_node::ClusterNetwork::create(config).await.unwrap());
    let (daemon, kubelet) = start(&api, &machine, 12);
    let again = |it: &Value| ready(it) && it["containerStatuses"][0]["restartCount"] == 1;
    let status = api.status("web", again).await;
    let last = &status["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["reason"], "ContainerStatusUnknown");

    daemon.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(20), kubelet).await.unwrap().unwrap().unwrap();
    assert_eq!(machine.pods_left(), Vec::<String>::new());
    assert_eq!(machine.process_config().cgroup.processes(), Vec::<i32>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn hollow_nodes_run_pods_that_are_not_there() {
    let api = Server::new().await;
    let config = |index: u8| Config {
        node_name: format!("hollow-{index}"),
        node_ip: [198, 18, 0, index].into(),
        capacity: capacity(),
        pod_cidr: (index > 0).then(|| pod_cidr(index)),
        labels: vec![("type".to_owned(), "hollow".to_owned())],
        runtime: Runtime::Hollow,
    };
    let daemon = Daemon::default();
    let configs = (0..20).map(config).collect();
    let kubelets = pintle_kubelet::run_hollow(api.client.clone(), configs, daemon.clone());
    let kubelets = tokio::spawn(kubelets);
    for index in 0..40 {
        let node = format!("hollow-{}", index % 20);
        let container = json!({ "name": "main", "image": "none" });
        api.create(&format!("pod-{index}"), &node, container).await;
    }
    let mut addresses = std::collections::BTreeSet::new();
    for index in 0..40 {
        let status = api.status(&format!("pod-{index}"), ready).await;
        addresses.insert(status["podIP"].as_str().unwrap().to_owned());
    }
    assert_eq!(addresses.len(), 40);
    assert!(addresses.iter().any(|it| it.starts_with("100.64.")), "{addresses:?}");
    assert!(addresses.iter().any(|it| it.starts_with("10.214.19.")), "{addresses:?}");
    let leases: Api<Lease> = Api::namespaced(api.client.clone(), "kube-node-lease");
    assert_eq!(leases.list(&ListParams::default()).await.unwrap().items.len(), 20);
    api.pods().delete("pod-7", &DeleteParams::default()).await.unwrap();
    api.gone("pod-7").await;
    daemon.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(60), kubelets).await.unwrap().unwrap().unwrap();
}
