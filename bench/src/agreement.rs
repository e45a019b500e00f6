//! Another scheduler's decisions, one by one, held to pintle's reference.
//!
//! On an API server of its own random clusters come and go. Pods are created one at a time; before
//! each, the reference says which nodes are best, or in which words there is none, and which pods
//! make room. Then the scheduler decides, and its node must be among the best, its message the
//! same, its victims those or as important. So two schedulers are compared without either's draw
//! among equals, and without the sampling that kube-scheduler does only beyond 100 nodes.
//!
//! It holds kube-scheduler to the reference, or the reference to kube-scheduler: whoever reads a
//! difference decides. Not here: volumes ([`dice`] says why), more than one pod at a time.

mod dice;
mod verdict;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use indicatif::ProgressBar;
use k8s_openapi::api::core::v1::Pod;
use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::explain::{self, Explanation, Simulation};
use pintle_scheduler_core::framework::{Profile, Profiles};
use serde_json::{Value, json};

use crate::interrupt;
use crate::outcome::Outcome;
use crate::scheduler::Cluster;
use dice::Dice;
use verdict::{Decision, Verdict};
use world::World;

/// Whom to compare, and by how much.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Start the scheduler to compare; `{config}` is the path of a KubeSchedulerConfiguration,
    /// `{kubeconfig}` that of a kubeconfig. Without it, pintle's own
    #[arg(long, value_name = "COMMAND")]
    scheduler_command: Option<String>,
    /// What is random is drawn from this
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// How many clusters, of 3 to 8 nodes each
    #[arg(long, default_value_t = 10, value_name = "N")]
    clusters: usize,
    /// How many pods are created in each, one after the other
    #[arg(long, default_value_t = 40, value_name = "N")]
    pods: usize,
}

/// A bench like the others, whose figures are counts. `differ` is the one to look at.
pub(crate) async fn run(options: &Options, progress: &ProgressBar) -> anyhow::Result<Vec<Outcome>> {
    let processes = Cluster::start(options.scheduler_command.as_deref(), false).await?;
    let compared = compare(options, &processes, progress).await;
    let log = processes.stop()?;
    let counts = compared.with_context(|| log)?;
    let mode = if options.scheduler_command.is_some() { "external" } else { "pintle" };
    let case = format!("random/seed-{}", options.seed);
    let outcomes = counts
        .into_iter()
        .map(|(metric, count)| Outcome::new(&case, mode, metric, "pods", f64::from(count)));
    Ok(outcomes.collect())
}

/// An error if some decisions differ.
pub(crate) fn check(outcomes: &[Outcome]) -> anyhow::Result<()> {
    let differ = outcomes.iter().find(|outcome| outcome.metric == DIFFER);
    match differ.map(|outcome| outcome.value) {
        Some(0.0) => Ok(()),
        _ => bail!("decisions differ"),
    }
}

async fn compare(
    options: &Options,
    processes: &Cluster,
    progress: &ProgressBar,
) -> anyhow::Result<BTreeMap<&'static str, u32>> {
    let mut run = Run {
        stop: interrupt::flag()?,
        dice: Dice::new(options.seed),
        world: World::new(processes.client().clone()),
        profiles: Arc::new(Profiles::single(Profile::default_plugins("default-scheduler"))),
        counts: METRICS.into_iter().map(|metric| (metric, 0)).collect(),
    };
    run.prepare().await?;
    let mut number = 0;
    for cluster in 1..=options.clusters {
        let made = run.make_cluster().await?;
        for at in 0..options.pods {
            number += 1;
            progress.set_message(format!(
                "agreement: cluster {cluster} of {}, {number} pods, {} differ",
                options.clusters, run.counts[DIFFER]
            ));
            processes.check()?;
            let pod = run.dice.pod(&format!("p{number}"), 5 * at >= 3 * options.pods);
            if let Some(difference) = run.one_pod(&pod).await? {
                progress.suspend(|| eprintln!("{difference}"));
            }
            run.perhaps_remove_one().await?;
        }
        for path in made.into_iter().chain(run.world.of_kind("Pod")) {
            run.world.delete(&path).await?;
        }
    }
    Ok(run.counts)
}

