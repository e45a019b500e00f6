//! The running parts of a `standalone`, stopped together.

use anyhow::{Context as _, anyhow};
use pintle_component::Daemon;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Parts that share a shutdown.
pub(crate) struct Parts {
    daemon: Daemon,
    running: JoinSet<anyhow::Result<()>>,
}

impl Parts {
    /// No parts yet; they share the health checks and metrics of `daemon`, not its shutdown.
    pub(crate) fn new(daemon: &Daemon) -> Self {
        let daemon = Daemon { shutdown: CancellationToken::new(), ..daemon.clone() };
        Self { daemon, running: JoinSet::new() }
    }

    /// Start a part.
    pub(crate) fn start<F, E>(&mut self, name: &'static str, part: impl FnOnce(Daemon) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let running = part(self.daemon.clone());
        let shutdown = self.daemon.shutdown.clone();
        self.running.spawn(async move {
            running.await.with_context(|| format!("run the {name}"))?;
            if shutdown.is_cancelled() {
                Ok(())
            } else {
                Err(anyhow!("the {name} ended by itself"))
            }
        });
    }

    /// Wait for a part to end by itself, which none should; never, without parts.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match self.running.join_next().await {
            Some(Ok(Ok(()))) => anyhow!("a part ended by itself"),
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => anyhow::Error::new(error).context("run a part"),
            None => std::future::pending().await,
        }
    }

    /// Stop all parts and wait for them; the first failure is returned, the others are logged.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.daemon.shutdown.cancel();
        let mut outcome = Ok(());
        while let Some(ended) = self.running.join_next().await {
            if let Err(error) = ended.context("stop a part").flatten() {
                tracing::error!(error = format!("{error:#}"), "a part failed");
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }
}
