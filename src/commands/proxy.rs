//! `pintle proxy`: the Service dataplane of one node in place of kube-proxy, and its tables for people.

mod cleanup;
mod configure;
mod kube_proxy_rules;
mod show;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use pintle_client::{ConnectOptions, RateLimit};
use pintle_component::Daemon;
use pintle_dataplane::configuration::{CheckedConfiguration, LocalDetection};
use pintle_dataplane::plan::{LocalDetector, NodeSpec};
use pintle_dataplane::{Pins, Serving};
use pintle_node::cgroup::{self, Cgroup};

use crate::cli::{LogArgs, ProxyArgs, ProxyCommand, ProxyRunArgs};
use crate::commands::block_on;
use crate::commands::daemon::node_name;
use crate::commands::memory;

pub(crate) fn run(args: ProxyArgs, log: &LogArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Some(ProxyCommand::Services(args)) => show::services(&args)?,
        Some(ProxyCommand::Backends(args)) => show::backends(&args)?,
        Some(ProxyCommand::Connections(args)) => show::connections(&args)?,
        Some(ProxyCommand::Drops(args)) => show::drops(&args)?,
        Some(ProxyCommand::Trace(args)) => show::trace(&args)?,
        None => {
            let checked = configure::configure(&args.run)?;
            let log = configure::log(&args.run, &checked, log);
            if args.run.cleanup {
                let (node, clear) = (node(&checked)?, args.run.clear_kube_proxy_rules);
                block_on(&log, async { cleanup::run(&node, clear) })?;
            } else {
                keep_little_memory();
                block_on(&log, serve(args.run, checked))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: ProxyRunArgs, checked: CheckedConfiguration) -> anyhow::Result<()> {
    configure::warn(&args, &checked);
    let node_name = node(&checked)?;
    let client = connect(&args, &checked).await?;
    let shutdown = pintle_component::shutdown_on_signal().context("listen for signals")?;
    let daemon = Daemon { shutdown, ..Daemon::default() };
    kube_proxy_rules::look(args.clear_kube_proxy_rules);
    memory::use_small_pages();
    adjust_oom_score(checked.configuration().oom_score_adj);
    let Some(local_detector) = detector(&client, &node_name, &checked, &daemon).await? else {
        return Ok(());
    };
    let cgroup = match &args.cgroup {
        Some(path) => Cgroup::at(path),
        None => Cgroup::at(cgroup::find_or_mount()?),
    };
    let config = pintle_dataplane::Config {
        min_sync_period: checked.min_sync_period(),
        node_port_addresses: checked.node_port_addresses().to_vec(),
        localhost_node_ports: checked.localhost_node_ports(),
        node_ip: checked.node_ip(),
        local_detector,
        follows_pod_cidrs: matches!(checked.local_detection(), LocalDetection::NodeCidr),
        masquerade_all: checked.masquerade_all(),
        translates_packets: true,
        pod_links: checked.pod_links(),
        express: checked.express(),
        direct_return: checked.direct_return(),
        pins: Some(Pins::of(PINS_OF_THIS_MACHINE, &node_name)),
        keep_pins: true,
        health_timeout: checked.health_timeout(),
        serving: Serving {
            healthz: checked.healthz_address(),
            metrics: checked.metrics_address(),
            hard_fail: checked.configuration().bind_address_hard_fail,
            configz: serde_json::to_value(checked.configuration())?,
        },
        ..pintle_dataplane::Config::new(node_name, cgroup.path())
    };
    Ok(pintle_dataplane::run(client, config, daemon).await?)
}

fn node(checked: &CheckedConfiguration) -> anyhow::Result<String> {
    let name = checked.configuration().hostname_override.as_str();
    node_name(Some(name).filter(|name| !name.is_empty()))
}

async fn connect(
    args: &ProxyRunArgs,
    checked: &CheckedConfiguration,
) -> anyhow::Result<kube::Client> {
    let connection = &checked.configuration().client_connection;
    let burst = u32::try_from(connection.burst).unwrap_or(0).max(1);
    // Zero is none, and below zero client-go's way to say so.
    let rate_limit = (connection.qps > 0.0).then_some(RateLimit { qps: connection.qps, burst });
    let named = Some(&connection.kubeconfig).filter(|path| !path.is_empty());
    let kubeconfig = named.map(std::path::Path::new).or(args.kubeconfig.as_deref());
    let options = ConnectOptions { kubeconfig, server: args.master.as_deref(), rate_limit };
    Ok(pintle_client::connect_with(&options).await?)
}

/// How pods are told; `None` if the process is to end before the node has ranges of its own.
async fn detector(
    client: &kube::Client,
    node_name: &str,
    checked: &CheckedConfiguration,
    daemon: &Daemon,
) -> anyhow::Result<Option<LocalDetector>> {
    Ok(Some(match checked.local_detection().clone() {
        LocalDetection::Bridge(name) => LocalDetector::Bridge(name),
        LocalDetection::ClusterCidr(cidrs) => LocalDetector::Cidrs(cidrs),
        LocalDetection::InterfacePrefix(prefix) => LocalDetector::InterfacePrefix(prefix),
        LocalDetection::NodeCidr => {
            tokio::select! {
                cidrs = pod_cidrs(client, node_name) => LocalDetector::Cidrs(cidrs?),
                () = daemon.shutdown.cancelled() => return Ok(None),
            }
        }
    }))
}

/// The node's own pod ranges. They are given to it some time after it has registered.
async fn pod_cidrs(client: &kube::Client, node_name: &str) -> anyhow::Result<Vec<ipnet::IpNet>> {
    let nodes = Api::<Node>::all(client.clone());
    let since = Instant::now();
    tracing::info!(node = node_name, "detectLocalMode NodeCIDR: waiting for the node's podCIDRs");
    loop {
        match nodes.get_opt(node_name).await {
            Ok(Some(node)) => {
                let cidrs = NodeSpec::from_object(&node).pod_cidrs;
                if !cidrs.is_empty() {
                    return Ok(cidrs);
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(node = node_name, %error, "ask for the node"),
        }
        if since.elapsed() > POD_CIDR_WAIT {
            return Err(anyhow!(
                "detectLocalMode NodeCIDR: node {node_name} has no podCIDRs after {} s",
                POD_CIDR_WAIT.as_secs()
            ));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Have the allocator give back at once what is free: otherwise what the start takes for a moment stays
/// with the process, some 6 MiB. It reads its options before `main`, so the process begins anew.
///
/// Whoever says something else in the environment is followed.
fn keep_little_memory() {
    if std::env::var_os(PURGE_DELAY).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    let (Some(name), Ok(program)) = (arguments.next(), std::env::current_exe()) else { return };
    let mut anew = Command::new(program);
    let error = anew.arg0(name).args(arguments).env(PURGE_DELAY, "0").exec();
    // This process goes on, with more memory.
    tracing::debug!(%error, "begin anew with {PURGE_DELAY}");
}

/// mimalloc's option, in milliseconds.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

fn adjust_oom_score(score: Option<i32>) {
    if let Some(score) = score
        && let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string())
    {
        tracing::debug!(score, %error, "set the process's oom_score_adj");
    }
}

/// Where a node that is the whole machine has its pins; the nodes of a `standalone` have theirs under
/// the cluster's id.
const PINS_OF_THIS_MACHINE: &str = "machine";

/// As kube-proxy waits.
const POD_CIDR_WAIT: Duration = Duration::from_secs(300);
