//! The scheduling loop: one attempt after another, bindings written beside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use pintle_client::{EventRecord, EventRecorder};
use pintle_scheduler_core::cache::Snapshot;
use pintle_scheduler_core::framework::{
    Code, ExtensionPoint, Nomination, Preemption, Profiles, Step,
};
use pintle_scheduler_core::queue::QueuedPod;
use pintle_scheduler_core::{Attempt, Outcome, PodInfo, Time};
use rand::rngs::SmallRng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::binding::Binder;
use crate::condition::Report;
use crate::metrics::{AttemptResult, Metrics};
use crate::shared::Shared;
use crate::writes::{Writes, reference};
use crate::{condition, eviction, prebind, sample};

/// What the loop and its writers need.
pub(crate) struct Cycle {
    pub(crate) shared: Shared,
    pub(crate) client: Client,
    /// By the name of the profile.
    pub(crate) recorders: Arc<BTreeMap<String, EventRecorder>>,
    pub(crate) binder: Binder,
    pub(crate) profiles: Arc<Profiles>,
    pub(crate) samples: sample::Schedule,
    pub(crate) metrics: Metrics,
    /// How long volumes may take to be bound, by scheduler name.
    pub(crate) bind_timeouts: Arc<BTreeMap<String, Duration>>,
    /// Attempts between two writes.
    pub(crate) attempts_max: usize,
    /// Who writes pods.
    pub(crate) writes: Writes,
    /// One for each pod that is written.
    pub(crate) permits: Arc<Semaphore>,
    /// The writes under way.
    pub(crate) tasks: TaskTracker,
}

