//! The pods that wait for a node.
//!
//! Mirrors `pkg/scheduler/backend/queue`. A waiting pod is in exactly one place:
//!
//! ```text
//!            PreEnqueue                pop
//!   add ───────────────► active ────────────────► in flight ──► done
//!    │                     ▲  ▲                        │
//!    │ gated               │  │ back-off over,         │ refused (or an error)
//!    ▼                     │  │ or nothing active      ▼
//!   unschedulable ─────────┘  └────────────── backoff ◄┤ an event since pop may help, or an error
//!    ▲    │  event with a hint, 5 minutes        ▲     │
//!    │    └──────────────────────────────────────┘     │ no event may help
//!    └─────────────────────────────────────────────────┘
//! ```
//!
//! *Active* is ordered by priority, then by how long a pod waits. *Back-off* starts at 1 s and doubles
//! with every refusal to 10 s, in windows of 1 s within which the order is active's; when nothing is
//! active the first of it is taken all the same (SchedulerPopFromBackoffQ), except after errors.
//! Events that come while a pod is *in flight* are kept and replayed when it is refused. Time is
//! passed in.

mod backoff;
mod draw;
mod in_flight;
mod incoming;
mod pod_change;
mod queued_pod;
#[cfg(test)]
mod tests;
mod waiting;
mod wake;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::cache::Snapshot;
use crate::framework::{
    ClusterEvent, Occurrence, Plugin, PluginName, PluginSet, Profiles, Resource, Subject,
};
use crate::pod::{PodInfo, PodUid};
use crate::time::Time;

use backoff::{Backoff, Window};
use in_flight::InFlight;
use incoming::Incoming;
use queued_pod::ActiveKey;
use waiting::{Slot, Waiting, WaitingPods};

pub(crate) use draw::Drawn;
pub use incoming::Cause;
pub use pod_change::scheduling_change;
pub use queued_pod::QueuedPod;

/// How long pods wait.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// After the first refusal (`podInitialBackoffSeconds`).
    pub backoff_initial: Duration,
    /// At most (`podMaxBackoffSeconds`).
    pub backoff_max: Duration,
    /// A refused pod that no event woke is tried again after this.
    pub unschedulable_max: Duration,
}

impl Default for Options {
    /// Upstream's: 1 s, 10 s and 5 minutes.
    fn default() -> Self {
        Self {
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_secs(10),
            unschedulable_max: Duration::from_secs(300),
        }
    }
}

/// How often pods that waited too long are looked for.
const LEFTOVER_CHECK: Duration = Duration::from_secs(30);

/// How many pods are where; `scheduler_pending_pods`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ready to be popped.
    pub active: usize,
    /// Backing off.
    pub backoff: usize,
    /// Waiting for an event.
    pub unschedulable: usize,
    /// Held back by a PreEnqueue plugin.
    pub gated: usize,
}

/// The scheduling queue.
#[derive(Debug)]
pub struct Queue {
    options: Options,
    profiles: Arc<Profiles>,
    waiting: WaitingPods,
    active: BTreeMap<ActiveKey, Slot>,
    backoff: BTreeMap<(Window, ActiveKey), PodUid>,
    error_backoff: BTreeMap<(Window, ActiveKey), PodUid>,
    /// Ordered, so that events wake pods in the order in which they were refused.
    unschedulable: BTreeSet<(Time, u64, PodUid)>,
    gated: usize,
    in_flight: InFlight,
    incoming: Incoming,
    leftovers_checked_at: Time,
    sequence: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    Backoff(Window),
    ErrorBackoff(Window),
    Unschedulable,
}

impl Queue {
    /// An empty queue for the pods of these profiles.
    pub fn new(options: Options, profiles: Arc<Profiles>) -> Self {
        Self {
            options,
            profiles,
            waiting: WaitingPods::default(),
            active: BTreeMap::new(),
            backoff: BTreeMap::new(),
            error_backoff: BTreeMap::new(),
            unschedulable: BTreeSet::new(),
            gated: 0,
            in_flight: InFlight::default(),
            incoming: Incoming::default(),
            leftovers_checked_at: Time::default(),
            sequence: 0,
        }
    }

    /// How many pods are where.
    pub fn counts(&self) -> Counts {
        Counts {
            active: self.active.len(),
            backoff: self.backoff.len() + self.error_backoff.len(),
            unschedulable: self.unschedulable.len() - self.gated,
            gated: self.gated,
        }
    }

    /// How many pods entered which part (`active`, `backoff`, `unschedulable`), and why.
    pub fn incoming(&self) -> impl Iterator<Item = (&'static str, Cause, u64)> {
        self.incoming.counts()
    }

    /// The waiting pods that were refused, or are held back.
    pub fn refused(&self) -> impl Iterator<Item = &QueuedPod> {
        self.unschedulable.iter().filter_map(|(.., uid)| self.get(uid))
    }

