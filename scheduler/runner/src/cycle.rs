//! The scheduling loop: one attempt after another, bindings written beside it.

use std::sync::Arc;

use kube::Client;
use pintle_client::{EventRecord, EventRecorder, reference_to};
use pintle_scheduler_core::framework::{Nomination, Preemption, Step};
use pintle_scheduler_core::queue::QueuedPod;
use pintle_scheduler_core::{Attempt, Outcome, Time};
use rand::rngs::SmallRng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::condition::Report;
use crate::metrics::{AttemptResult, Metrics};
use crate::shared::Shared;
use crate::{binding, condition, eviction, prebind};

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
            Outcome::Skipped => self.skip(&pod),
            Outcome::Bind { node, steps } => {
                self.tasks
                    .spawn(async move { cycle.bind(pod, node, steps, started, permit).await });
            }
            Outcome::Error(message) => {
                let took = self.shared.now().since(started);
                self.metrics.attempt(AttemptResult::Error, took);
                self.tasks.spawn(async move {
                    cycle.report(&pod, &Report { message: &message, ..SCHEDULER_ERROR }).await;
                    drop(permit);
                });
            }
            Outcome::Unschedulable {
                diagnosis,
                preemption,
                tried_preemption,
                nomination,
                steps,
            } => {
                let took = self.shared.now().since(started);
                self.metrics.attempt(AttemptResult::Unschedulable, took);
                if tried_preemption {
                    self.metrics.preemption(preemption.as_ref().map(|p| p.victims.len()));
                }
                self.tasks.spawn(async move {
                    let message = diagnosis.to_string();
                    let report = Report {
                        reason: "Unschedulable",
                        message: &message,
                        nomination: &nomination,
                    };
                    let help = cycle.help(&pod, preemption.as_deref(), &steps);
                    tokio::join!(cycle.report(&pod, &report), help);
                    drop(permit);
                });
            }
        }
    }

    /// A pod that is being deleted is not scheduled.
    fn skip(&self, pod: &QueuedPod) {
        let info = &pod.info;
        if info.is_terminating() {
            let message =
                format!("skip schedule deleting pod: {}/{}", info.namespace(), info.name());
            let event = EventRecord::warning("FailedScheduling", message);
            self.events.record(reference_to(&*info.pod), event);
        }
    }

    /// Makes room for the pod: evicts its victims and writes what PostFilter plugins ask for.
    async fn help(&self, pod: &QueuedPod, preemption: Option<&Preemption>, steps: &[Step]) {
        let info = &pod.info;
        if let Err(error) = prebind::write(&self.client, steps).await {
            tracing::warn!(namespace = info.namespace(), pod = info.name(), %error, "help a pod");
        }
        if let Some(preemption) = preemption {
            let done = eviction::carry_out(&self.client, &self.events, info, preemption).await;
            self.shared.preempted(&info.uid, done);
        }
    }

    /// Carries out the steps and writes the binding. The permit is given back while volumes are
    /// waited for, which may take minutes.
    async fn bind(
        &self,
        pod: QueuedPod,
        node: Arc<str>,
        steps: Vec<Step>,
        started: Time,
        permit: OwnedSemaphorePermit,
    ) {
        let prepared = match prebind::write(&self.client, &steps).await {
            Ok(()) if prebind::must_wait(&steps) => {
                drop(permit);
                let waited = prebind::wait(&self.shared, &steps).await;
                let permit = Arc::clone(&self.writes).acquire_owned().await;
                waited.map(|()| permit.ok())
            }
            written => written.map(|()| Some(permit)),
        };
        let info = &pod.info;
        let (error, is_gone) = match prepared {
            Ok(_permit) => match binding::write(&self.client, info, &node).await {
                Ok(()) => return self.bound(&pod, &node, started),
                Err(error) => {
                    let is_gone =
                        matches!(&error, kube::Error::Api(status) if status.is_not_found());
                    (format!("running Bind plugin \"DefaultBinder\": {error}"), is_gone)
                }
            },
            Err(error) => (error.to_string(), false),
        };
        self.shared.binding_failed(&info.uid);
        self.metrics.attempt(AttemptResult::Error, self.shared.now().since(started));
        tracing::warn!(namespace = info.namespace(), pod = info.name(), %node, error, "bind pod");
        if !is_gone {
            self.report(&pod, &Report { message: &error, ..SCHEDULER_ERROR }).await;
        }
    }

    fn bound(&self, pod: &QueuedPod, node: &str, started: Time) {
        let (info, now) = (&pod.info, self.shared.now());
        self.shared.bound(&info.uid);
        self.metrics.attempt(AttemptResult::Scheduled, now.since(started));
        let since = pod.first_active_at.unwrap_or(started);
        self.metrics.scheduled(pod.attempts, now.since(since));
        let message =
            format!("Successfully assigned {}/{} to {node}", info.namespace(), info.name());
        self.events.record(reference_to(&*info.pod), EventRecord::normal("Scheduled", message));
    }

    /// Says to the user why the pod waits: the event, the condition, and where it may come to run.
    async fn report(&self, pod: &QueuedPod, report: &Report<'_>) {
        let object = &*pod.info.pod;
        let event = EventRecord::warning("FailedScheduling", truncate(report.message));
        self.events.record(reference_to(object), event);
        if let Err(error) = condition::write(&self.client, object, report).await {
            let (namespace, name) = (pod.info.namespace(), pod.info.name());
            tracing::warn!(namespace, pod = name, %error, "write the PodScheduled condition");
        }
    }
}

/// Something went wrong: the pod loses its nomination.
const SCHEDULER_ERROR: Report<'static> =
    Report { reason: "SchedulerError", message: "", nomination: &Nomination::Clear };

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
