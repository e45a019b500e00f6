//! The scheduling loop: one attempt after another, bindings written beside it.

use std::sync::Arc;

use kube::Client;
use pintle_client::{EventRecord, EventRecorder, reference_to};
use pintle_scheduler_core::queue::QueuedPod;
use pintle_scheduler_core::{Attempt, Outcome, Time};
use rand::rngs::SmallRng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::{AttemptResult, Metrics};
use crate::shared::Shared;
use crate::{binding, condition};

/// What the loop and its writers need. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cycle {
    pub(crate) shared: Shared,
    pub(crate) client: Client,
    pub(crate) events: EventRecorder,
    pub(crate) metrics: Metrics,
    /// One permit for each write under way.
    pub(crate) writes: Arc<Semaphore>,
    /// The writes under way.
    pub(crate) tasks: TaskTracker,
}

impl Cycle {
    /// Schedules until `shutdown`.
    pub(crate) async fn run(&self, mut random: SmallRng, shutdown: CancellationToken) {
        loop {
            let Some(permit) = self.permit(&shutdown).await else { return };
            let started = self.shared.now();
            let (attempt, counts, next_flush) = {
                let mut scheduler = self.shared.lock();
                let attempt = scheduler.schedule_next(started, &mut random);
                (attempt, scheduler.counts(), scheduler.next_flush())
            };
            self.metrics.pending(counts);
            match attempt {
                Some(attempt) => self.act(attempt, started, permit),
                None if self.wait(next_flush, &shutdown).await => {}
                None => return,
            }
            // A long run of attempts must not starve the writers of this thread.
            tokio::task::yield_now().await;
        }
    }

    async fn permit(&self, shutdown: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            () = shutdown.cancelled() => None,
            permit = Arc::clone(&self.writes).acquire_owned() => permit.ok(),
        }
    }

    /// Until something changes or a pod's back-off is over; false on shutdown.
    async fn wait(&self, next_flush: Option<Time>, shutdown: &CancellationToken) -> bool {
        let flush = async {
            match next_flush {
                Some(time) => tokio::time::sleep_until(self.shared.instant(time)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => false,
            () = self.shared.changed() => true,
            () = flush => true,
        }
    }

    /// Does what was decided, in a task that holds the permit.
    fn act(&self, attempt: Attempt, started: Time, permit: OwnedSemaphorePermit) {
        let Attempt { pod, outcome } = attempt;
        let cycle = self.clone();
        match outcome {
            Outcome::Skipped => {}
            Outcome::Bind { node, steps: _ } => {
                self.tasks.spawn(async move {
                    cycle.bind(&pod, &node, started).await;
                    drop(permit);
                });
            }
            Outcome::Error(message) => {
                let took = self.shared.now().since(started);
                self.metrics.attempt(AttemptResult::Error, took);
                self.tasks.spawn(async move {
                    cycle.report(&pod, "SchedulerError", &message).await;
                    drop(permit);
                });
            }
            Outcome::Unschedulable { diagnosis, .. } => {
                let took = self.shared.now().since(started);
                self.metrics.attempt(AttemptResult::Unschedulable, took);
                self.tasks.spawn(async move {
                    cycle.report(&pod, "Unschedulable", &diagnosis.to_string()).await;
                    drop(permit);
                });
            }
        }
    }

    async fn bind(&self, pod: &QueuedPod, node: &str, started: Time) {
        let info = &pod.info;
        let written = binding::write(&self.client, info, node).await;
        let now = self.shared.now();
        let Err(error) = written else {
            self.shared.bound(&info.uid);
            self.metrics.attempt(AttemptResult::Scheduled, now.since(started));
            let since = pod.first_active_at.unwrap_or(started);
            self.metrics.scheduled(pod.attempts, now.since(since));
            let message =
                format!("Successfully assigned {}/{} to {node}", info.namespace(), info.name());
            self.events.record(reference_to(&*info.pod), EventRecord::normal("Scheduled", message));
            return;
        };
        self.shared.binding_failed(&info.uid);
        self.metrics.attempt(AttemptResult::Error, now.since(started));
        tracing::warn!(namespace = info.namespace(), pod = info.name(), node, %error, "bind pod");
        if !matches!(&error, kube::Error::Api(status) if status.is_not_found()) {
            let message = format!("running Bind plugin \"DefaultBinder\": {error}");
            self.report(pod, "SchedulerError", &message).await;
        }
    }

    /// Says to the user why the pod waits: the event and the condition.
    async fn report(&self, pod: &QueuedPod, reason: &str, message: &str) {
        let object = &*pod.info.pod;
        let event = EventRecord::warning("FailedScheduling", truncate(message));
        self.events.record(reference_to(object), event);
        if let Err(error) = condition::write(&self.client, object, reason, message).await {
            let (namespace, name) = (pod.info.namespace(), pod.info.name());
            tracing::warn!(namespace, pod = name, %error, "write the PodScheduled condition");
        }
    }
}

/// Upstream's limit of an event's note, in bytes.
const NOTE_LENGTH_MAX: usize = 1024;

fn truncate(message: &str) -> String {
    if message.len() <= NOTE_LENGTH_MAX {
        return message.to_owned();
    }
    let suffix = " ...";
    let end = message.floor_char_boundary(NOTE_LENGTH_MAX - suffix.len());
    format!("{}{suffix}", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_at_a_character() {
        assert_eq!(truncate("short"), "short");
        let cut = truncate(&"ä".repeat(600));
        assert!(cut.len() <= NOTE_LENGTH_MAX && cut.ends_with("ä ..."), "{cut}");
    }
}
