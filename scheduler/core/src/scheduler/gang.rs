//! All or nothing: the pods of a gang are decided together.
//!
//! Mirrors what gang scheduling promises (KEP-4671) in the manner of upstream's later pod group
//! cycle. When a member of a gang of which fewer than `minCount` pods have a node gets its turn, all
//! waiting members are taken from the queue and decided on a copy of the cluster, one after the
//! other, each seeing those before it. If with those that have a node already at least `minCount`
//! have one then, all that have one are assumed and bound, and the others wait on their own.
//! Otherwise nothing is assumed and every member waits. So a gang never holds half of what it needs,
//! and two gangs cannot wait for each other.
//!
//! A binding that fails afterwards gives its pod's place back and is tried again; the others run on.
//! No pods are evicted for a gang that does not fit.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::sync::Arc;

use rand::Rng;

use super::{Attempt, Binding, Outcome, Scheduler};
use crate::cache::{Snapshot, WhatIf};
use crate::diagnosis::Diagnosis;
use crate::engine::{Draw, Engine};
use crate::framework::{PluginName, PluginSet, Profile, Profiles, Step};
use crate::plugins::Gang;
use crate::queue::QueuedPod;
use crate::time::Time;

/// Where a pod goes and what it takes with it, or why nowhere.
type Placement = Result<(usize, Vec<Step>), Box<Diagnosis>>;

impl Scheduler {
    /// The cluster as the next attempt finds it: without the pods that were decided together with
    /// those before it and are yet to be handed out.
    pub fn before_next(&self) -> WhatIf {
        let mut cluster = self.cache.snapshot().what_if();
        for Attempt { pod, outcome } in &self.decided {
            let Outcome::Bind { node, steps } = outcome else { continue };
            if let Some(node) = cluster.index_of(node) {
                cluster.remove(node, &pod.info.uid);
            }
            steps.iter().for_each(|step| step.forget(cluster.objects_mut()));
        }
        cluster
    }

    /// Decides about the whole gang of a popped pod; `None` if the pod is decided on its own.
    pub(super) fn schedule_gang(
        &mut self,
        profile: &Profile,
        pod: &QueuedPod,
        now: Time,
        random: &mut dyn Rng,
    ) -> Option<Attempt> {
        // Most pods are in none, and this is known without a look at the object.
        if !pod.info.signature.asks.workload {
            return None;
        }
        profile.plugin(PluginName::GangScheduling)?;
        let snapshot = self.cache.snapshot();
        let gang = match Gang::of(&pod.info, snapshot.objects()) {
            Ok(gang) => gang?,
            Err(message) => return Some(self.refuse_member(pod, message, now)),
        };
        let placed = self.placed(&gang);
        if placed >= gang.min_count {
            return None;
        }
        let members = self.pop_members(&gang, pod, now);
        let snapshot = self.cache.snapshot();
        let placements = place(self.engine.as_mut(), &self.profiles, snapshot, &members, random);
        let found = placed + placements.iter().filter(|placement| placement.is_ok()).count();
        if found >= gang.min_count {
            self.commit(members, placements, now, random);
        } else {
            self.turn_down(&gang, found, members, placements, now);
        }
        self.decided.pop_front()
    }

    /// How many of the gang's pods have a node.
    fn placed(&self, gang: &Gang) -> usize {
        let members = self.cache.snapshot().pod_groups().members(&gang.key);
        members.filter(|uid| self.cache.pod(uid).is_some()).count()
    }

    /// The popped pod and every other member that waits and is not held back, the most important
    /// and then the oldest first.
    fn pop_members(&mut self, gang: &Gang, pod: &QueuedPod, now: Time) -> Vec<QueuedPod> {
        let groups = self.cache.snapshot().pod_groups();
        let others = groups.members(&gang.key).filter(|uid| **uid != pod.info.uid);
        let others: Vec<_> = others.cloned().collect();
        let mut members = vec![pod.clone()];
        for uid in others {
            let Some(other) = self.queue.pop_this(&uid, self.cache.snapshot(), now) else {
                continue;
            };
            if other.info.is_terminating() {
                self.queue.done(&uid);
            } else {
                members.push(other);
            }
        }
        members.sort_by_key(|pod| (Reverse(pod.info.priority), pod.first_active_at));
        members
    }

