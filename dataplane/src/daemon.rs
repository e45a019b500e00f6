//! The daemon: watches Services and EndpointSlices and keeps the kernel's tables in step.

use pintle_component::Daemon;

use crate::Config;

/// Why the dataplane stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {}

/// Run one node's dataplane until `daemon.shutdown` is cancelled; the hooks and maps are gone when
/// it returns.
pub async fn run(_client: kube::Client, _config: Config, daemon: Daemon) -> Result<(), Error> {
    daemon.shutdown.cancelled().await;
    Ok(())
}
