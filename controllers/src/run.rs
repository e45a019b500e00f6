//! Starts every controller over shared informers and waits for shutdown.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use kube::runtime::watcher;
use kube::{Api, Client};
use parking_lot::Mutex;
use pintle_api::scheme::Resource;
use pintle_client::{EventRecorder, Indexer, Informer, ObjectKey};
use pintle_component::Daemon;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::deployment::DeploymentController;
use crate::endpoint_slice::{self, EndpointSliceController};
use crate::expectations::Expectations;
use crate::garbage_collector::GarbageCollector;
use crate::metrics::Metrics;
use crate::namespace::NamespaceController;
use crate::node_ipam::NodeIpamController;
use crate::node_lifecycle::{LEASE_NAMESPACE, NodeLifecycleController, Zones};
use crate::owner::controller_of;
use crate::pod_gc::PodGcController;
use crate::replica_set::ReplicaSetController;
use crate::resource_claim::ResourceClaimController;
use crate::resource_claim::reservation::ReservationController;
use crate::service_account::ServiceAccountController;
use crate::stub::Stub;
use crate::taint_eviction::TaintEvictionController;
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
    leases: Informer<Lease>,
    namespaces: Informer<Namespace>,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    replica_sets: Informer<ReplicaSet>,
    resource_claims: Informer<ResourceClaim>,
    resource_claim_templates: Informer<ResourceClaimTemplate>,
    service_accounts: Informer<ServiceAccount>,
    services: Informer<Service>,
    /// The metadata of every kind that can own or be owned.
    stubs: Vec<(&'static Resource, Informer<Stub>)>,
}