    /// Takes what was found, pod by pod.
    fn commit(
        &mut self,
        members: Vec<QueuedPod>,
        placements: Vec<Placement>,
        now: Time,
        random: &mut dyn Rng,
    ) {
        let profiles = Arc::clone(&self.profiles);
        for (pod, placement) in members.into_iter().zip(placements) {
            let outcome = match (placement, profiles.of(&pod.info)) {
                (Ok((node, steps)), _) => self.take(&pod, node, steps),
                (Err(diagnosis), Some(profile)) => {
                    self.refuse(profile, &pod, diagnosis, now, random.next_u64())
                }
                (Err(_), None) => Outcome::Skipped,
            };
            self.decided.push_back(Attempt { pod, outcome });
        }
    }

    fn take(&mut self, pod: &QueuedPod, node: usize, steps: Vec<Step>) -> Outcome {
        let uid = &pod.info.uid;
        self.queue.done(uid);
        let Ok(node) = self.cache.assume_at(&pod.info, node) else { return Outcome::Skipped };
        self.cache.assume_objects(&steps);
        self.cache.end_nomination(uid);
        let binding = Binding { pod: pod.clone(), steps: steps.clone() };
        self.binding.insert(uid.clone(), binding);
        Outcome::Bind { node, steps }
    }

    /// Puts all members back. Those that have no node wait for what may help them, and wake the
    /// others; all back off as long as the one that was refused most often.
    fn turn_down(
        &mut self,
        gang: &Gang,
        found: usize,
        members: Vec<QueuedPod>,
        placements: Vec<Placement>,
        now: Time,
    ) {
        let refused = members.iter().map(|pod| pod.unschedulable_count).max().unwrap_or(0);
        for (mut pod, placement) in members.into_iter().zip(placements) {
            pod.unschedulable_count = refused;
            let mut diagnosis = match placement {
                Err(diagnosis) => diagnosis,
                Ok(_) => Box::new(Diagnosis::of_group(format!(
                    "pod group is unschedulable, minCount ({}) cannot be satisfied: {found} \
                     scheduled, 0 remaining",
                    gang.min_count
                ))),
            };
            diagnosis.plugins.insert(PluginName::GangScheduling);
            self.queue.refuse(pod.clone(), diagnosis.plugins, self.cache.snapshot(), now);
            let outcome = Outcome::unschedulable(diagnosis);
            self.decided.push_back(Attempt { pod, outcome });
        }
    }

    /// The group was there when the pod was queued and is no longer.
    fn refuse_member(&mut self, pod: &QueuedPod, message: String, now: Time) -> Attempt {
        let plugins: PluginSet = [PluginName::GangScheduling].into_iter().collect();
        self.queue.refuse(pod.clone(), plugins, self.cache.snapshot(), now);
        let diagnosis = Box::new(Diagnosis { plugins, ..Diagnosis::of_group(message) });
        let outcome = Outcome::unschedulable(diagnosis);
        Attempt { pod: pod.clone(), outcome }
    }
}

/// Decides one pod after the other, each on the cluster as those before it leave it. Nothing but
/// the copy is changed.
fn place(
    engine: &mut dyn Engine,
    profiles: &Profiles,
    snapshot: &Snapshot,
    members: &[QueuedPod],
    random: &mut dyn Rng,
) -> Vec<Placement> {
    let mut cluster = snapshot.what_if();
    let mut placements = Vec::with_capacity(members.len());
    for QueuedPod { info, .. } in members {
        let Some(profile) = profiles.of(info) else {
            placements.push(Err(Box::default()));
            continue;
        };
        let placement =
            engine.decide(profile, &cluster, info, Draw::new(random)).and_then(|node| {
                cluster.add(node, Arc::clone(info));
                let mut steps = Vec::new();
                for plugin in &profile.reserve {
                    match plugin.reserve(info, &cluster, &cluster.nodes()[node]) {
                        Ok(more) => {
                            more.iter().for_each(|step| step.assume(cluster.objects_mut()));
                            steps.extend(more);
                        }
                        Err(rejection) => {
                            steps.iter().for_each(|step: &Step| step.forget(cluster.objects_mut()));
                            cluster.remove(node, &info.uid);
                            let plugins = [plugin.name()].into_iter().collect();
                            return Err(Box::new(Diagnosis::of_reservation(plugins, rejection)));
                        }
                    }
                }
                Ok((node, steps))
            });
        placements.push(placement);
    }
    placements
}