    /// The waiting pod.
    pub fn get(&self, uid: &PodUid) -> Option<&QueuedPod> {
        self.waiting.get(uid).map(|waiting| &waiting.pod)
    }

    /// A pod without a node was seen for the first time. A pod that is known already is updated.
    pub fn add(&mut self, info: Arc<PodInfo>, snapshot: &Snapshot, now: Time) {
        if self.waiting.contains(&info.uid) || self.in_flight.contains(&info.uid) {
            return self.update(info, snapshot, now);
        }
        let pod = QueuedPod::new(info, now, self.next_sequence());
        self.incoming.because(Cause::PodAdd);
        self.enqueue(pod, snapshot, now);
    }

    /// A pod without a node changed. If it waits for an event, the change may be that event.
    pub fn update(&mut self, info: Arc<PodInfo>, snapshot: &Snapshot, now: Time) {
        if self.in_flight.update(&info) {
            return;
        }
        let Some(mut waiting) = self.take(&info.uid) else {
            return self.add(info, snapshot, now);
        };
        let old = std::mem::replace(&mut waiting.pod.info, Arc::clone(&info));
        let action = scheduling_change(&old, &info);
        let event = ClusterEvent::new(Resource::TargetPod, action);
        let occurrence = Occurrence { event, subject: Subject::Pod(Some(old), Some(info)) };
        let wakes = waiting.place == Place::Unschedulable
            && self.is_worth_requeuing(&waiting.pod, &occurrence, snapshot);
        self.incoming.because(wakes.then_some(Cause::PodUpdate));
        if wakes {
            self.requeue(waiting.pod, snapshot, now);
        } else {
            self.put(waiting.pod, waiting.place);
        }
    }

    /// A pod is gone, or is no longer this scheduler's to place.
    pub fn remove(&mut self, uid: &PodUid) {
        self.take(uid);
        self.in_flight.remove(uid);
    }

    /// Takes the next pod. It is in flight until [`Queue::done`] or [`Queue::refuse`].
    pub fn pop(&mut self, snapshot: &Snapshot, now: Time) -> Option<QueuedPod> {
        self.flush(snapshot, now);
        let waiting = match self.active.pop_first() {
            Some((_, slot)) => self.waiting.remove_at(slot),
            None => {
                let uid = self.backoff.first_key_value()?.1.clone();
                self.take(&uid)
            }
        };
        let mut pod = waiting?.pod;
        pod.attempts += 1;
        pod.refused_by = PluginSet::default();
        self.in_flight.start(&pod.info);
        Some(pod)
    }

    /// Takes this pod out of its turn, wherever it waits; `None` if it does not wait, or is held
    /// back by a PreEnqueue plugin. It is in flight as if it were popped.
    pub fn pop_this(&mut self, uid: &PodUid, snapshot: &Snapshot, now: Time) -> Option<QueuedPod> {
        if self.gate(self.get(uid)?, snapshot).is_some() {
            return None;
        }
        let mut pod = self.take(uid)?.pod;
        pod.gated_by = None;
        pod.first_active_at.get_or_insert(now);
        pod.attempts += 1;
        pod.refused_by = PluginSet::default();
        self.in_flight.start(&pod.info);
        Some(pod)
    }

    /// The popped pod has its node: events are no longer kept for it.
    pub fn done(&mut self, uid: &PodUid) {
        self.in_flight.finish(uid);
    }

    /// Puts back a popped pod that `refused_by` refused, or, if that is empty, for which something
    /// went wrong. A pod that was removed meanwhile is dropped.
    pub fn refuse(
        &mut self,
        mut pod: QueuedPod,
        refused_by: PluginSet,
        snapshot: &Snapshot,
        now: Time,
    ) {
        let uid = pod.info.uid.clone();
        let events = match self.in_flight.finish(&uid) {
            Some(in_flight::Finished { removed: true, .. }) => return,
            Some(finished) => {
                pod.info = finished.latest;
                finished.events
            }
            None => in_flight::Events::Known(Vec::new()),
        };
        if self.waiting.contains(&uid) {
            return;
        }
        if refused_by.is_empty() {
            pod.consecutive_errors += 1;
        } else {
            pod.unschedulable_count += 1;
            pod.consecutive_errors = 0;
        }
        pod.refused_by = refused_by;
        pod.queued_at = now;
        pod.sequence = self.next_sequence();
        let missed = match events {
            in_flight::Events::Lost => true,
            in_flight::Events::Known(events) => {
                events.iter().any(|occurrence| self.is_worth_requeuing(&pod, occurrence, snapshot))
            }
        };
        self.incoming.because(Cause::ScheduleAttemptFailure);
        if refused_by.is_empty() || missed {
            self.requeue(pod, snapshot, now);
        } else {
            self.put(pod, Place::Unschedulable);
        }
    }