struct Run {
    stop: Arc<AtomicBool>,
    dice: Dice,
    world: World,
    profiles: Arc<Profiles>,
    counts: BTreeMap<&'static str, u32>,
}

impl Run {
    async fn prepare(&mut self) -> anyhow::Result<()> {
        let [default, other] = dice::NAMESPACES;
        self.world.look(&format!("/api/v1/namespaces/{default}")).await?;
        let labels = json!({"team": "red"});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": other, "labels": labels}});
        self.world.create(&namespace).await?;
        for (name, value, policy) in dice::PRIORITY_CLASSES {
            let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                "metadata": {"name": name}, "value": value, "preemptionPolicy": policy});
            self.world.create(&class).await?;
        }
        self.world.create(&dice::device_class()).await?;
        Ok(())
    }

    /// Nodes and what else there is; returns what to remove in the end.
    async fn make_cluster(&mut self) -> anyhow::Result<Vec<String>> {
        let mut made = Vec::new();
        for at in 0..self.dice.between(3, 8) {
            let node = self.dice.node(&format!("n{at}"));
            made.push(self.world.create(&node).await?);
        }
        for path in &made {
            self.world.update(path, make_ready).await?;
        }
        // kube-scheduler counts on how many nodes an image is when a node changes, and not again
        // when another gets it: so each changes once more when all have theirs.
        for path in &made {
            let label = |node: &mut Value| node["metadata"]["labels"]["complete"] = json!("");
            self.world.update(path, label).await?;
        }
        for at in 0..made.len() {
            if let Some(slice) = self.dice.slice(&format!("n{at}")) {
                made.push(self.world.create(&slice).await?);
            }
        }
        for namespace in dice::NAMESPACES {
            for object in self.dice.setting(namespace) {
                made.push(self.world.create(&object).await?);
            }
        }
        tokio::time::sleep(SETTLE_CLUSTER).await;
        Ok(made)
    }

    /// Lets the scheduler decide about a pod, and compares; says what differs.
    async fn one_pod(&mut self, pod: &Value) -> anyhow::Result<Option<String>> {
        let admitted = match self.world.admitted(pod).await {
            Ok(admitted) => admitted,
            Err(error) if world::refusal(&error).is_some() => {
                self.count(REFUSED);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        // A watch that lags makes another decision, once.
        for is_last in [false, true] {
            let cluster = self.world.cluster(&admitted)?;
            let expected = self.expected(&cluster, &admitted)?;
            let priorities = self.priorities();
            let decision = self.decision(pod, expected.nominated.is_some()).await?;
            let verdict = decision.compare(&expected, &priorities);
            if verdict != Verdict::Differs {
                self.count(metric(verdict));
                self.keep_if_bound(pod, &decision).await?;
                return Ok(None);
            }
            self.world.delete(&path_of(pod)).await?;
            if is_last {
                self.count(DIFFER);
                return difference(&decision, &expected, &cluster).map(Some);
            }
            tokio::time::sleep(SETTLE_CLUSTER).await;
        }
        Ok(None)
    }

    fn expected(&self, cluster: &explain::Cluster, pod: &Value) -> anyhow::Result<Explanation> {
        let pod: Pod = serde_json::from_value(pod.clone())?;
        let pod = Arc::new(PodInfo::new(Arc::new(pod)));
        Ok(Simulation::new(Arc::clone(&self.profiles), cluster, 0).explain(&pod))
    }

    /// Creates the pod and waits until it has a node, or it is said why not; where room is to be
    /// made, until it has a node or the deadline passes.
    async fn decision(&mut self, pod: &Value, makes_room: bool) -> anyhow::Result<Decision> {
        let others = self.world.of_kind("Pod");
        let path = self.world.create(pod).await?;
        let deadline = Instant::now() + TIMEOUT;
        let mut decision = Decision::default();
        loop {
            ensure!(!self.stop.load(Ordering::Acquire), "interrupted");
            let now = self.world.look(&path).await?.context("the pod is gone")?;
            let text = |value: &Value| value.as_str().map(str::to_owned);
            decision.node = text(&now["spec"]["nodeName"]);
            decision.nominated = text(&now["status"]["nominatedNodeName"]);
            let conditions = now["status"]["conditions"].as_array().into_iter().flatten();
            let message = conditions
                .filter(|condition| condition["type"] == "PodScheduled")
                .filter(|condition| condition["status"] == "False")
                .find_map(|condition| text(&condition["message"]));
            decision.message = message.unwrap_or_default();
            let is_told = !decision.message.is_empty() && !makes_room;
            if decision.node.is_some() || is_told || Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        if decision.node.is_some() {
            decision.message.clear();
        }
        for other in others {
            if self.world.look(&other).await?.is_none() {
                decision.gone.push(name_of(&other));
            }
        }
        decision.gone.sort_unstable();
        Ok(decision)
    }

    async fn keep_if_bound(&mut self, pod: &Value, decision: &Decision) -> anyhow::Result<()> {
        if decision.node.is_none() {
            self.world.delete(&path_of(pod)).await?;
            tokio::time::sleep(SETTLE).await;
        }
        // What the scheduler allocated to them.
        for claim in self.world.of_kind("ResourceClaim") {
            self.world.look(&claim).await?;
        }
        Ok(())
    }

    async fn perhaps_remove_one(&mut self) -> anyhow::Result<()> {
        let pods = self.world.of_kind("Pod");
        if pods.is_empty() || !self.dice.chance(0.25) {
            return Ok(());
        }
        let at = self.dice.between(0, pods.len() - 1);
        self.world.delete(&pods[at]).await?;
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    /// Of the pods that are there, by `namespace/name`.
    fn priorities(&self) -> BTreeMap<String, i64> {
        let pods = self.world.of_kind("Pod");
        let priority = |path: &String| self.world.get(path)?["spec"]["priority"].as_i64();
        pods.iter().filter_map(|path| Some((name_of(path), priority(path)?))).collect()
    }

    fn count(&mut self, metric: &'static str) {
        *self.counts.entry(metric).or_default() += 1;
    }
}

/// Says what differs, and writes the cluster to a file.
fn difference(
    decision: &Decision,
    expected: &Explanation,
    cluster: &explain::Cluster,
) -> anyhow::Result<String> {
    let Explanation { pod, best, message, nominated, victims, .. } = expected;
    let file = std::env::temp_dir().join(format!("pintle-{}.yaml", pod.replace('/', "-")));
    std::fs::write(&file, cluster.to_yaml())?;
    Ok(format!(
        "{pod}: {decision:?}\n  expected: one of {best:?}, {message:?}, nominated {nominated:?}, \
         victims {victims:?}\n  pintle explain pod {pod} -f {}",
        file.display()
    ))
}

/// The API server taints a new node as not ready: the controllers that would take that away are not
/// there.
fn make_ready(node: &mut Value) {
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let own = taints.into_iter().filter(|taint| taint["key"] != "node.kubernetes.io/not-ready");
    node["spec"]["taints"] = own.collect();
}

fn path_of(pod: &Value) -> String {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
    format!("/api/v1/namespaces/{}/pods/{}", text("namespace"), text("name"))
}

/// `namespace/name` of a pod's path.
fn name_of(path: &str) -> String {
    let mut parts = path.split('/').skip(4);
    let (namespace, _, name) = (parts.next(), parts.next(), parts.next());
    format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())
}

const fn metric(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Bound => BOUND,
        Verdict::Unschedulable => UNSCHEDULABLE,
        Verdict::Preempted => PREEMPTED,
        Verdict::PreemptedAlike => PREEMPTED_ALIKE,
        Verdict::Differs => DIFFER,
    }
}

const BOUND: &str = "bound_to_a_best_node";
const UNSCHEDULABLE: &str = "unschedulable_in_the_same_words";
const PREEMPTED: &str = "preempted_the_same_victims";
const PREEMPTED_ALIKE: &str = "preempted_victims_as_important";
const DIFFER: &str = "differ";
/// By the API server: the dice do not know all of its rules.
const REFUSED: &str = "refused";
const METRICS: [&str; 6] = [BOUND, UNSCHEDULABLE, PREEMPTED, PREEMPTED_ALIKE, DIFFER, REFUSED];

const POLL: Duration = Duration::from_millis(3);
/// Until a scheduler has seen what was removed.
const SETTLE: Duration = Duration::from_millis(20);
/// Until it has seen a whole cluster.
const SETTLE_CLUSTER: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(60);
