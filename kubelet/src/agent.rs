//! One node with a real runtime: its registration, its network, and a worker for each of its pods.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use pintle_client::{EventRecorder, Informer};
use pintle_component::Daemon;
use pintle_node::{Ipv4Net, NodeNetwork};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::heartbeat::NodeWriter;
use crate::node::{Machine, Readiness};
use crate::runtime::RuntimeError;
use crate::runtime::process::ProcessRuntime;
use crate::worker::{Desired, Shared, Worker};
use crate::{Config, Error, ProcessConfig, metrics};

pub(crate) async fn run(
    client: Client,
    config: Config,
    process: ProcessConfig,
    daemon: Daemon,
) -> Result<(), Error> {
    let name = config.node_name.clone();
    let registered = Arc::new(AtomicBool::new(false));
    add_check(&daemon, &name, &registered);
    remove_leftovers(&process).await;

    let mut writer = NodeWriter::new(&client, config, Machine::read());
    tokio::select! {
        () = daemon.shutdown.cancelled() => return Ok(()),
        outcome = writer.register() => outcome?,
    }
    registered.store(true, Ordering::Relaxed);

    let (events, write_events) = EventRecorder::new(client.clone(), "kubelet");
    let mut background = JoinSet::new();
    background.spawn(write_events);
    let (readiness, ready) = watch::channel(Readiness::NotReady(NO_POD_CIDR.to_owned()));
    background.spawn(writer.beat(ready.clone(), events.clone()));
    let network = process.network.clone();
    background.spawn(keep_network(client.clone(), name.clone(), network, readiness));

    let shared = Shared {
        client: client.clone(),
        host_ip: process.network.address(),
        runtime: ProcessRuntime::new(process.clone()),
        events,
        metrics: metrics::of_node(&daemon.registry, &name),
    };
    let pods = Pods { shared: Arc::new(shared), workers: HashMap::new(), tasks: JoinSet::new() };
    pods.run(client, &name, ready, &daemon).await;
    background.shutdown().await;
    remove_made(&name, &process.network).await;
    Ok(())
}

/// A node in a namespace goes with its cluster's network; one that is the machine itself has nobody
/// else to clean up.
async fn remove_made(node: &str, network: &NodeNetwork) {
    let removed = match network.namespace() {
        Some(_) => network.remove().await,
        None => pintle_node::cleanup(network.cluster_id()).await.map(drop),
    };
    if let Err(error) = removed {
        let error = RuntimeError::new(&error);
        tracing::warn!(node, %error, "parts of the node are left on this machine");
    }
}

fn add_check(daemon: &Daemon, name: &str, registered: &Arc<AtomicBool>) {
    let registered = Arc::clone(registered);
    daemon.health.add_ready(&format!("kubelet-{name}-registered"), move || {
        if registered.load(Ordering::Relaxed) { Ok(()) } else { Err("not registered".to_owned()) }
    });
}

/// Kill what a predecessor that died left in this node's cgroup, and remove its pods' network.
async fn remove_leftovers(process: &ProcessConfig) {
    let entries = std::fs::read_dir(process.cgroup.path()).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with("pod")) else { continue };
        match process.cgroup.child(name).remove_tree().await {
            Ok(_) => tracing::info!(cgroup = name, "removed what a predecessor left"),
            Err(error) => tracing::warn!(cgroup = name, %error, "leftovers stay"),
        }
    }
    if let Err(error) = process.network.remove().await {
        tracing::warn!(error = %RuntimeError::new(&error), "leftovers stay");
    }
}

/// Give the node its pod network as soon as its podCIDR is known, and routes to the pods of others.
async fn keep_network(
    client: Client,
    name: String,
    network: NodeNetwork,
    readiness: watch::Sender<Readiness>,
) {
    let nodes = Informer::<Node>::new(&[]);
    let changed = Arc::new(Notify::new());
    let notify = Arc::clone(&changed);
    nodes.on_change(move |_| notify.notify_one());
    let follow = nodes.clone().run(Api::all(client), watcher::Config::default());
    let apply = async {
        loop {
            changed.notified().await;
            let (own, peers) = plan_network(&name, nodes.list().iter().map(|it| &**it));
            let Some(own) = own else { continue };
            let set = async {
                network.set_pod_cidr(own).await?;
                network.set_peers(peers).await
            };
            let now = match set.await {
                Ok(()) => Readiness::Ready,
                Err(error) => {
                    let error = RuntimeError::new(&error);
                    tracing::warn!(node = name, %error, "the pod network is not set up");
                    Readiness::NotReady(format!("container runtime network not ready: {error}"))
                }
            };
            let again = now != Readiness::Ready;
            readiness.send_if_modified(|last| std::mem::replace(last, now.clone()) != now);
            if again {
                // What failed may pass; the nodes may not change for long.
                tokio::time::sleep(NETWORK_RETRY).await;
                changed.notify_one();
            }
        }
    };
    tokio::join!(follow, apply);
}

