//! The daemon: watches Services and EndpointSlices and keeps the kernel's tables in step.
//!
//! Mirrors kube-proxy's main loop (`pkg/proxy/config`, `BoundedFrequencyRunner`): nothing is
//! published before both kinds were listed once, and events that come together are one update.

mod follow;
mod health_check;
mod inbox;
mod kernel_release;
mod listener;
mod metrics;
mod node;
mod report;
mod scrape;
mod serving;
mod status;
mod sync;

use std::io;
use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use pintle_component::Daemon;

use crate::config::Config;
use crate::kernel::{Dataplane, LoadError, make_cgroup};
use crate::plan::{LABEL_HEADLESS, LABEL_SERVICE_PROXY_NAME, Planner};
use follow::{Events, Follower, Watches};
use health_check::HealthChecks;
use kernel_release::Feature;
use metrics::Metrics;
use node::NodePorts;
use report::Reporter;
use serving::Answers;
pub use serving::Serving;
use status::Status;
use sync::{Engine, NodeTables};

/// Why the dataplane stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration names no node.
    #[error("the dataplane's node_name is empty")]
    NoNodeName,
    /// The kernel is too old to load the programs.
    #[error("node {node}: the kernel, {release}, has no {feature}: {instead}")]
    KernelTooOld {
        /// The node.
        node: String,
        /// The kernel's release.
        release: String,
        /// What it lacks.
        feature: &'static str,
        /// What to do.
        instead: &'static str,
        /// What has failed.
        #[source]
        source: LoadError,
    },
    /// The programs could not be loaded and attached.
    #[error("start the dataplane of node {node}")]
    Load {
        /// The node.
        node: String,
        /// Why not.
        #[source]
        source: LoadError,
    },
    /// An address that shall be served cannot be.
    #[error("serve {name} on {address}")]
    Serve {
        /// What is served there.
        name: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An update of the tables panicked.
    #[error("update the dataplane of node {node}")]
    Panicked {
        /// The node.
        node: String,
        /// The panic.
        #[source]
        source: tokio::task::JoinError,
    },
}

/// Run one node's dataplane until `daemon.shutdown` is cancelled. When it returns the hooks and maps
/// are gone, unless they are pinned and kept: then they go on as they are. Several may run in one
/// process.
///
/// Tables that an earlier process left are first compared with the API, once all Services and
/// EndpointSlices are known; until then they answer as they did.
///
/// Answers kube-proxy's health and metrics endpoints where `config.serving` says. Adds to `daemon.health`: a readiness check `dataplane/NODE`, which passes once the Services that
/// were there at the start are published, and a liveness check `dataplane-sync/NODE`, which fails
/// when an update could not be applied for a minute.
pub async fn run(client: kube::Client, config: Config, daemon: Daemon) -> Result<(), Error> {
    if config.node_name.is_empty() {
        return Err(Error::NoNodeName);
    }
    let node = config.node_name.clone();
    // Before anything that takes time: until then nobody is to be told that the node is served.
    let status = Status::new(config.health_timeout);
    status.add_checks(&daemon.health, &node);
    let metrics = Metrics::of(&daemon.registry, &node);
    let answers = Answers {
        status: status.clone(),
        metrics: metrics.clone(),
        daemon: daemon.clone(),
        configz: config.serving.configz.clone(),
    };
    let mut servers = serving::start(&config.serving, answers);
    let outcome = tokio::select! {
        outcome = serve_node(client, config, &daemon, status, metrics.clone()) => outcome,
        Some(ended) = servers.join_next(), if !servers.is_empty() => match ended {
            // They stop on their own only when the daemon does.
            Ok(outcome) => outcome,
            Err(source) => Err(Error::Panicked { node, source }),
        },
    };
    metrics.hide_maps();
    outcome
}

