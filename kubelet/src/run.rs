//! The kubelet's entry points.

use pintle_component::Daemon;

use crate::{Config, Error};

/// Run one kubelet until `daemon.shutdown`; then its pods' processes are stopped and what it made
/// on the machine is removed.
pub async fn run(client: kube::Client, config: Config, daemon: Daemon) -> Result<(), Error> {
    let _ = (client, config);
    daemon.shutdown.cancelled().await;
    Ok(())
}

/// Run many hollow kubelets in one, with one watch of pods and one of nodes between them.
pub async fn run_hollow(
    client: kube::Client,
    configs: Vec<Config>,
    daemon: Daemon,
) -> Result<(), Error> {
    let _ = (client, configs);
    daemon.shutdown.cancelled().await;
    Ok(())
}
