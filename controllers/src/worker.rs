//! The loop between a work queue and a controller's sync.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use pintle_client::ObjectKey;

use crate::Error;
use crate::work_queue::WorkQueue;

/// A controller's thin half: reads the caches, plans, applies.
pub(crate) trait Sync: Send + std::marker::Sync + 'static {
    /// The controller's name in logs and metrics.
    const NAME: &'static str;

    /// Bring one object closer to what its owner asked for. An error means: try again later.
    fn sync(&self, key: &ObjectKey) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Work on the queue's keys with `count` workers until `shutdown`. Work under way is dropped then:
/// every sync may stop between any two requests, for the next run starts from what is stored.
pub(crate) async fn run_workers<C: Sync>(
    controller: Arc<C>,
    queue: WorkQueue<ObjectKey>,
    count: usize,
    shutdown: CancellationToken,
) {
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..count {
        let controller = Arc::clone(&controller);
        let queue = queue.clone();
        let shutdown = shutdown.clone();
        workers.spawn(async move {
            let _ = shutdown.run_until_cancelled(work(&*controller, &queue)).await;
        });
    }
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended {
            tracing::error!(controller = C::NAME, %error, "a worker ended");
        }
    }
}

async fn work<C: Sync>(controller: &C, queue: &WorkQueue<ObjectKey>) {
    loop {
        let key = queue.next().await;
        let start = Instant::now();
        match controller.sync(&key).await {
            Ok(()) => queue.forget(&key),
            Err(error) => {
                log_failure(C::NAME, &key, &error);
                queue.retry(key.clone());
            }
        }
        queue.done(&key, start.elapsed());
    }
}

fn log_failure(controller: &str, key: &ObjectKey, error: &Error) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if error.is_conflict() {
        // Someone else wrote first; the cache will catch up.
        tracing::debug!(controller, object = %key, %error, cause, "sync again");
    } else {
        tracing::warn!(controller, object = %key, %error, cause, "sync again");
    }
}
