//! The kubelet's entry points.

use pintle_component::Daemon;

use crate::{Config, Error, Runtime, agent, hollow};

/// Run one kubelet until `daemon.shutdown`; then its pods' processes, namespaces and cgroups are
/// removed. A node's own namespace and cgroup are left to whoever made its cluster's network; a node
/// that is the machine itself leaves nothing.
pub async fn run(client: kube::Client, config: Config, daemon: Daemon) -> Result<(), Error> {
    match config.runtime.clone() {
        Runtime::Hollow => hollow::run(client, vec![config], daemon).await,
        Runtime::Process(process) => agent::run(client, config, process, daemon).await,
    }
}

/// Run many hollow kubelets in one, with one watch of pods and one of nodes between them.
pub async fn run_hollow(
    client: kube::Client,
    configs: Vec<Config>,
    daemon: Daemon,
) -> Result<(), Error> {
    if let Some(other) = configs.iter().find(|it| !matches!(it.runtime, Runtime::Hollow)) {
        return Err(Error::NotHollow { node: other.node_name.clone() });
    }
    hollow::run(client, configs, daemon).await
}