    /// Moves what has waited long enough: back-off that is over, and every 30 s what no event woke
    /// for 5 minutes.
    pub fn flush(&mut self, snapshot: &Snapshot, now: Time) {
        self.incoming.because(Cause::BackoffComplete);
        while let Some(uid) = self.first_completed(now) {
            if let Some(waiting) = self.take(&uid) {
                self.enqueue(waiting.pod, snapshot, now);
            }
        }
        if now.since(self.leftovers_checked_at) < LEFTOVER_CHECK {
            return;
        }
        self.leftovers_checked_at = now;
        let max = self.options.unschedulable_max;
        let left = self.unschedulable.iter().take_while(|(since, ..)| now.since(*since) > max);
        let left: Vec<PodUid> = left.map(|(_, _, uid)| uid.clone()).collect();
        self.incoming.because(Cause::UnschedulableTimeout);
        for uid in left {
            if let Some(waiting) = self.take(&uid) {
                self.requeue(waiting.pod, snapshot, now);
            }
        }
    }

    /// When [`Queue::flush`] next has something to do, if nothing else happens.
    pub fn next_flush(&self) -> Option<Time> {
        let first = |queue: &BTreeMap<(Window, ActiveKey), PodUid>| {
            queue.first_key_value().map(|((window, _), _)| window.end())
        };
        let leftovers = (!self.unschedulable.is_empty())
            .then(|| self.leftovers_checked_at.plus(LEFTOVER_CHECK));
        [first(&self.backoff), first(&self.error_backoff), leftovers].into_iter().flatten().min()
    }

    fn first_completed(&self, now: Time) -> Option<PodUid> {
        [&self.backoff, &self.error_backoff].into_iter().find_map(|queue| {
            let ((window, _), uid) = queue.first_key_value()?;
            (window.end() <= now).then(|| uid.clone())
        })
    }

    /// To back-off while it lasts, else to active.
    fn requeue(&mut self, pod: QueuedPod, snapshot: &Snapshot, now: Time) {
        let backoff =
            Backoff { initial: self.options.backoff_initial, max: self.options.backoff_max };
        match backoff.window(&pod).filter(|window| window.end() > now) {
            Some(window) if self.gate(&pod, snapshot).is_none() => {
                let after_error = pod.refused_by.is_empty();
                let place =
                    if after_error { Place::ErrorBackoff(window) } else { Place::Backoff(window) };
                self.put(QueuedPod { gated_by: None, ..pod }, place);
            }
            _ => self.enqueue(pod, snapshot, now),
        }
    }

    /// To active, or if a PreEnqueue plugin holds the pod back, to unschedulable.
    fn enqueue(&mut self, mut pod: QueuedPod, snapshot: &Snapshot, now: Time) {
        pod.gated_by = self.gate(&pod, snapshot);
        if pod.gated_by.is_some() {
            return self.put(pod, Place::Unschedulable);
        }
        pod.first_active_at.get_or_insert(now);
        self.put(pod, Place::Active);
    }

    fn gate(&self, pod: &QueuedPod, snapshot: &Snapshot) -> Option<PluginName> {
        let mut plugins = self.profiles.of(&pod.info)?.pre_enqueue.iter();
        let refuses = |plugin: &&Arc<dyn Plugin>| plugin.pre_enqueue(&pod.info, snapshot).is_err();
        plugins.find(refuses).map(|plugin| plugin.name())
    }

    fn put(&mut self, pod: QueuedPod, place: Place) {
        let uid = pod.info.uid.clone();
        let (key, gated_by) = (pod.active_key(), pod.gated_by);
        let refused = (pod.queued_at, pod.sequence);
        self.incoming.count(place);
        let slot = self.waiting.insert(Waiting { pod, place });
        match place {
            Place::Active => {
                self.active.insert(key, slot);
            }
            Place::Backoff(window) => {
                self.backoff.insert((window, key), uid);
            }
            Place::ErrorBackoff(window) => {
                self.error_backoff.insert((window, key), uid);
            }
            Place::Unschedulable => {
                self.gated += usize::from(gated_by.is_some());
                self.unschedulable.insert((refused.0, refused.1, uid));
            }
        }
    }

    fn take(&mut self, uid: &PodUid) -> Option<Waiting> {
        let waiting = self.waiting.remove(uid)?;
        let pod = &waiting.pod;
        let key = pod.active_key();
        match waiting.place {
            Place::Active => {
                self.active.remove(&key);
            }
            Place::Backoff(window) => {
                self.backoff.remove(&(window, key));
            }
            Place::ErrorBackoff(window) => {
                self.error_backoff.remove(&(window, key));
            }
            Place::Unschedulable => {
                self.gated -= usize::from(pod.gated_by.is_some());
                self.unschedulable.remove(&(pod.queued_at, pod.sequence, uid.clone()));
            }
        }
        Some(waiting)
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}