impl Informers {
    fn new() -> Self {
        Self {
            deployments: Informer::new(&[]),
            endpoint_slices: Informer::new(&[endpoint_slice::BY_SERVICE_INDEXER]),
            leases: Informer::new(&[]),
            namespaces: Informer::new(&[]),
            nodes: Informer::new(&[]),
            pods: Informer::new(&[BY_CONTROLLER_INDEXER, BY_NODE_INDEXER]),
            replica_sets: Informer::new(&[]),
            resource_claims: Informer::new(&[]),
            resource_claim_templates: Informer::new(&[]),
            service_accounts: Informer::new(&[]),
            services: Informer::new(&[]),
            stubs: GarbageCollector::resources().map(|r| (r, Informer::new(&[]))).collect(),
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
        self.start_garbage_collector();
        self.start_namespaces();
        self.start_node_ipam();
        self.start_node_lifecycle();
        self.start_pod_gc();
        self.start_replica_sets();
        self.start_resource_claims();
        self.start_service_accounts();
        self.start_taint_eviction();
        let informers = self.informers.clone();
        self.inform_all("deployments", informers.deployments);
        self.inform_all("endpointslices", informers.endpoint_slices);
        let leases = Api::namespaced(self.client.clone(), LEASE_NAMESPACE);
        self.inform("leases", informers.leases, leases);
        self.inform_all("namespaces", informers.namespaces);
        self.inform_all("nodes", informers.nodes);
        self.inform_all("pods", informers.pods);
        self.inform_all("replicasets", informers.replica_sets);
        self.inform_all("resourceclaims", informers.resource_claims);
        self.inform_all("resourceclaimtemplates", informers.resource_claim_templates);
        self.inform_all("serviceaccounts", informers.service_accounts);
        self.inform_all("services", informers.services);
        for (resource, informer) in informers.stubs {
            let api = Api::all_with(self.client.clone(), &resource);
            self.inform(&format!("garbage-collector-{}", resource.plural), informer, api);
        }
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
        self.work(Arc::new(controller), queue, self.config.concurrent_deployment_syncs);
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
        self.work(Arc::new(controller), queue, self.config.concurrent_service_endpoint_syncs);
    }

    fn start_garbage_collector(&mut self) {
        let queue = self.queue("garbage_collector_attempt_to_delete");
        let controller = GarbageCollector::new(self.client.clone(), queue.clone());
        for (resource, informer) in &self.informers.stubs {
            controller.subscribe(resource, informer);
        }
        self.work(Arc::new(controller), queue, self.config.concurrent_gc_syncs);
    }

    fn start_namespaces(&mut self) {
        let controller = NamespaceController {
            client: self.client.clone(),
            namespaces: self.informers.namespaces.clone(),
            queue: self.queue("namespace"),
        };
        controller.subscribe();
        let queue = controller.queue.clone();
        self.work(Arc::new(controller), queue, self.config.concurrent_namespace_syncs);
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
        self.work(Arc::new(controller), queue, 1);
    }

    fn start_node_lifecycle(&mut self) {
        let controller = Arc::new(NodeLifecycleController {
            client: self.client.clone(),
            config: self.config.clone(),
            leases: self.informers.leases.clone(),
            nodes: self.informers.nodes.clone(),
            pods: self.informers.pods.clone(),
            queue: self.queue("node_lifecycle_controller"),
            recorder: self.recorder("node-controller"),
            zones: Mutex::new(Zones::default()),
        });
        controller.subscribe();
        self.loop_on(Arc::clone(&controller).monitor());
        let queue = controller.queue.clone();
        self.work(controller, queue, NODE_WORKERS);
    }

    fn start_pod_gc(&mut self) {
        let controller = PodGcController {
            client: self.client.clone(),
            nodes: self.informers.nodes.clone(),
            pods: self.informers.pods.clone(),
            terminated_pods_max: self.config.terminated_pod_gc_threshold,
        };
        self.loop_on(controller.run());
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
        self.work(Arc::new(controller), queue, self.config.concurrent_replicaset_syncs);
    }

    fn start_resource_claims(&mut self) {
        let controller = ResourceClaimController {
            client: self.client.clone(),
            claims: self.informers.resource_claims.clone(),
            made: Mutex::default(),
            pods: self.informers.pods.clone(),
            queue: self.queue("resource_claim"),
            recorder: self.recorder("resource_claim"),
            templates: self.informers.resource_claim_templates.clone(),
        };
        controller.subscribe();
        let queue = controller.queue.clone();
        self.work(Arc::new(controller), queue, CLAIM_WORKERS);
        let controller = ReservationController {
            client: self.client.clone(),
            claims: self.informers.resource_claims.clone(),
            pods: self.informers.pods.clone(),
            queue: self.queue("resource_claim_reservation"),
        };
        controller.subscribe();
        let queue = controller.queue.clone();
        self.work(Arc::new(controller), queue, CLAIM_WORKERS);
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
        self.work(Arc::new(controller), queue, 1);
    }

    fn start_taint_eviction(&mut self) {
        let controller = TaintEvictionController {
            client: self.client.clone(),
            nodes: self.informers.nodes.clone(),
            pods: self.informers.pods.clone(),
            queue: self.queue("noexec_taint_pod"),
            recorder: self.recorder("taint-eviction-controller"),
            since: Arc::default(),
        };
        controller.subscribe();
        let queue = controller.queue.clone();
        self.work(Arc::new(controller), queue, NODE_WORKERS);
    }

    fn queue(&self, name: &'static str) -> WorkQueue<ObjectKey> {
        WorkQueue::new(self.metrics.queue(name))
    }

    fn recorder(&mut self, component: &str) -> EventRecorder {
        let (recorder, task) = EventRecorder::new(self.client.clone(), component);
        self.tasks.spawn(task);
        recorder
    }

    /// Start a kind's list and watch in all namespaces.
    fn inform_all<K>(&mut self, name: &str, informer: Informer<K>)
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
        K: Send + std::marker::Sync + 'static,
    {
        let api = Api::all(self.client.clone());
        self.inform(name, informer, api);
    }

    /// Start a list and watch and make readiness depend on it.
    fn inform<K>(&mut self, name: &str, informer: Informer<K>, api: Api<K>)
    where
        K: kube::Resource + Clone + DeserializeOwned + Debug + Send + std::marker::Sync + 'static,
    {
        let synced = informer.clone();
        self.daemon.health.add_ready(&format!("informer-sync-{name}"), move || {
            if synced.is_synced() { Ok(()) } else { Err("not listed yet".to_owned()) }
        });
        self.tasks.spawn(informer.run(api, watcher::Config::default()));
    }

    /// Start a controller's workers once every cache is filled.
    fn work<C: Sync>(&mut self, controller: Arc<C>, queue: WorkQueue<ObjectKey>, count: usize) {
        let shutdown = self.daemon.shutdown.clone();
        self.loop_on(run_workers(controller, queue, count, shutdown));
    }

    /// Run a controller's own loop once every cache is filled.
    fn loop_on(&mut self, run: impl Future<Output = ()> + Send + 'static) {
        let informers = self.informers.clone();
        self.tasks.spawn(async move {
            informers.synced().await;
            run.await;
        });
    }
}

impl Informers {
    async fn synced(&self) {
        self.deployments.synced().await;
        self.endpoint_slices.synced().await;
        self.leases.synced().await;
        self.namespaces.synced().await;
        self.nodes.synced().await;
        self.pods.synced().await;
        self.replica_sets.synced().await;
        self.resource_claims.synced().await;
        self.resource_claim_templates.synced().await;
        self.service_accounts.synced().await;
        self.services.synced().await;
        for (_, stubs) in &self.stubs {
            stubs.synced().await;
        }
    }
}

/// Workers that follow nodes and their pods; upstream's UpdateWorkerSize.
const NODE_WORKERS: usize = 8;

/// Workers that make claims for pods and that give them free; upstream's concurrency is 10 for both.
const CLAIM_WORKERS: usize = 5;

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
