//! Starts every controller over shared informers and waits for shutdown.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Api, Client};
use pintle_client::{EventRecorder, Indexer, Informer, ObjectKey};
use pintle_component::Daemon;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::deployment::DeploymentController;
use crate::endpoint_slice::{self, EndpointSliceController};
use crate::expectations::Expectations;
use crate::metrics::Metrics;
use crate::node_ipam::NodeIpamController;
use crate::owner::controller_of;
use crate::replica_set::ReplicaSetController;
use crate::service_account::ServiceAccountController;
use crate::work_queue::WorkQueue;
use crate::worker::{Sync, run_workers};
use crate::{Config, Error};

/// Run all controllers until `daemon.shutdown` is cancelled.
///
/// # Errors
/// A configuration that cannot work. Requests that fail are tried again and never end the run.
pub async fn run(client: Client, config: Config, daemon: Daemon) -> Result<(), Error> {
    config.check()?;
    let mut manager = Manager {
        informers: Informers::new(),
        metrics: Metrics::register(&daemon.registry),
        tasks: JoinSet::new(),
        client,
        config,
        daemon,
    };
    manager.start();
    manager.daemon.shutdown.cancelled().await;
    // The informers' and recorders' tasks end by being dropped; the workers have seen the token.
    manager.tasks.shutdown().await;
    Ok(())
}

/// The caches that the controllers share: one list and watch each.
#[derive(Clone)]
struct Informers {
    deployments: Informer<Deployment>,
    endpoint_slices: Informer<EndpointSlice>,
    namespaces: Informer<Namespace>,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    replica_sets: Informer<ReplicaSet>,
    service_accounts: Informer<ServiceAccount>,
    services: Informer<Service>,
}

impl Informers {
    fn new() -> Self {
        Self {
            deployments: Informer::new(&[]),
            endpoint_slices: Informer::new(&[endpoint_slice::BY_SERVICE_INDEXER]),
            namespaces: Informer::new(&[]),
            nodes: Informer::new(&[]),
            pods: Informer::new(&[BY_CONTROLLER_INDEXER, BY_NODE_INDEXER]),
            replica_sets: Informer::new(&[]),
            service_accounts: Informer::new(&[]),
            services: Informer::new(&[]),
        }
    }
}

struct Manager {
    client: Client,
    config: Config,
    daemon: Daemon,
    informers: Informers,
    metrics: Metrics,
    tasks: JoinSet<()>,
}

impl Manager {
    /// Subscribe every controller, then let the informers run, so that no change is missed.
    fn start(&mut self) {
        self.start_deployments();
        self.start_endpoint_slices();
        self.start_node_ipam();
        self.start_replica_sets();
        self.start_service_accounts();
        let informers = self.informers.clone();
        self.inform("deployments", informers.deployments);
        self.inform("endpointslices", informers.endpoint_slices);
        self.inform("namespaces", informers.namespaces);
        self.inform("nodes", informers.nodes);
        self.inform("pods", informers.pods);
        self.inform("replicasets", informers.replica_sets);
        self.inform("serviceaccounts", informers.service_accounts);
        self.inform("services", informers.services);
    }

    fn start_deployments(&mut self) {
        let controller = DeploymentController {
            client: self.client.clone(),
            deployments: self.informers.deployments.clone(),
            pods: self.informers.pods.clone(),
            queue: self.queue("deployment"),
            recorder: self.recorder("deployment-controller"),
            replica_sets: self.informers.replica_sets.clone(),
            written: Arc::default(),
        };
        controller.subscribe();
        let queue = controller.queue.clone();
        self.work(controller, queue, self.config.concurrent_deployment_syncs);
    }

    fn start_endpoint_slices(&mut self) {
        let controller = EndpointSliceController {
            client: self.client.clone(),
            endpoint_slices: self.informers.endpoint_slices.clone(),
            max_endpoints: self.config.max_endpoints_per_slice,
            nodes: self.informers.nodes.clone(),
            pods: self.informers.pods.clone(),
            queue: self.queue("endpoint_slice"),
            recorder: self.recorder("endpoint-slice-controller"),
            services: self.informers.services.clone(),
            written: Arc::default(),
        };
        controller.subscribe();
        let queue = controller.queue.clone();
        self.work(controller, queue, self.config.concurrent_service_endpoint_syncs);
    }

