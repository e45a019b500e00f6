//! What a daemon is handed by whoever starts it.

use tokio_util::sync::CancellationToken;

use crate::{Health, Registry};

/// The surroundings of one running daemon; in `standalone` all daemons share one. Cheap to clone.
#[derive(Clone, Default)]
pub struct Daemon {
    /// Where the daemon adds its checks.
    pub health: Health,
    /// Where the daemon registers its metrics.
    pub registry: Registry,
    /// Cancelled when the daemon should stop cleanly.
    pub shutdown: CancellationToken,
}
