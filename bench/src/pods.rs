//! A pod's way from POST to bound, and from bound to Running.
//!
//! Pods are created one request after the other by a few clients at once; a watch notes when each is
//! first seen with a node and first seen Running. Both ends of every interval are read from one
//! clock, this process's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use indicatif::ProgressBar;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::child::Standalone;
use crate::outcome::Outcome;
use crate::stats::quantile;

/// What runs the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Hollow,
    Process,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    posted: Instant,
    bound: Option<Instant>,
    running: Option<Instant>,
}

pub(crate) async fn run(
    mode: Mode,
    pods: usize,
    nodes: usize,
    progress: &ProgressBar,
) -> anyhow::Result<Vec<Outcome>> {
    let runtime = match mode {
        Mode::Hollow => "hollow",
        Mode::Process => "process",
    };
    progress.set_message(format!("pods: {pods} on {nodes} {runtime} nodes"));
    let standalone =
        Standalone::start(&["--runtime", runtime, "--nodes", &nodes.to_string()]).await?;
    let seen = measure(&standalone.client, pods, nodes).await;
    standalone.stop()?;
    let seen = seen?;
    let milliseconds = |from: fn(&Seen) -> Option<Duration>| -> Vec<f64> {
        seen.values().filter_map(from).map(|took| took.as_secs_f64() * 1e3).collect()
    };
    let case = format!("{pods}-pods/{nodes}-nodes");
    let mut outcomes = Vec::new();
    for (metric, mut samples) in [
        ("post_to_bound", milliseconds(|pod| Some(pod.bound? - pod.posted))),
        ("bound_to_running", milliseconds(|pod| Some(pod.running? - pod.bound?))),
    ] {
        for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
            let value = quantile(&mut samples, q).context("no pod was seen")?;
            outcomes.push(Outcome::new(&case, runtime, &format!("{metric}_{name}"), "ms", value));
        }
    }
    let first = seen.values().map(|pod| pod.posted).min().context("no pod was seen")?;
    let last = seen.values().filter_map(|pod| pod.running).max().context("no pod ran")?;
    let rate = pods as f64 / (last - first).as_secs_f64();
    outcomes.push(Outcome::new(&case, runtime, "post_to_running_throughput", "pods/s", rate));
    Ok(outcomes)
}

async fn measure(
    client: &kube::Client,
    count: usize,
    nodes: usize,
) -> anyhow::Result<BTreeMap<String, Seen>> {
    wait_for_nodes(client, nodes).await?;
    let api = Api::<Pod>::default_namespaced(client.clone());
    let version = api.list(&ListParams::default()).await?.metadata.resource_version;
    let version = version.context("the list has no resourceVersion")?;
    let watch = api.watch(&WatchParams::default(), &version).await?.boxed();
    let creators = tokio::spawn(create(api.clone(), count));
    let observed = tokio::time::timeout(TIMEOUT, observe(watch, count));
    let observed = observed.await.with_context(|| format!("not all ran in {TIMEOUT:?}"))??;
    let mut seen = BTreeMap::new();
    for (name, posted) in creators.await?? {
        let (bound, running) = observed.get(&name).copied().unwrap_or_default();
        seen.insert(name, Seen { posted, bound, running });
    }
    Ok(seen)
}

async fn wait_for_nodes(client: &kube::Client, count: usize) -> anyhow::Result<()> {
    let nodes = Api::<Node>::all(client.clone());
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let list = nodes.list(&ListParams::default()).await?;
        let schedulable = list.iter().filter(|node| {
            let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
            taints.is_none_or(Vec::is_empty)
        });
        let schedulable = schedulable.count();
        if schedulable >= count {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("only {schedulable} of {count} nodes are ready after {TIMEOUT:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Create the pods; when the request for each was sent.
async fn create(api: Api<Pod>, count: usize) -> anyhow::Result<Vec<(String, Instant)>> {
    let places = Arc::new(Semaphore::new(CREATORS));
    let mut tasks = Vec::with_capacity(count);
    for number in 0..count {
        let place = Arc::clone(&places).acquire_owned().await?;
        let api = api.clone();
        tasks.push(tokio::spawn(async move {
            let name = format!("bench-{number}");
            let posted = Instant::now();
            api.create(&PostParams::default(), &pod(&name)?).await?;
            drop(place);
            anyhow::Ok((name, posted))
        }));
    }
    let mut posted = Vec::with_capacity(count);
    for task in tasks {
        posted.push(task.await??);
    }
    Ok(posted)
}

fn pod(name: &str) -> anyhow::Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "sleep",
                "image": "registry.k8s.io/pause:3.10",
                "command": ["sleep", "3600"],
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
            }],
        },
    }))?)
}

type BoundAndRunning = (Option<Instant>, Option<Instant>);

async fn observe(
    mut watch: futures::stream::BoxStream<'_, kube::Result<WatchEvent<Pod>>>,
    count: usize,
) -> anyhow::Result<BTreeMap<String, BoundAndRunning>> {
    let mut seen: BTreeMap<String, BoundAndRunning> = BTreeMap::new();
    let mut running = 0;
    while let Some(event) = watch.try_next().await? {
        let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else { continue };
        let now = Instant::now();
        let entry = seen.entry(pod.name_any()).or_default();
        if pod.spec.is_some_and(|spec| spec.node_name.is_some()) {
            entry.0.get_or_insert(now);
        }
        let phase = pod.status.and_then(|status| status.phase);
        if phase.as_deref() == Some("Running") && entry.1.is_none() {
            entry.1 = Some(now);
            running += 1;
            if running == count {
                return Ok(seen);
            }
        }
    }
    bail!("the watch ended after {running} of {count} pods")
}

/// Requests under way at once: what one busy client keeps open.
const CREATORS: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(120);
