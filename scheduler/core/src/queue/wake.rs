//! Events: which waiting pods they wake.

use std::sync::Arc;

use super::{Cause, Queue, QueuedPod};
use crate::cache::Snapshot;
use crate::framework::{Hint, Occurrence, Plugin, PluginName, PluginSet};
use crate::pod::PodUid;
use crate::time::Time;

impl Queue {
    /// Something happened in the cluster: wakes the pods it may help, and is kept for those in
    /// flight.
    pub fn wake(&mut self, occurrence: &Occurrence, snapshot: &Snapshot, now: Time) {
        self.wake_up_to(i32::MAX, occurrence, snapshot, now);
    }

    /// As [`Queue::wake`], but of the waiting pods only those with at most this priority.
    pub fn wake_up_to(
        &mut self,
        priority_max: i32,
        occurrence: &Occurrence,
        snapshot: &Snapshot,
        now: Time,
    ) {
        let event = occurrence.event;
        let interested: PluginSet =
            self.profiles.iter().flat_map(|profile| profile.interested(event).iter()).collect();
        if interested.is_empty() && !event.is_wild_card() {
            return;
        }
        self.in_flight.record(occurrence);
        let woken: Vec<PodUid> = self
            .unschedulable
            .iter()
            .filter(|(_, _, uid)| {
                let waiting = self.waiting.get(uid);
                // Most events concern few of many waiting pods: the sets tell before any hint.
                waiting.filter(|w| w.pod.info.priority <= priority_max).is_some_and(|w| {
                    let held_by = w.pod.held_by();
                    (event.is_wild_card()
                        || held_by.contains_extenders()
                        || !held_by.and(interested).is_empty())
                        && self.is_worth_requeuing(&w.pod, occurrence, snapshot)
                })
            })
            .map(|(_, _, uid)| uid.clone())
            .collect();
        self.incoming.because(Cause::Event(event));
        for uid in woken {
            if let Some(waiting) = self.take(&uid) {
                self.requeue(waiting.pod, snapshot, now);
            }
        }
    }

    /// The plugin no longer holds the pod back: if it did, the pod goes on.
    pub fn ungate(&mut self, uid: &PodUid, plugin: PluginName, snapshot: &Snapshot, now: Time) {
        if self.waiting.get(uid).is_some_and(|waiting| waiting.pod.gated_by == Some(plugin))
            && let Some(waiting) = self.take(uid)
        {
            self.requeue(waiting.pod, snapshot, now);
        }
    }

    /// Moves the waiting pod to active at once, whatever it waits for; only PreEnqueue plugins may
    /// still hold it back.
    pub fn activate(&mut self, uid: &PodUid, snapshot: &Snapshot, now: Time) {
        if let Some(waiting) = self.take(uid) {
            self.enqueue(waiting.pod, snapshot, now);
        }
    }

    /// Whether an event may lift what holds the pod back (`isPodWorthRequeuing`).
    pub(super) fn is_worth_requeuing(
        &self,
        pod: &QueuedPod,
        occurrence: &Occurrence,
        snapshot: &Snapshot,
    ) -> bool {
        let Some(profile) = self.profiles.of(&pod.info) else { return false };
        let hears = |plugin: &Arc<dyn Plugin>| {
            plugin.events().iter().any(|registered| registered.covers(occurrence.event))
        };
        if occurrence.event.is_wild_card() {
            return true;
        }
        // A pod that is held back stays so unless who holds it hears of the event.
        if let Some(gate) = pod.gated_by
            && !profile.plugin(gate).is_some_and(hears)
        {
            return false;
        }
        let held_by = pod.held_by();
        held_by.contains_extenders()
            || held_by.iter().filter_map(|name| profile.plugin(name)).any(|plugin| {
                hears(plugin) && plugin.hint(&pod.info, occurrence, snapshot) == Hint::Queue
            })
    }
}
