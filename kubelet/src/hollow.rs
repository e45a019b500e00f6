//! Many hollow nodes in one process: their pods' status says that they run, and nothing does.
//!
//! One watch of pods, one of nodes and one round of leases serve all nodes; a pod costs one status
//! write when it comes and one deletion when it goes. Pod addresses come from the node's podCIDR, or
//! where it has none from 100.64.0.0/10, which nobody routes.

mod addresses;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use pintle_client::{EventRecorder, Informer, ObjectKey};
use pintle_component::Daemon;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::heartbeat::{LEASE_PERIOD, NodeWriter};
use crate::node::{Machine, Readiness};
use crate::pod::{ContainerObserved, Exit, Intent, PodObserved, Sandbox, pod_status};
use crate::{Config, Error};
use addresses::Addresses;

pub(crate) async fn run(client: Client, configs: Vec<Config>, daemon: Daemon) -> Result<(), Error> {
    let registered = Arc::new(AtomicBool::new(false));
    let check = Arc::clone(&registered);
    daemon.health.add_ready("hollow-kubelet-registered", move || {
        if check.load(Ordering::Relaxed) { Ok(()) } else { Err("not registered".to_owned()) }
    });
    let (events, write_events) = EventRecorder::new(client.clone(), "kubelet");
    let mut background = JoinSet::new();
    background.spawn(write_events);
    let nodes = Informer::<Node>::new(&[]);
    let follow = nodes.clone().run(Api::all(client.clone()), watcher::Config::default());
    background.spawn(follow);

    let hosts = configs.iter().map(|it| (it.node_name.clone(), it.node_ip)).collect();
    tokio::select! {
        () = daemon.shutdown.cancelled() => return Ok(()),
        writers = register(&client, configs, &events) => {
            background.spawn(beat(writers?, events));
        }
    }
    registered.store(true, Ordering::Relaxed);
    let pods = Pods {
        client,
        hosts,
        nodes,
        addresses: Addresses::default(),
        known: HashMap::new(),
        writes: JoinSet::new(),
        room: Arc::new(Semaphore::new(WRITES_MAX)),
    };
    tokio::select! {
        () = daemon.shutdown.cancelled() => {}
        () = pods.run() => {}
    }
    Ok(())
}

async fn register(
    client: &Client,
    configs: Vec<Config>,
    events: &EventRecorder,
) -> Result<Vec<NodeWriter>, Error> {
    let machine = Machine::read();
    stream::iter(configs)
        .map(|config| NodeWriter::new(client, config, machine.clone()))
        .map(|mut writer| async move {
            writer.register().await?;
            beat_once(&mut writer, events).await;
            Ok(writer)
        })
        .buffer_unordered(WRITES_MAX)
        .try_collect()
        .await
}

/// Renew all leases once a period, evenly spread over it.
async fn beat(mut writers: Vec<NodeWriter>, events: EventRecorder) {
    let Ok(count) = u32::try_from(writers.len()) else { return };
    let pause = LEASE_PERIOD / count.max(1);
    loop {
        let start = Instant::now();
        stream::iter(writers.iter_mut().zip(0..))
            .for_each_concurrent(WRITES_MAX, |(writer, place)| {
                let events = &events;
                async move {
                    tokio::time::sleep_until(start + pause * place).await;
                    beat_once(writer, events).await;
                }
            })
            .await;
        tokio::time::sleep_until(start + LEASE_PERIOD).await;
    }
}

async fn beat_once(writer: &mut NodeWriter, events: &EventRecorder) {
    let now = Timestamp::now();
    if let Err(error) = writer.renew(now).await {
        tracing::warn!(%error, "a hollow node's lease is not renewed");
    }
    if let Err(error) = writer.report(&Readiness::Ready, events, now).await {
        tracing::warn!(%error, "a hollow node's status is not reported");
    }
}

/// The pods of all hollow nodes.
struct Pods {
    client: Client,
    /// Our nodes, with their addresses.
    hosts: HashMap<String, std::net::Ipv4Addr>,
    nodes: Informer<Node>,
    addresses: Addresses,
    /// By uid.
    known: HashMap<String, Known>,
    writes: JoinSet<()>,
    room: Arc<Semaphore>,
}

struct Known {
    node: String,
    ip: std::net::Ipv4Addr,
    deleting: bool,
}

/// One write to the API server about a pod.
enum Write {
    Delete,
    Status(Box<PodStatus>),
}

impl Pods {
    async fn run(mut self) {
        // One node: its pods. More: all that are bound, since a selector names one node only.
        let selector = match self.hosts.keys().next() {
            Some(only) if self.hosts.len() == 1 => format!("spec.nodeName={only}"),
            _ => "spec.nodeName!=".to_owned(),
        };
        let config = watcher::Config::default().fields(&selector);
        let stream = watcher(Api::<Pod>::all(self.client.clone()), config).default_backoff();
        let mut stream = std::pin::pin!(stream);
        let mut listed = HashSet::new();
        while let Some(event) = stream.next().await {
            match event {
                Ok(event) => self.apply(event, &mut listed).await,
                Err(error) => tracing::warn!(%error, "watch pods again"),
            }
            while self.writes.try_join_next().is_some() {}
        }
    }