/// Load the programs and follow the API until `daemon.shutdown` is cancelled.
async fn serve_node(
    client: kube::Client,
    config: Config,
    daemon: &Daemon,
    status: Status,
    metrics: Metrics,
) -> Result<(), Error> {
    let node = config.node_name.clone();
    let loading = tokio::task::spawn_blocking({
        let config = config.clone();
        move || load(&config)
    });
    let (dataplane, planner) = loading
        .await
        .map_err(|source| Error::Panicked { node: node.clone(), source })?
        .map_err(|source| not_loaded(&node, kernel_release::running(), source))?;
    for cost in dataplane.programs() {
        tracing::debug!(node, program = cost.name, ?cost, "attached");
    }
    tracing::info!(node, cgroup = %config.cgroup.display(), "the dataplane is attached");

    let tables = NodeTables {
        dataplane,
        namespace: config.node_namespace.clone(),
        detector: config.local_detector,
        follows_pod_cidrs: config.follows_pod_cidrs,
        masquerade_all: config.masquerade_all,
        translates_packets: config.translates_packets,
    };
    let engine = Engine::new(tables, planner);
    if let Some(pins) = &config.pins {
        metrics.show_maps(pins);
    }
    let health_checks = HealthChecks::new(config.node_namespace.clone(), status.clone());
    let node_ports = NodePorts::new(
        config.node_namespace,
        config.node_port_addresses,
        config.localhost_node_ports,
    );
    let period = config.min_sync_period;
    let follower = Follower::new(&node, engine, metrics, status, node_ports, period)
        .asked_by(health_checks)
        .at(config.node_ip);
    let (reporter, telling) = Reporter::new(&node, client.clone());
    let telling = tokio::spawn(telling);
    let follower = follower.telling(reporter);
    let outcome = follower.run(watches(&client, &node), &daemon.shutdown).await;
    // What waits to be told is not worth waiting for.
    telling.abort();
    if let Some(pins) = config.pins.filter(|_| !config.keep_pins) {
        pins.remove().map_err(|error| Error::Load { node, source: LoadError::Pins(error) })?;
    }
    outcome
}

/// Why the programs were not loaded, and what to do if it is for the kernel's age.
fn not_loaded(node: &str, release: String, source: LoadError) -> Error {
    let node = node.to_owned();
    let is_refusal = matches!(source, LoadError::Program { .. } | LoadError::Attach { .. });
    if is_refusal && kernel_release::SET_RETVAL.is_missing(&release) {
        let Feature { name: feature, instead, .. } = kernel_release::SET_RETVAL;
        return Error::KernelTooOld { node, release, feature, instead, source };
    }
    Error::Load { node, source }
}

fn watches(
    client: &kube::Client,
    node: &str,
) -> Watches<impl Events<Service>, impl Events<EndpointSlice>, impl Events<Node>> {
    let services = Api::<Service>::all(client.clone());
    let slices = Api::<EndpointSlice>::all(client.clone());
    let nodes = Api::<Node>::all(client.clone());
    let this_node = watcher::Config::default().fields(&format!("metadata.name={node}"));
    let of_service = selecting(&[LABEL_SERVICE_PROXY_NAME]);
    let of_slice = selecting(&[LABEL_SERVICE_PROXY_NAME, LABEL_HEADLESS]);
    Watches {
        services: watcher(services, of_service).default_backoff(),
        slices: watcher(slices, of_slice).default_backoff(),
        node: watcher(nodes, this_node).default_backoff(),
    }
}

fn load(config: &Config) -> Result<(Dataplane, Planner), LoadError> {
    make_cgroup(&config.cgroup)?;
    let (mut dataplane, planner) = match &config.pins {
        Some(pins) => {
            if !config.keep_pins {
                pins.remove().map_err(LoadError::Pins)?;
            }
            Dataplane::load_pinned(&config.cgroup, config.limits, pins)?
        }
        None => {
            let dataplane = Dataplane::load(&config.cgroup, config.limits)?;
            (dataplane, Planner::new(config.limits))
        }
    };
    dataplane.set_node_namespace(&config.node_namespace)?;
    dataplane.set_local(&config.local_detector, config.masquerade_all)?;
    dataplane.set_node_sockets_only(config.node_sockets_only)?;
    dataplane.set_direct_return(config.direct_return)?;
    dataplane.set_express(config.express);
    dataplane.set_pod_links(config.pod_links);
    Ok((dataplane, planner))
}

/// The objects without any of these labels.
fn selecting(absent: &[&str]) -> watcher::Config {
    let terms: Vec<String> = absent.iter().map(|label| format!("!{label}")).collect();
    watcher::Config::default().labels(&terms.join(","))
}

#[cfg(test)]
mod tests {
    use aya::programs::ProgramError;

    use super::*;

    #[test]
    fn a_kernel_that_is_too_old_is_named_with_what_to_do() {
        let refused = || {
            let source = ProgramError::UnexpectedProgramType;
            LoadError::Program { program: "pintle_connect4", source }
        };
        let said = |release: &str| not_loaded("n", release.to_owned(), refused()).to_string();
        assert_eq!(
            said("5.15.0-91-generic"),
            "node n: the kernel, 5.15.0-91-generic, has no bpf_set_retval (kernel 5.18): keep \
             kube-proxy on this node"
        );
        assert_eq!(said("6.6.0"), "start the dataplane of node n", "refused for another reason");
        let other = not_loaded("n", "5.15.0".to_owned(), LoadError::Object("map SLOTS"));
        assert_eq!(other.to_string(), "start the dataplane of node n");
    }
}
