//! The daemon: watches Services and EndpointSlices and keeps the kernel's tables in step.
//!
//! Mirrors kube-proxy's main loop (`pkg/proxy/config`, `BoundedFrequencyRunner`): nothing is
//! published before both kinds were listed once, and events that come together are one update.

mod follow;
mod inbox;
mod metrics;
mod status;
mod sync;

use std::path::Path;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use pintle_component::Daemon;

use crate::config::Config;
use crate::kernel::{Dataplane, LoadError, make_cgroup};
use crate::plan::{LABEL_HEADLESS, LABEL_SERVICE_PROXY_NAME};
use follow::Follower;
use metrics::Metrics;
use status::Status;
use sync::Engine;

/// Why the dataplane stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration names no node.
    #[error("the dataplane's node_name is empty")]
    NoNodeName,
    /// The programs could not be loaded and attached.
    #[error("start the dataplane of node {node}")]
    Load {
        /// The node.
        node: String,
        /// Why not.
        #[source]
        source: LoadError,
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

/// Run one node's dataplane until `daemon.shutdown` is cancelled; the hooks and maps are gone when
/// it returns. Several may run in one process.
///
/// Adds to `daemon.health`: a readiness check `dataplane/NODE`, which passes once the Services that
/// were there at the start are published, and a liveness check `dataplane-sync/NODE`, which fails
/// when an update could not be applied for a minute.
pub async fn run(client: kube::Client, config: Config, daemon: Daemon) -> Result<(), Error> {
    if config.node_name.is_empty() {
        return Err(Error::NoNodeName);
    }
    let node = config.node_name.clone();
    let loading = tokio::task::spawn_blocking({
        let config = config.clone();
        move || load(&config.cgroup, &config)
    });
    let dataplane = loading
        .await
        .map_err(|source| Error::Panicked { node: node.clone(), source })?
        .map_err(|source| Error::Load { node: node.clone(), source })?;
    for cost in dataplane.programs() {
        tracing::debug!(node, program = cost.name, ?cost, "attached");
    }
    tracing::info!(node, cgroup = %config.cgroup.display(), "the dataplane is attached");

    let status = Status::default();
    status.add_checks(&daemon.health, &node);
    let engine = Engine::new(dataplane, config.limits);
    let metrics = Metrics::of(&daemon.registry, &node);
    let follower = Follower::new(&node, engine, metrics, status, config.min_sync_period);
    let services = Api::<Service>::all(client.clone());
    let slices = Api::<EndpointSlice>::all(client);
    follower
        .run(
            watcher(services, selecting(&[LABEL_SERVICE_PROXY_NAME])).default_backoff(),
            watcher(slices, selecting(&[LABEL_SERVICE_PROXY_NAME, LABEL_HEADLESS]))
                .default_backoff(),
            &daemon.shutdown,
        )
        .await
}

fn load(cgroup: &Path, config: &Config) -> Result<Dataplane, LoadError> {
    make_cgroup(cgroup)?;
    Dataplane::load(cgroup, config.limits)
}

/// The objects without any of these labels.
fn selecting(absent: &[&str]) -> watcher::Config {
    let terms: Vec<String> = absent.iter().map(|label| format!("!{label}")).collect();
    watcher::Config::default().labels(&terms.join(","))
}
