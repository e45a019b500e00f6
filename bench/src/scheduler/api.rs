//! Workloads end to end: an API server with its durable store, objects created over HTTP by this
//! process, a scheduler that binds through the API, and a watch that says when.
//!
//! Both ends of every interval are read from one clock, this process's: a pod is there when the watch
//! first shows it, and scheduled when the watch first shows it with a node. Throughput counts from
//! the first request of the measured operation, so the creating is in it. CPU time and memory are
//! those of the API server and the scheduler, not of this process.

mod background;
mod claims;
mod cluster;
mod observed;
mod requests;
mod wire;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::config::{
    Barrier, Case, CreateAny, CreateNodes, CreatePods, Labels, Operation, Selection, UpdateAny,
    Workload,
};
use super::figures::{Allocatable, Devices, Figures};
use super::objects::{self, NodeMaker, VolumeMaker};
use super::options::Mode;
use super::pulse::Pulse;
pub(crate) use cluster::Cluster;
use observed::{Bound, Expected, Observed};
pub(crate) use requests::collection;
use requests::{Request, Requests};
use wire::Wire;

/// A workload under way.
pub(super) struct Run<'a> {
    directory: &'a Path,
    case: &'a Case,
    workload: &'a Workload,
    cluster: Cluster,
    requests: Requests,
    observed: Observed,
    pulse: Pulse,
    figures: Figures,
    collecting: Option<Collecting>,
    nodes_made: usize,
    pods_made: usize,
    operation: usize,
    namespaces: BTreeSet<String>,
    priorities: BTreeSet<i64>,
    /// Churns and deletions, which end with the run.
    background: JoinSet<()>,
}

/// What was so when the measuring of several operations together began.
struct Collecting {
    pods: Selection,
    begin: Instant,
    cpu: Duration,
    memory: u64,
}

/// Run one workload on a cluster of its own.
pub(super) async fn run(
    directory: &Path,
    case: &Case,
    workload: &Workload,
    mode: Mode,
    scheduler_command: Option<&str>,
    pulse: Pulse,
) -> anyhow::Result<Figures> {
    let external = match (mode, scheduler_command) {
        (Mode::External, None) => bail!("--mode external: --scheduler-command is missing"),
        (Mode::External, command) => command,
        _ => None,
    };
    // Claims are made from their templates by a controller.
    let mut with_controllers = false;
    for operation in &case.operations()? {
        with_controllers |= match operation {
            Operation::CreateAny(any) => {
                objects::any_template(directory, workload, any)?.kind()? == CLAIM_TEMPLATE
            }
            operation => operation.is_about_claims(),
        };
    }
    let cluster = Cluster::start(external, with_controllers).await?;
    let wire = Wire::new(&cluster.kubeconfig()).await?;
    let requests = Requests::new(cluster.client().clone(), wire.clone());
    let observed = Observed::watch(wire);
    let mut run = Run {
        directory,
        case,
        workload,
        cluster,
        requests,
        observed,
        pulse,
        figures: Figures::default(),
        collecting: None,
        nodes_made: 0,
        pods_made: 0,
        operation: 0,
        namespaces: BTreeSet::from(["default".to_owned()]),
        priorities: BTreeSet::new(),
        background: JoinSet::new(),
    };
    let done = run.execute().await;
    let Run { cluster, figures, mut background, observed, .. } = run;
    background.shutdown().await;
    observed.stop();
    let log = cluster.stop()?;
    match done {
        Ok(()) => Ok(figures),
        Err(error) if log.is_empty() => Err(error),
        Err(error) => Err(error.context(log)),
    }
}