/// The node's own podCIDR, and the podCIDR and address of every other node that has both.
fn plan_network<'a>(
    name: &str,
    nodes: impl Iterator<Item = &'a Node>,
) -> (Option<Ipv4Net>, BTreeMap<Ipv4Net, Ipv4Addr>) {
    let (mut own, mut peers) = (None, BTreeMap::new());
    for node in nodes {
        let cidr = node.spec.as_ref().and_then(|it| it.pod_cidr.as_deref());
        let Some(cidr) = cidr.and_then(|it| it.parse::<Ipv4Net>().ok()) else { continue };
        if node.metadata.name.as_deref() == Some(name) {
            own = Some(cidr);
            continue;
        }
        let addresses = node.status.as_ref().and_then(|it| it.addresses.as_deref());
        let internal = addresses.unwrap_or_default().iter().find(|it| it.type_ == "InternalIP");
        if let Some(address) = internal.and_then(|it| it.address.parse().ok()) {
            peers.insert(cidr, address);
        }
    }
    (own, peers)
}

/// The workers of a node's pods.
struct Pods {
    shared: Arc<Shared<ProcessRuntime>>,
    /// By uid.
    workers: HashMap<String, watch::Sender<Desired>>,
    tasks: JoinSet<String>,
}

impl Pods {
    /// Follow the node's pods until shutdown, then stop them.
    async fn run(
        mut self,
        client: Client,
        node: &str,
        mut ready: watch::Receiver<Readiness>,
        daemon: &Daemon,
    ) {
        let networked = ready.wait_for(|it| *it == Readiness::Ready);
        tokio::select! {
            () = daemon.shutdown.cancelled() => return,
            outcome = networked => if outcome.is_err() { return },
        }
        let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
        let stream = watcher(Api::<Pod>::all(client), config).default_backoff();
        let mut stream = std::pin::pin!(stream);
        let mut listed = HashSet::new();
        loop {
            tokio::select! {
                () = daemon.shutdown.cancelled() => break,
                Some(ended) = self.tasks.join_next() => self.ended(ended),
                event = stream.next() => match event {
                    Some(Ok(event)) => self.apply(event, &mut listed),
                    Some(Err(error)) => tracing::warn!(node, %error, "watch pods again"),
                    None => break,
                },
            }
        }
        self.stop().await;
    }

    fn apply(&mut self, event: watcher::Event<Pod>, listed: &mut HashSet<String>) {
        match event {
            watcher::Event::Init => listed.clear(),
            watcher::Event::InitApply(pod) => {
                listed.extend(pod.metadata.uid.clone());
                self.upsert(pod);
            }
            watcher::Event::InitDone => {
                for (_, desired) in self.workers.iter().filter(|(uid, _)| !listed.contains(*uid)) {
                    desired.send_modify(|it| it.gone = true);
                }
            }
            watcher::Event::Apply(pod) => self.upsert(pod),
            watcher::Event::Delete(pod) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                if let Some(desired) = self.workers.get(&uid) {
                    // Its last version says with how much grace it was deleted.
                    let pod = Arc::new(pod);
                    desired.send_modify(|it| (it.pod, it.gone) = (pod, true));
                }
            }
        }
    }

    fn upsert(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let pod = Arc::new(pod);
        if let Some(desired) = self.workers.get(&uid) {
            desired.send_modify(|it| it.pod = pod);
            return;
        }
        let (sender, desired) = watch::channel(Desired { pod, gone: false, shutdown: false });
        let worker = Worker::new(Arc::clone(&self.shared), desired);
        self.workers.insert(uid.clone(), sender);
        self.shared.metrics.running_pods.inc();
        self.tasks.spawn(async move {
            worker.run().await;
            uid
        });
    }

    fn ended(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                self.workers.remove(&uid);
                self.shared.metrics.running_pods.dec();
            }
            Err(error) => tracing::error!(%error, "a pod worker died"),
        }
    }

    async fn stop(mut self) {
        for desired in self.workers.values() {
            desired.send_modify(|it| it.shutdown = true);
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            tracing::warn!("some pods did not stop in time");
        }
    }
}

const NO_POD_CIDR: &str = "container runtime network not ready: NetworkReady=false \
                           reason:NetworkPluginNotReady message:the node has no podCIDR yet";
const NETWORK_RETRY: std::time::Duration = std::time::Duration::from_secs(2);
/// Longer than a pod's grace on shutdown and the removal of its cgroup together.
const STOP_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_go_to_nodes_with_a_pod_cidr_and_an_address() {
        let node = |name: &str, cidr: Option<&str>, ip: Option<&str>| -> Node {
            let addresses: Vec<_> = ip
                .iter()
                .map(|ip| serde_json::json!({ "type": "InternalIP", "address": ip }))
                .collect();
            serde_json::from_value(serde_json::json!({
                "metadata": { "name": name },
                "spec": { "podCIDR": cidr },
                "status": { "addresses": addresses },
            }))
            .unwrap()
        };
        let nodes = [
            node("a", Some("10.244.0.0/24"), Some("172.30.0.2")),
            node("b", Some("10.244.1.0/24"), Some("172.30.0.3")),
            node("c", None, Some("172.30.0.4")),
            node("d", Some("10.244.3.0/24"), None),
            node("e", Some("fd00::/64"), Some("172.30.0.5")),
        ];
        let (own, peers) = plan_network("a", nodes.iter());
        assert_eq!(own, Some("10.244.0.0/24".parse().unwrap()));
        let expected = [("10.244.1.0/24".parse().unwrap(), "172.30.0.3".parse().unwrap())];
        assert_eq!(peers, expected.into());
    }
}