    async fn apply(&mut self, event: watcher::Event<Pod>, listed: &mut HashSet<String>) {
        match event {
            watcher::Event::Init => listed.clear(),
            watcher::Event::InitApply(pod) => {
                listed.extend(pod.metadata.uid.clone());
                self.upsert(pod).await;
            }
            watcher::Event::InitDone => {
                let lost: Vec<_> =
                    self.known.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
                lost.iter().for_each(|uid| self.forget(uid));
            }
            watcher::Event::Apply(pod) => self.upsert(pod).await,
            watcher::Event::Delete(pod) => {
                self.forget(pod.metadata.uid.as_deref().unwrap_or_default());
            }
        }
    }

    fn forget(&mut self, uid: &str) {
        if let Some(known) = self.known.remove(uid) {
            self.addresses.release(&known.node, known.ip);
        }
    }

    async fn upsert(&mut self, pod: Pod) {
        let Some(write) = self.plan(&pod) else { return };
        let (Some(namespace), Some(name)) = (pod.metadata.namespace, pod.metadata.name) else {
            return;
        };
        let api = Api::namespaced(self.client.clone(), &namespace);
        let uid = pod.metadata.uid.unwrap_or_default();
        // The room bounds the writes under way; while there is none the watch waits too.
        let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else { return };
        self.writes.spawn(async move {
            carry_out(&api, &name, &uid, &write).await;
            drop(permit);
        });
    }

    /// What to write about a pod, if anything; what was written is remembered.
    fn plan(&mut self, pod: &Pod) -> Option<Write> {
        let uid = pod.metadata.uid.as_deref()?;
        let node = pod.spec.as_ref()?.node_name.as_deref()?;
        let host_ip = *self.hosts.get(node)?;
        if pod.metadata.deletion_timestamp.is_some() {
            if let Some(known) = self.known.get_mut(uid) {
                return (!std::mem::replace(&mut known.deleting, true)).then_some(Write::Delete);
            }
            return Some(Write::Delete);
        }
        if self.known.contains_key(uid) {
            return None;
        }
        let status = pod.status.as_ref();
        let given = status.and_then(|it| it.pod_ip.as_deref()).and_then(|it| it.parse().ok());
        let runs = status.and_then(|it| it.phase.as_deref()).is_some_and(|it| it != "Pending");
        let cidr = self.nodes.get(&ObjectKey::cluster(node));
        let cidr = cidr.and_then(|it| it.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok());
        let ip = self.addresses.take(node, cidr, given.filter(|_| runs))?;
        let known = Known { node: node.to_owned(), ip, deleting: false };
        self.known.insert(uid.to_owned(), known);
        (!runs).then(|| Write::Status(Box::new(running(pod, ip, host_ip, Timestamp::now()))))
    }
}

/// The status of a pod whose containers all run and are ready.
fn running(
    pod: &Pod,
    ip: std::net::Ipv4Addr,
    host_ip: std::net::Ipv4Addr,
    now: Timestamp,
) -> PodStatus {
    let mut observed = PodObserved::take_up(pod, now);
    observed.sandbox = Sandbox::Ready;
    observed.ip = Some(ip);
    observed.initialized = true;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|it| it.init_containers.as_deref()).unwrap_or_default();
    for (name, container) in &mut observed.containers {
        *container = ContainerObserved::default();
        container.running(format!("hollow://{uid}/{name}"), now, false, false);
        let passes = |it: &k8s_openapi::api::core::v1::Container| {
            it.name == *name && it.restart_policy.is_none()
        };
        if init.iter().any(passes) {
            container.exited(Exit { code: 0, signal: None, out_of_memory: false }, now);
        }
    }
    let previous = pod.status.as_ref().and_then(|it| it.conditions.as_deref()).unwrap_or_default();
    pod_status(pod, Intent::Run, &observed, host_ip, previous, now)
}

/// Write until it is written, or the pod is gone.
async fn carry_out(api: &Api<Pod>, name: &str, uid: &str, write: &Write) {
    loop {
        let written = match write {
            Write::Delete => {
                let preconditions =
                    Preconditions { uid: Some(uid.to_owned()), resource_version: None };
                let params = DeleteParams {
                    grace_period_seconds: Some(0),
                    preconditions: Some(preconditions),
                    ..DeleteParams::default()
                };
                api.delete(name, &params).await.map(drop)
            }
            Write::Status(status) => {
                let patch = json!({ "metadata": { "uid": uid }, "status": status });
                let patch = Patch::Strategic(patch);
                api.patch_status(name, &PatchParams::default(), &patch).await.map(drop)
            }
        };
        match written {
            Ok(()) => return,
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                return;
            }
            Err(error) => tracing::warn!(pod = name, %error, "write about a hollow pod again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Writes under way at once: enough to fill a pipeline, few enough not to drown the API server.
const WRITES_MAX: usize = 64;
const RETRY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