impl Cycle {
    /// Schedules until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, mut random: SmallRng, shutdown: CancellationToken) {
        let mut slice = Instant::now();
        let mut attempts = Vec::new();
        // As many as there were pods for when that was last known.
        let mut wanted = 1;
        loop {
            let Some(permits) = self.permits(wanted, &shutdown).await else { return };
            let started = self.shared.now();
            let (sample, next_flush) = {
                let mut scheduler = self.shared.lock();
                scheduler.schedule_many(started, &mut random, permits.len(), &mut attempts);
                let sample = attempts.first().filter(|_| self.samples.is_due(started));
                let sample =
                    sample.map(|it| (Arc::clone(&it.pod.info), scheduler.snapshot().clone()));
                wanted = scheduler.counts().active.clamp(1, self.attempts_max);
                (sample, scheduler.next_flush())
            };
            let took = self.shared.now().since(started);
            if let Some((pod, snapshot)) = sample {
                self.sample(pod, snapshot);
            }
            if attempts.is_empty() {
                drop(permits);
                if self.wait(next_flush, &shutdown).await {
                    continue;
                }
                return;
            }
            let each = took / u32::try_from(attempts.len().max(1)).unwrap_or(u32::MAX);
            for (attempt, permit) in attempts.drain(..).zip(permits) {
                self.metrics.decided(each);
                self.act(attempt, started, permit);
            }
            // A long run of attempts must not starve the writers of this thread. Giving way after
            // each would let whoever is slow on the same threads set the pace: one turn, one pod.
            if slice.elapsed() >= SLICE {
                tokio::task::yield_now().await;
                slice = Instant::now();
            }
        }
    }

    /// Measures the plugins over the pod, on another thread.
    fn sample(&self, pod: Arc<PodInfo>, snapshot: Snapshot) {
        let (metrics, profiles) = (self.metrics.clone(), Arc::clone(&self.profiles));
        tokio::task::spawn_blocking(move || {
            if let Some(profile) = profiles.of(&pod) {
                let measured = sample::measure(profile, &snapshot, &pod);
                metrics.sampled(&profile.scheduler_name, &measured);
            }
        });
    }

    /// Who reports what happens to the pod.
    fn events(&self, pod: &PodInfo) -> &EventRecorder {
        let own = self.recorders.get(pod.scheduler_name());
        own.or_else(|| self.recorders.values().next()).expect("there is a profile")
    }

    /// A permit for each attempt that may be made: at most so many, and at least one.
    async fn permits(
        &self,
        wanted: usize,
        shutdown: &CancellationToken,
    ) -> Option<Vec<OwnedSemaphorePermit>> {
        let first = tokio::select! {
            () = shutdown.cancelled() => None,
            permit = Arc::clone(&self.permits).acquire_owned() => permit.ok(),
        };
        let more = std::iter::repeat_with(|| Arc::clone(&self.permits).try_acquire_owned().ok());
        let more = more.take(wanted.saturating_sub(1)).map_while(|permit| permit);
        Some(std::iter::once(first?).chain(more).collect())
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
    fn act(self: &Arc<Self>, attempt: Attempt, started: Time, permit: OwnedSemaphorePermit) {
        let Attempt { pod, outcome } = attempt;
        let cycle = Arc::clone(self);
        match outcome {
            Outcome::Skipped => self.skip(&pod),
            Outcome::Bind { node, steps } => {
                self.tasks
                    .spawn(async move { cycle.bind(pod, node, steps, started, permit).await });
            }
            Outcome::Error(message) => {
                let took = self.shared.now().since(started);
                self.metrics.attempt(AttemptResult::Error, pod.info.scheduler_name(), took);
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
                self.metrics.attempt(AttemptResult::Unschedulable, pod.info.scheduler_name(), took);
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
            self.events(info).record(reference(info), event);
        }
    }

    /// Makes room for the pod: evicts its victims and writes what PostFilter plugins ask for.
    async fn help(&self, pod: &QueuedPod, preemption: Option<&Preemption>, steps: &[Step]) {
        let info = &pod.info;
        if let Err(error) = prebind::write(&self.client, info, steps).await {
            tracing::warn!(namespace = info.namespace(), pod = info.name(), %error, "help a pod");
        }
        if let Some(preemption) = preemption {
            let done = eviction::carry_out(&self.writes, self.events(info), info, preemption).await;
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
        // Most pods need no preparation, and the task of each is to be small.
        let prepared = match steps.is_empty() {
            true => Ok(Some(permit)),
            false => Box::pin(self.prepare(&pod, &node, &steps, permit)).await,
        };
        let info = &pod.info;
        let (error, is_gone) = match prepared {
            Ok(_permit) => {
                let asked = self.shared.now();
                let bound = self.binder.bind(info, &node).await;
                let code = if bound.is_ok() { Code::Success } else { Code::Error };
                let took = self.shared.now().since(asked);
                self.metrics.point(ExtensionPoint::Bind, code, info.scheduler_name(), took);
                match bound {
                    Ok(()) => return self.bound(&pod, &node, started),
                    Err(error) => (error.to_string(), error.is_gone()),
                }
            }
            Err(error) => (error.to_string(), false),
        };
        tracing::warn!(namespace = info.namespace(), pod = info.name(), %node, error, "bind pod");
        Box::pin(self.not_bound(&pod, &steps, started, &error, is_gone)).await;
    }

    /// Carries out what precedes the binding; the permit to write it.
    async fn prepare(
        &self,
        pod: &QueuedPod,
        node: &Arc<str>,
        steps: &[Step],
        permit: OwnedSemaphorePermit,
    ) -> Result<Option<OwnedSemaphorePermit>, prebind::Error> {
        self.nominate(pod, node).await;
        prebind::write(&self.client, &pod.info, steps).await?;
        if !prebind::must_wait(steps) {
            return Ok(Some(permit));
        }
        drop(permit);
        let timeout = self.bind_timeout(&pod.info);
        let waited = prebind::wait(&self.shared, &pod.info, node, steps, timeout).await;
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        waited.map(|()| permit.ok())
    }

    async fn not_bound(
        &self,
        pod: &QueuedPod,
        steps: &[Step],
        started: Time,
        error: &str,
        is_gone: bool,
    ) {
        let info = &pod.info;
        prebind::unreserve(&self.client, info, steps).await;
        self.shared.binding_failed(&info.uid);
        let took = self.shared.now().since(started);
        self.metrics.attempt(AttemptResult::Error, info.scheduler_name(), took);
        if !is_gone {
            self.report(pod, &Report { message: error, ..SCHEDULER_ERROR }).await;
        }
    }

    /// Says where the pod will be while that takes a while (NominatedNodeNameForExpectation).
    async fn nominate(&self, pod: &QueuedPod, node: &Arc<str>) {
        let nomination = Nomination::Set(Arc::clone(node));
        let written = condition::set_nomination(&self.writes, &pod.info, &nomination).await;
        if let Err(error) = written {
            let (namespace, name) = (pod.info.namespace(), pod.info.name());
            tracing::warn!(namespace, pod = name, %error, "write the pod's nomination");
        }
    }

    fn bind_timeout(&self, pod: &PodInfo) -> Duration {
        self.bind_timeouts.get(pod.scheduler_name()).copied().unwrap_or(BIND_TIMEOUT)
    }

    fn bound(&self, pod: &QueuedPod, node: &str, started: Time) {
        let (info, now) = (&pod.info, self.shared.now());
        self.shared.bound(&info.uid);
        self.metrics.attempt(AttemptResult::Scheduled, info.scheduler_name(), now.since(started));
        let since = pod.first_active_at.unwrap_or(started);
        self.metrics.scheduled(pod.attempts, now.since(since));
        let message =
            format!("Successfully assigned {}/{} to {node}", info.namespace(), info.name());
        self.events(info).record(reference(info), EventRecord::normal("Scheduled", message));
    }

    /// Says to the user why the pod waits: the event, the condition, and where it may come to run.
    async fn report(&self, pod: &QueuedPod, report: &Report<'_>) {
        let event = EventRecord::warning("FailedScheduling", truncate(report.message));
        self.events(&pod.info).record(reference(&pod.info), event);
        if let Err(error) = condition::write(&self.writes, &pod.info, report).await {
            let (namespace, name) = (pod.info.namespace(), pod.info.name());
            tracing::warn!(namespace, pod = name, %error, "write the PodScheduled condition");
        }
    }
}

/// Something went wrong: the pod loses its nomination.
const SCHEDULER_ERROR: Report<'static> =
    Report { reason: "SchedulerError", message: "", nomination: &Nomination::Clear };

/// The default of VolumeBinding's `bindTimeoutSeconds`.
const BIND_TIMEOUT: Duration = Duration::from_secs(600);

/// How long the loop goes on before others on its thread have their turn.
const SLICE: Duration = Duration::from_micros(500);

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
