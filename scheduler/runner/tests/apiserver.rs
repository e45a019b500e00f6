//! The daemon against pintle's API server and store, in process.
#![expect(clippy::unwrap_used, reason = "a test's failures are panics")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use k8s_openapi::api::scheduling::v1alpha1::Workload;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use pintle_apiserver::{ApiServer, UserInfo};
use pintle_client::{PodBinding, PodWriter as _};
use pintle_component::Daemon;
use pintle_scheduler_runner::{Config, InProcessFeed, InProcessWriter};
use pintle_store::EmbeddedStore;
use serde_json::json;

/// Far longer than anything here takes: a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    client: Client,
    server: ApiServer,
    daemon: Daemon,
    running: tokio::task::JoinHandle<Result<(), pintle_scheduler_runner::Error>>,
    _data: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    async fn start_with(config: Config) -> Self {
        let data = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(data.path(), pintle_store::Options::default()).unwrap();
        let daemon = Daemon::default();
        let server_config = pintle_apiserver::Config::default();
        let server = ApiServer::new(store, server_config, &daemon).await.unwrap();
        let client = pintle_client::in_process(server.in_process(UserInfo::admin()));
        let scheduler = server.in_process(UserInfo::new("system:kube-scheduler", []));
        let scheduler = Arc::new(scheduler);
        let feed = Some(InProcessFeed(Arc::clone(&scheduler) as _));
        let writer = Some(InProcessWriter(scheduler));
        let config = Config { seed: Some(1), feed, writer, ..config };
        let running = pintle_scheduler_runner::run(client.clone(), config, daemon.clone());
        Self { client, server, daemon, running: tokio::spawn(running), _data: data }
    }

    async fn stop(self) {
        self.daemon.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// A node with room, and without the not-ready taint that admission gives to new nodes.
    async fn add_node(&self, name: &str, cpu: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        nodes.create(&PostParams::default(), &node).await.unwrap();
        let status = json!({"status": {"allocatable": {
            "cpu": cpu, "memory": "64Gi", "pods": "110"}}});
        let patch = Patch::Merge(status);
        nodes.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
        let patch = Patch::Merge(json!({"spec": {"taints": null}}));
        nodes.patch(name, &PatchParams::default(), &patch).await.unwrap();
        // So that a pod that comes next is mostly seen after it.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    async fn add_pod(&self, name: &str, cpu: &str) {
        let pod = json!({"metadata": {"name": name}, "spec": {"containers": [
            {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}});
        let pod = serde_json::from_value(pod).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap();
    }

    /// How many pods each node has; pods without one are under the empty name.
    async fn pods_by_node(&self) -> BTreeMap<String, usize> {
        let mut by_node = BTreeMap::new();
        for pod in self.pods().list(&ListParams::default()).await.unwrap() {
            let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
            *by_node.entry(node).or_default() += 1;
        }
        by_node
    }

    async fn event(&self, reason: &str, pod: &str) -> Option<Event> {
        self.events(reason, &[pod]).await.into_iter().next()
    }

    /// Until an event of one of the pods begins so. One before it may still have seen a node with the
    /// taint that new nodes have: watches of pods and nodes are not in step.
    async fn told(&self, reason: &str, pods: &[&str], message: &str) -> Event {
        self.until(message, async |cluster| {
            let events = cluster.events(reason, pods).await;
            let says = |event: &Event| Some(event.message.as_ref()?.starts_with(message));
            events.into_iter().find(|event| says(event) == Some(true))
        })
        .await
    }

    async fn events(&self, reason: &str, pods: &[&str]) -> Vec<Event> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let mut list = events.list(&ListParams::default()).await.unwrap().items;
        list.retain(|event| {
            event.reason.as_deref() == Some(reason)
                && event.involved_object.name.as_deref().is_some_and(|name| pods.contains(&name))
        });
        list
    }

    /// Asks until there is an answer.
    async fn until<T>(&self, what: &str, mut ask: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let asked = async {
            loop {
                if let Some(answer) = ask(self).await {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer,
            Err(_) => panic!("{what}: {:?}", self.pods_by_node().await),
        }
    }
}

/// Status, reason and message of the pod's PodScheduled condition.
fn scheduled(pod: &Pod) -> Option<(&str, Option<&str>, Option<&str>)> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    Some((&condition.status, condition.reason.as_deref(), condition.message.as_deref()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_pods_fill_five_nodes() {
    let cluster = Cluster::start().await;
    for n in 0..5 {
        cluster.add_node(&format!("n{n}"), "4").await;
    }
    for n in 0..200 {
        cluster.add_pod(&format!("p{n}"), "100m").await;
    }
    let full: BTreeMap<String, usize> = (0..5).map(|n| (format!("n{n}"), 40)).collect();
    cluster
        .until("every pod is bound", async |cluster| {
            (cluster.pods_by_node().await == full).then_some(())
        })
        .await;
    let event = cluster.until("the event", async |c| c.event("Scheduled", "p199").await).await;
    let pod = cluster.pods().get("p199").await.unwrap();
    assert_eq!(scheduled(&pod).unwrap().0, "True");
    let node = pod.spec.unwrap().node_name.unwrap();
    let message = format!("Successfully assigned default/p199 to {node}");
    assert_eq!(event.message, Some(message));
    assert_eq!(event.source.unwrap().component.as_deref(), Some("default-scheduler"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_without_a_request_meets_what_a_request_meets() {
    let cluster = Cluster::start().await;
    cluster.add_pod("a", "1").await;
    let bind = async |user: &str, name: &str, uid: Option<&str>, node: &str| {
        let api_server = cluster.server.in_process(UserInfo::new(user, []));
        let bound = api_server.bind(PodBinding { namespace: "default", name, uid, node }).await;
        bound.map_err(|error| match error {
            kube::Error::Api(status) => (status.code, status.reason),
            other => panic!("{other}"),
        })
    };
    let scheduler = "system:kube-scheduler";
    let refused = |code, reason: &str| Err((code, reason.to_owned()));
    assert_eq!(bind("stranger", "a", None, "n").await, refused(403, "Forbidden"));
    assert_eq!(bind(scheduler, "b", None, "n").await, refused(404, "NotFound"));
    assert_eq!(bind(scheduler, "a", None, "").await, refused(422, "Invalid"));
    assert_eq!(bind(scheduler, "a", Some("other"), "n").await, refused(409, "Conflict"));
    let uid = cluster.pods().get("a").await.unwrap().metadata.uid;
    assert_eq!(bind(scheduler, "a", uid.as_deref(), "n").await, Ok(()));
    assert_eq!(bind(scheduler, "a", uid.as_deref(), "m").await, refused(409, "Conflict"));
    let bound = cluster.pods().get("a").await.unwrap();
    assert_eq!(scheduled(&bound).map(|(status, ..)| status), Some("True"));
    assert_eq!(bound.spec.unwrap().node_name.as_deref(), Some("n"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_does_not_fit_says_so_until_there_is_room() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        cluster.add_node(name, "1").await;
    }
    cluster.until("readiness", async |c| c.daemon.health.is_ready().then_some(())).await;
    cluster.add_pod("big", "2").await;
    let message = "0/3 nodes are available: 3 Insufficient cpu. no new claims to deallocate, \
                   preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";
    let event = cluster.told("FailedScheduling", &["big"], message).await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    cluster
        .until("the condition", async |cluster| {
            let pod = cluster.pods().get("big").await.unwrap();
            let expected = ("False", Some("Unschedulable"), Some(message));
            (scheduled(&pod) == Some(expected)).then_some(())
        })
        .await;
    cluster.add_node("d", "2").await;
    cluster
        .until("the pod is bound", async |cluster| {
            let pod = cluster.pods().get("big").await.unwrap();
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            (node == Some("d") && scheduled(&pod)?.0 == "True").then_some(())
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gang_gets_its_devices_together_once_there_are_enough() {
    let cluster = Cluster::start().await;
    let post = PostParams::default();
    cluster.add_node("a", "4").await;
    let classes: Api<DeviceClass> = Api::all(cluster.client.clone());
    let class = json!({"metadata": {"name": "gpu"}, "spec": {"selectors": [
        {"cel": {"expression": "device.driver == 'd.example.com'"}}]}});
    classes.create(&post, &serde_json::from_value(class).unwrap()).await.unwrap();
    let slices: Api<ResourceSlice> = Api::all(cluster.client.clone());
    let slice = |pool: &str| {
        let slice = json!({"metadata": {"name": pool}, "spec": {"driver": "d.example.com",
            "nodeName": "a", "pool": {"name": pool, "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "x"}]}});
        serde_json::from_value(slice).unwrap()
    };
    slices.create(&post, &slice("first")).await.unwrap();
    let workloads: Api<Workload> = Api::namespaced(cluster.client.clone(), "default");
    let workload = json!({"metadata": {"name": "w"}, "spec": {"podGroups": [
        {"name": "g", "policy": {"gang": {"minCount": 2}}}]}});
    workloads.create(&post, &serde_json::from_value(workload).unwrap()).await.unwrap();
    let claims: Api<ResourceClaim> = Api::namespaced(cluster.client.clone(), "default");
    for name in ["p0", "p1"] {
        let claim = json!({"metadata": {"name": name}, "spec": {"devices": {"requests": [
            {"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}});
        claims.create(&post, &serde_json::from_value(claim).unwrap()).await.unwrap();
        let pod = json!({"metadata": {"name": name}, "spec": {
            "containers": [{"name": "c", "image": "i"}],
            "workloadRef": {"name": "w", "podGroup": "g"},
            "resourceClaims": [{"name": "gpu", "resourceClaimName": name}]}});
        cluster.pods().create(&post, &serde_json::from_value(pod).unwrap()).await.unwrap();
    }
    for reason in [
        "0/1 nodes are available: 1 cannot allocate all claims.",
        "pod group is unschedulable, minCount (2) cannot be satisfied: 1 scheduled, 0 remaining",
    ] {
        cluster.told("FailedScheduling", &["p0", "p1"], reason).await;
    }
    assert_eq!(cluster.pods_by_node().await[""], 2);
    slices.create(&post, &slice("second")).await.unwrap();
    cluster
        .until("both are bound", async |cluster| {
            (cluster.pods_by_node().await.get("a") == Some(&2)).then_some(())
        })
        .await;
    let mut pools = Vec::new();
    for name in ["p0", "p1"] {
        let claim = claims.get(name).await.unwrap();
        let finalizers = claim.metadata.finalizers.unwrap_or_default();
        assert_eq!(finalizers, ["resource.kubernetes.io/delete-protection"]);
        let status = claim.status.unwrap();
        let consumers = status.reserved_for.unwrap();
        assert_eq!((consumers.len(), consumers[0].name.as_str()), (1, name));
        pools.push(status.allocation.unwrap().devices.unwrap().results.unwrap()[0].pool.clone());
    }
    pools.sort_unstable();
    assert_eq!(pools, ["first", "second"]);
    cluster.stop().await;
}

/// Creates an object where its path says.
async fn post(client: &Client, path: &str, object: serde_json::Value) {
    let request = http::Request::post(path).body(serde_json::to_vec(&object).unwrap()).unwrap();
    client.request::<serde_json::Value>(request).await.unwrap();
}

/// A class that waits for pods, and a claim of it.
async fn add_claim(cluster: &Cluster, provisioner: &str) {
    let client = &cluster.client;
    let class = json!({"metadata": {"name": "s"}, "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer"});
    post(client, "/apis/storage.k8s.io/v1/storageclasses", class).await;
    let claim = json!({"metadata": {"name": "c"}, "spec": {"storageClassName": "s",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    post(client, "/api/v1/namespaces/default/persistentvolumeclaims", claim).await;
}

async fn add_pod_with_claim(cluster: &Cluster) {
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}});
    post(&cluster.client, "/api/v1/namespaces/default/pods", pod).await;
}

/// What a volume controller writes once the claim has its volume.
async fn bind_claim(cluster: &Cluster) {
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(cluster.client.clone());
    let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "v"}});
    claims.patch("c", &PatchParams::default(), &Patch::Merge(bound)).await.unwrap();
}

async fn node_of(cluster: &Cluster) -> Option<String> {
    cluster.pods().get("p").await.unwrap().spec?.node_name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_waits_for_its_volume_to_be_bound() {
    let cluster = Cluster::start().await;
    cluster.add_node("a", "4").await;
    add_claim(&cluster, "kubernetes.io/no-provisioner").await;
    let volume = json!({"metadata": {"name": "v"}, "spec": {"storageClassName": "s",
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
        "hostPath": {"path": "/x"}}});
    post(&cluster.client, "/api/v1/persistentvolumes", volume).await;
    add_pod_with_claim(&cluster).await;
    // A volume is not taken before a controller says that it is available.
    let message = "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to \
                   bind.";
    cluster.told("FailedScheduling", &["p"], message).await;
    let volumes: Api<PersistentVolume> = Api::all(cluster.client.clone());
    let available = Patch::Merge(json!({"status": {"phase": "Available"}}));
    volumes.patch_status("v", &PatchParams::default(), &available).await.unwrap();
    let chosen = async |_: &Cluster| volumes.get("v").await.unwrap().spec?.claim_ref;
    let reference = cluster.until("the volume is chosen", chosen).await;
    assert_eq!(reference.name.as_deref(), Some("c"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let waiting = cluster.pods().get("p").await.unwrap();
    assert_eq!(waiting.spec.unwrap().node_name, None);
    assert_eq!(waiting.status.unwrap().nominated_node_name.as_deref(), Some("a"));
    bind_claim(&cluster).await;
    let node = cluster.until("the pod is bound", async |c| node_of(c).await).await;
    assert_eq!(node, "a");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_tried_again_when_its_volume_cannot_be_made() {
    let cluster = Cluster::start().await;
    cluster.add_node("a", "4").await;
    add_claim(&cluster, "csi.example.com").await;
    add_pod_with_claim(&cluster).await;
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(cluster.client.clone());
    const SELECTED: &str = "volume.kubernetes.io/selected-node";
    let selected = async |_: &Cluster| {
        claims.get("c").await.unwrap().metadata.annotations?.get(SELECTED).cloned()
    };
    assert_eq!(cluster.until("a node is selected", selected).await, "a");
    // The provisioner gives up.
    let rejected = Patch::Merge(json!({"metadata": {"annotations": {SELECTED: null, "x": "y"}}}));
    claims.patch("c", &PatchParams::default(), &rejected).await.unwrap();
    let message = "running PreBind plugin \"VolumeBinding\": binding volumes: provisioning failed for \
             PVC \"c\"";
    cluster.told("FailedScheduling", &["p"], message).await;
    assert_eq!(cluster.until("selected again", selected).await, "a");
    let volume = json!({"metadata": {"name": "v"}, "spec": {"storageClassName": "s",
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
        "csi": {"driver": "csi.example.com", "volumeHandle": "h"}}});
    post(&cluster.client, "/api/v1/persistentvolumes", volume).await;
    bind_claim(&cluster).await;
    cluster.until("the pod is bound", async |c| node_of(c).await).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_is_late_is_not_waited_for_any_longer() {
    let timeouts = [("default-scheduler".to_owned(), Duration::from_millis(300))];
    let config =
        Config { bind_timeouts: std::sync::Arc::new(timeouts.into()), ..Config::default() };
    let cluster = Cluster::start_with(config).await;
    cluster.add_node("a", "4").await;
    add_claim(&cluster, "csi.example.com").await;
    add_pod_with_claim(&cluster).await;
    let message =
        "running PreBind plugin \"VolumeBinding\": binding volumes: context deadline exceeded";
    cluster.told("FailedScheduling", &["p"], message).await;
    cluster.stop().await;
}
