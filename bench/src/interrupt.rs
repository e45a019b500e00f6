//! SIGINT and SIGTERM, for benches that have something to stop or to show before they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// Set by SIGINT and SIGTERM, which no longer end the process.
pub(crate) fn flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let (mut signals, stop) = (signal(kind)?, Arc::clone(&stop));
        tokio::spawn(async move {
            if signals.recv().await.is_some() {
                stop.store(true, Ordering::Release);
            }
        });
    }
    Ok(stop)
}
