//! `pintle simulate` and `pintle explain`: the scheduler's decisions about files or a cluster that
//! is only read.
//!
//! Exit codes: 0 every pod shown has a node (or would get one), 3 one has none, 1 something could
//! not be read, 64 a value on the command line is wrong.

mod input;
mod live;
mod output;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::Pod;
use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::explain::{Cluster, Explanation, Simulation};
use pintle_scheduler_core::framework::{Profile, Profiles};
use pintle_scheduler_runner::configuration::KubeSchedulerConfiguration;

use crate::cli::{ClusterArgs, ExplainPodArgs, SimulateArgs};
use crate::exit::UsageError;

pub(crate) fn run(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let profiles = profiles(&args.cluster)?;
    let cluster = input::cluster(&args.cluster)?;
    let wanted: Vec<String> = args.pod.iter().map(|name| full_name(name)).collect();
    for name in &wanted {
        pod(&cluster, name)?;
    }
    let mut explanations = Simulation::new(profiles, &cluster, args.cluster.seed).run();
    if !wanted.is_empty() {
        explanations.retain(|explanation| wanted.contains(&explanation.pod));
    }
    let shown = output::Shown { explain: args.explain, top: args.cluster.top };
    print(&output::render(&explanations, args.output, shown)?);
    Ok(exit_code(&explanations))
}

pub(crate) fn explain_pod(args: &ExplainPodArgs) -> anyhow::Result<ExitCode> {
    let profiles = profiles(&args.cluster)?;
    let mut cluster = input::cluster(&args.cluster)?;
    let pod = Pod::clone(pod(&cluster, &full_name(&args.pod))?);
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let node = node.filter(|name| !name.is_empty());
    let mut unbound = pod.clone();
    unbound.spec.get_or_insert_default().node_name = None;
    cluster.set_pod(unbound.clone());
    let mut simulation = Simulation::new(profiles, &cluster, args.cluster.seed);
    let mut explanation = simulation.explain(&Arc::new(PodInfo::new(Arc::new(unbound))));
    let mut notes = Vec::new();
    if let Some(node) = node {
        notes.push(format!("It is on {node}; this is how the nodes compare if it were not."));
        explanation.node = Some(node);
    } else if let Some(said) = condition(&pod) {
        notes.push(format!("Last condition: {said}"));
    }
    let shown = output::Shown { explain: true, top: args.cluster.top };
    let explanations = [explanation];
    print(&output::render(&explanations, args.output, shown)?);
    notes.iter().for_each(|note| eprintln!("{note}"));
    Ok(exit_code(&explanations))
}

/// Standard output; a reader that has seen enough (`| head`) is no failure.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn profiles(args: &ClusterArgs) -> anyhow::Result<Arc<Profiles>> {
    let Some(path) = &args.config else {
        return Ok(Arc::new(Profiles::single(Profile::default_plugins("default-scheduler"))));
    };
    let configuration = KubeSchedulerConfiguration::read(path)?;
    let checked = configuration
        .check()
        .map_err(|errors| UsageError(format!("{}: {errors}", path.display())))?;
    if !checked.configuration().extenders.is_empty() {
        eprintln!("warning: {}: extenders: they are not called", path.display());
    }
    Ok(Arc::new(checked.build(&[])))
}

/// `NAME` is `default/NAME`.
fn full_name(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("default/{name}") }
}

fn pod<'a>(cluster: &'a Cluster, name: &str) -> anyhow::Result<&'a Arc<Pod>> {
    let (namespace, pod) = name.split_once('/').unwrap_or(("default", name));
    cluster.pod(namespace, pod).ok_or_else(|| anyhow!("pod {name} not found"))
}

/// What the pod's status says of the last attempt to schedule it.
fn condition(pod: &Pod) -> Option<&str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    condition.message.as_deref().filter(|message| !message.is_empty())
}

fn exit_code(explanations: &[Explanation]) -> ExitCode {
    let all = explanations.iter().all(|explanation| explanation.node.is_some());
    ExitCode::from(if all { 0 } else { NO_NODE })
}

fn read(path: &std::path::Path) -> anyhow::Result<String> {
    if path.as_os_str() == "-" {
        return std::io::read_to_string(std::io::stdin()).context("read standard input");
    }
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// At least one pod has no node.
const NO_NODE: u8 = 3;