impl Run<'_> {
    async fn execute(&mut self) -> anyhow::Result<()> {
        self.await_scheduler().await?;
        let operations = self.case.operations()?;
        for (index, operation) in operations.iter().enumerate() {
            self.pulse.step(index + 1, operations.len());
            self.operation = index;
            self.perform(operation).await.with_context(|| format!("step {}", index + 1))?;
            if self.pulse.is_over() {
                break;
            }
        }
        self.background.shutdown().await;
        self.figures.cut = self.pulse.why_over();
        let (nodes, pods) =
            (self.requests.list::<Node>().await?, self.requests.list::<Pod>().await?);
        let placed = pods.iter().filter_map(|pod| {
            let node = pod.spec.as_ref()?.node_name.as_deref()?;
            Some((pod, node)).filter(|(_, node)| !node.is_empty())
        });
        let nodes = nodes
            .iter()
            .map(|node| (node.metadata.name.as_deref().unwrap_or_default(), Allocatable::of(node)));
        let classes = self.requests.list::<DeviceClass>().await?;
        let claims = self.requests.list::<ResourceClaim>().await?;
        let devices = Devices::of(classes.iter(), claims.iter());
        self.figures.count_use(nodes, placed, &devices);
        Ok(())
    }

    /// Until the scheduler has said of a pod that there is no node for it.
    async fn await_scheduler(&mut self) -> anyhow::Result<()> {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": PROBE},
            "spec": {"containers": [{"name": "c", "image": "none"}]}});
        let request = Request::create(&pod, Some("default"))?;
        let path = format!("{}/{PROBE}", request.path);
        self.observed.expect(usize::MAX, "default", &[(PROBE.to_owned(), None)]);
        self.requests.send(request).await?;
        let deadline = Instant::now() + SCHEDULER_START;
        while !self.observed.is_attempted(PROBE) {
            self.cluster.check()?;
            if self.pulse.is_over() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "no scheduler looked at a pod in {SCHEDULER_START:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.observed.forget(PROBE);
        self.requests.delete(&path).await
    }

    async fn perform(&mut self, operation: &Operation) -> anyhow::Result<()> {
        let (directory, workload) = (self.directory, self.workload);
        match operation {
            Operation::AllocResourceClaims(wanted) => {
                self.allocate_claims(&wanted.namespace).await?;
            }
            Operation::Barrier(barrier) => self.settle(barrier).await?,
            Operation::CheckPodScheduled(check) => self.check_scheduled(check).await?,
            Operation::Churn(churn) => {
                let namespace = churn.namespace.clone();
                let namespace = namespace.unwrap_or_else(|| self.own_namespace());
                self.ensure_namespace(&namespace).await?;
                self.start_churn(churn, namespace)?;
            }
            Operation::ColdStart {} => bail!("coldStart: only in mode engine"),
            Operation::CreateAny(any) | Operation::CreateResourceClaims(any) => {
                self.create_any(any).await?;
            }
            Operation::CreateNamespaces(wanted) => {
                for namespace in objects::namespaces(directory, wanted, workload)? {
                    let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
                    self.namespaces.insert(name.to_owned());
                    self.requests.send(Request::create(&namespace, None)?).await?;
                }
            }
            Operation::CreateNodes(nodes) => self.create_nodes(nodes).await?,
            Operation::CreatePodSets(sets) => {
                for number in 0..sets.count.of(workload)? {
                    let namespace = format!("{}-{number}", sets.namespace_prefix);
                    self.create_pods(&sets.create_pods_op, &namespace).await?;
                }
            }
            Operation::CreatePods(pods) => {
                let namespace = pods.namespace.clone();
                let namespace = namespace.unwrap_or_else(|| self.own_namespace());
                self.create_pods(pods, &namespace).await?;
            }
            Operation::CreateResourceDriver(driver) => self.create_driver(driver).await?,
            Operation::DeletePods(pods) => self.delete_pods(pods).await?,
            Operation::Sleep(sleep) => tokio::time::sleep(sleep.of(workload)?).await,
            Operation::StartCollectingMetrics(pods) => {
                self.collecting = Some(Collecting {
                    pods: pods.clone(),
                    begin: Instant::now(),
                    cpu: self.cluster.cpu_time(),
                    memory: self.cluster.resident_bytes(),
                });
            }
            Operation::StopCollectingMetrics {} => self.collected(),
            Operation::UpdateAny(wanted) => self.update_any(wanted).await?,
            Operation::UpdateDeviceConditions(wanted) => bail!(wanted.why_not()),
        }
        Ok(())
    }

    /// The namespace of an operation that names none.
    fn own_namespace(&self) -> String {
        format!("namespace-{}", self.operation)
    }

    async fn ensure_namespace(&mut self, name: &str) -> anyhow::Result<()> {
        if self.namespaces.insert(name.to_owned()) {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            self.requests.send(Request::create(&namespace, None)?).await?;
        }
        Ok(())
    }

    async fn create_nodes(&mut self, nodes: &CreateNodes) -> anyhow::Result<()> {
        let memory_before = self.cluster.resident_bytes();
        let maker = NodeMaker::new(self.directory, self.workload, nodes)?;
        let count = nodes.count.of(self.workload)?;
        let (mut creations, mut changes) = (Vec::new(), Vec::new());
        for number in 0..count {
            let node = maker.node(number, self.nodes_made + number)?;
            let request = Request::create(&node, None)?;
            let name = node["metadata"]["name"].as_str().unwrap_or_default();
            // A new node is tainted as not ready, and no controller is there to see that it is.
            let taints = json!({"spec": {"taints": node["spec"]["taints"]}});
            changes.push(Request::change(format!("{}/{name}", request.path), &taints));
            if let Some(csi_node) = maker.csi_node(name) {
                creations.push(Request::create(&csi_node, None)?);
            }
            creations.push(request);
        }
        self.requests.send_all(creations, &self.pulse).await?;
        self.requests.send_all(changes, &self.pulse).await?;
        self.nodes_made += count;
        let grown = self.cluster.resident_bytes().saturating_sub(memory_before);
        self.figures.bytes_per_node = grown as f64 / count.max(1) as f64;
        Ok(())
    }

    async fn create_any(&mut self, any: &CreateAny) -> anyhow::Result<()> {
        let template = objects::any_template(self.directory, self.workload, any)?;
        if let Some(namespace) = &any.namespace {
            self.ensure_namespace(namespace).await?;
        }
        for number in 0..any.count.of(self.workload)? {
            let object = template.object(number)?;
            self.requests.send(Request::create(&object, any.namespace.as_deref())?).await?;
        }
        Ok(())
    }

    async fn update_any(&self, wanted: &UpdateAny) -> anyhow::Result<()> {
        let template = objects::update_template(self.directory, self.workload, wanted)?;
        let mut clock = tokio::time::interval(wanted.interval().max(Duration::from_micros(1)));
        for number in 0..wanted.count.of(self.workload)? {
            clock.tick().await;
            let mut object = template.object(number)?;
            if object["kind"] == "Pod" {
                self.requests.lay_over(&mut object, wanted.namespace.as_deref()).await?;
            }
            let whole = wanted.subresources.join("/");
            for part in [whole.as_str(), "status"] {
                let request = Request::replace(&object, wanted.namespace.as_deref(), part)?;
                self.requests.send(request).await?;
            }
        }
        Ok(())
    }

    async fn create_pods(&mut self, pods: &CreatePods, namespace: &str) -> anyhow::Result<()> {
        ensure!(pods.steady_for(self.workload)?.is_none(), "steadyState: only in mode engine");
        self.ensure_namespace(namespace).await?;
        let memory_before = self.cluster.resident_bytes();
        let (requests, expected) = self.pod_requests(pods, namespace).await?;
        self.observed.expect(self.operation, namespace, &expected);
        let cpu_before = self.cluster.cpu_time();
        let begin = Instant::now();
        if pods.skip_wait_to_completion {
            return self.requests.send_all(requests, &self.pulse).await;
        }
        let count = expected.len();
        let sent = self.requests.send_all(requests, &self.pulse);
        let bound = self.await_bound(count);
        let (_, pending) = tokio::try_join!(sent, bound)?;
        if pods.collect_metrics {
            self.note(self.observed.bound_of(self.operation), begin);
            self.note_use(cpu_before, memory_before, count);
            self.figures.pending += pending;
        } else if self.collecting.is_none() && pending > 0 && !self.pulse.is_over() {
            bail!("{pending} of {count} pods were not scheduled");
        }
        Ok(())
    }

    /// What creates the pods, and their names and labels. Names that are not the template's own are
    /// numbered through over the workload.
    async fn pod_requests(
        &mut self,
        pods: &CreatePods,
        namespace: &str,
    ) -> anyhow::Result<(Vec<Request>, Vec<Expected>)> {
        let template = objects::pod_template(self.directory, self.case, self.workload, pods)?;
        let volumes = VolumeMaker::of(self.directory, pods)?;
        let count = pods.count.of(self.workload)?;
        let signature_batch = pods.signature_batch(self.workload)?;
        let (mut requests, mut expected) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for number in 0..count {
            let mut pod = template.object(number)?;
            let name = match pod["metadata"].get("generateName") {
                Some(prefix) => {
                    format!("{}pod-{}", prefix.as_str().unwrap_or_default(), self.pods_made)
                }
                None => pod["metadata"]["name"].as_str().context("a pod has no name")?.to_owned(),
            };
            self.pods_made += 1;
            if let Some(size) = signature_batch {
                objects::sign(&mut pod, number / size);
            }
            pod["metadata"]["name"] = name.as_str().into();
            pod["metadata"]["namespace"] = namespace.into();
            self.give_class(&mut pod).await?;
            if let Some(maker) = &volumes {
                self.requests.create_volume(maker, number, &mut pod).await?;
            }
            requests.push(Request::create(&pod, Some(namespace))?);
            let labels = pod["metadata"].get("labels").map(Labels::deserialize).transpose()?;
            expected.push((name, labels));
        }
        Ok((requests, expected))
    }

    /// A pod may have a priority only by its class.
    async fn give_class(&mut self, pod: &mut Value) -> anyhow::Result<()> {
        let Some(priority) = pod["spec"]["priority"].as_i64() else { return Ok(()) };
        if pod["spec"].get("priorityClassName").is_some() {
            return Ok(());
        }
        let sign = if priority < 0 { "minus-" } else { "" };
        let name = format!("bench-{sign}{}", priority.unsigned_abs());
        if self.priorities.insert(priority) {
            let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                "metadata": {"name": name}, "value": priority});
            self.requests.send(Request::create(&class, None)?).await?;
        }
        pod["spec"]["priorityClassName"] = name.into();
        Ok(())
    }

    /// Until all pods of this operation have a node, or nothing happens any more; how many have none.
    async fn await_bound(&self, count: usize) -> anyhow::Result<usize> {
        let (mut last, mut progress_at) = (count, Instant::now());
        loop {
            let pending = self.observed.pending_of(self.operation);
            if pending != last {
                (last, progress_at) = (pending, Instant::now());
            }
            self.cluster.check()?;
            let is_over = self.pulse.beat(count - pending.min(count), count);
            if pending == 0 || is_over || progress_at.elapsed() > self.pulse.patience() {
                return Ok(pending);
            }
            self.observed.changed(Pulse::INTERVAL).await;
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Takes down what came of several operations together.
    fn collected(&mut self) {
        let Some(Collecting { pods, begin, cpu, memory }) = self.collecting.take() else { return };
        let (mut bound, pending) = self.observed.bound_among(&pods);
        bound.retain(|pod| pod.bound >= begin);
        self.note_use(cpu, memory, bound.len());
        self.note(bound, begin);
        self.figures.pending += pending;
    }

    fn note_use(&mut self, cpu_before: Duration, memory_before: u64, count: usize) {
        self.figures.cpu = self.cluster.cpu_time().saturating_sub(cpu_before);
        let grown = self.cluster.resident_bytes().saturating_sub(memory_before);
        self.figures.bytes_per_pod = grown as f64 / count.max(1) as f64;
    }

    /// Takes down when pods were seen.
    fn note(&mut self, mut bound: Vec<Bound>, begin: Instant) {
        bound.sort_by_key(|pod| pod.bound);
        self.figures.reserve(bound.len());
        for pod in bound {
            self.figures.scheduled(pod.bound.saturating_duration_since(begin));
            self.figures.attempt(pod.bound.saturating_duration_since(pod.added));
        }
    }

    /// Waits for pods that operations did not wait for.
    async fn settle(&self, barrier: &Barrier) -> anyhow::Result<()> {
        let begin = Instant::now();
        while self.observed.is_unsettled(barrier) && !self.pulse.is_over() {
            self.cluster.check()?;
            if begin.elapsed() > self.pulse.patience() {
                let (stage, patience) = (barrier.stage_requirement, self.pulse.patience());
                bail!("barrier: not all pods are {stage:?} after {patience:?}");
            }
            self.observed.changed(Pulse::INTERVAL).await;
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }
}

const CLAIM_TEMPLATE: &str = "ResourceClaimTemplate";
/// Between two looks at how far it is: changes come each millisecond, and a look takes as much of the
/// processors as some pods. What is measured is noted by the watch.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// Shows that there is a scheduler.
const PROBE: &str = "scheduler-probe";
/// How long a scheduler may take to start.
const SCHEDULER_START: Duration = Duration::from_secs(60);