    fn start_node_ipam(&mut self) {
        if !self.config.allocate_node_cidrs {
            return;
        }
        let recorder = self.recorder("cidrAllocator");
        let controller = NodeIpamController::new(
            self.client.clone(),
            &self.config,
            self.informers.nodes.clone(),
            self.queue("node_ipam"),
            recorder,
        );
        controller.subscribe();
        let queue = controller.queue.clone();
        // One worker: ranges are handed out one at a time.
        self.work(controller, queue, 1);
    }

    fn start_replica_sets(&mut self) {
        let controller = ReplicaSetController {
            client: self.client.clone(),
            expectations: Arc::new(Expectations::default()),
            pods: self.informers.pods.clone(),
            queue: self.queue("replicaset"),
            recorder: self.recorder("replicaset-controller"),
            replica_sets: self.informers.replica_sets.clone(),
        };
        controller.subscribe();
        let queue = controller.queue.clone();
        self.work(controller, queue, self.config.concurrent_replicaset_syncs);
    }

    fn start_service_accounts(&mut self) {
        let controller = ServiceAccountController {
            client: self.client.clone(),
            namespaces: self.informers.namespaces.clone(),
            queue: self.queue("serviceaccount"),
            service_accounts: self.informers.service_accounts.clone(),
        };
        controller.subscribe();
        let queue = controller.queue.clone();
        self.work(controller, queue, 1);
    }

    fn queue(&self, name: &'static str) -> WorkQueue<ObjectKey> {
        WorkQueue::new(self.metrics.queue(name))
    }

    fn recorder(&mut self, component: &str) -> EventRecorder {
        let (recorder, task) = EventRecorder::new(self.client.clone(), component);
        self.tasks.spawn(task);
        recorder
    }

    /// Start a kind's list and watch and make readiness depend on it.
    fn inform<K>(&mut self, name: &str, informer: Informer<K>)
    where
        K: kube::Resource<DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + std::marker::Sync
            + 'static,
    {
        let synced = informer.clone();
        self.daemon.health.add_ready(&format!("informer-sync-{name}"), move || {
            if synced.is_synced() { Ok(()) } else { Err("not listed yet".to_owned()) }
        });
        let api: Api<K> = Api::all(self.client.clone());
        self.tasks.spawn(informer.run(api, watcher::Config::default()));
    }

    /// Start a controller's workers once every cache is filled.
    fn work<C: Sync>(&mut self, controller: C, queue: WorkQueue<ObjectKey>, count: usize) {
        let informers = self.informers.clone();
        let shutdown = self.daemon.shutdown.clone();
        self.tasks.spawn(async move {
            informers.synced().await;
            run_workers(Arc::new(controller), queue, count, shutdown).await;
        });
    }
}

impl Informers {
    async fn synced(&self) {
        self.deployments.synced().await;
        self.endpoint_slices.synced().await;
        self.namespaces.synced().await;
        self.nodes.synced().await;
        self.pods.synced().await;
        self.replica_sets.synced().await;
        self.service_accounts.synced().await;
        self.services.synced().await;
    }
}

/// Pods by the uid of their controller; those without one by [`orphans_of`] their namespace.
pub(crate) const BY_CONTROLLER: &str = "controller";

/// Pods by the node they are bound to.
pub(crate) const BY_NODE: &str = "node";

const BY_CONTROLLER_INDEXER: Indexer<Pod> = Indexer {
    name: BY_CONTROLLER,
    value: |pod| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let owner = controller_of(&pod.metadata).map(|owner| owner.uid.clone());
        Some(owner.unwrap_or_else(|| orphans_of(namespace)))
    },
};

const BY_NODE_INDEXER: Indexer<Pod> = Indexer {
    name: BY_NODE,
    value: |pod| {
        let node = crate::pod::node_name(pod);
        (!node.is_empty()).then(|| node.to_owned())
    },
};

/// The value of [`BY_CONTROLLER`] for the orphans of a namespace. No uid contains a slash.
pub(crate) fn orphans_of(namespace: &str) -> String {
    format!("orphan/{namespace}")
}
