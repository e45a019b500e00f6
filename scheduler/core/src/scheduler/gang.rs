//! All or nothing: the pods of a gang are decided together.
//!
//! Mirrors what gang scheduling promises (KEP-4671) in the manner of upstream's later pod group
//! cycle. When a member of a gang of which fewer than `minCount` pods have a node gets its turn, all
//! waiting members are taken from the queue and decided about one after the other, each assumed on
//! its node before the next. If with those that have a node already at least `minCount` have one then,
//! these are bound, and the others wait on their own. Otherwise all of them are forgotten again before
//! anybody else looks, and every member waits. So a gang never holds half of what it needs, and two
//! gangs cannot wait for each other.
//!
//! A binding that fails afterwards gives its pod's place back and is tried again; the others run on.
//! No pods are evicted for a gang that does not fit.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::sync::Arc;

use rand::Rng;

use super::{Attempt, Outcome, Reserved, Scheduler};
use crate::cache::WhatIf;
use crate::diagnosis::Diagnosis;
use crate::engine::Draw;
use crate::framework::{PluginName, PluginSet, Profile};
use crate::plugins::Gang;
use crate::queue::QueuedPod;
use crate::time::Time;

/// Where a pod is assumed and what it takes with it, or why nowhere.
type Placement = Result<Reserved, Box<Diagnosis>>;

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
        if placed >= gang.min_count || self.cache.pod(&pod.info.uid).is_some() {
            return None;
        }
        let members = self.pop_members(&gang, pod, now);
        let placements = self.place(&members, random);
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
            if other.info.is_terminating() || self.cache.pod(&uid).is_some() {
                self.queue.done(&uid);
            } else {
                members.push(other);
            }
        }
        members.sort_by_key(|pod| (Reverse(pod.info.priority), pod.first_active_at));
        members
    }

    /// Decides about one pod after the other, each with those before it on their nodes.
    fn place(&mut self, members: &[QueuedPod], random: &mut dyn Rng) -> Vec<Placement> {
        let profiles = Arc::clone(&self.profiles);
        let mut placements = Vec::with_capacity(members.len());
        for QueuedPod { info, .. } in members {
            let Some(profile) = profiles.of(info) else {
                placements.push(Err(Box::default()));
                continue;
            };
            let snapshot = self.cache.snapshot();
            let placement = match self.engine.decide(profile, snapshot, info, Draw::new(random)) {
                Ok(row) => self.reserve(profile, info, row).map_err(|refusal| {
                    Box::new(match refusal {
                        Some((plugin, rejection)) => {
                            let plugins = [plugin].into_iter().collect();
                            Diagnosis::of_reservation(plugins, rejection)
                        }
                        None => Diagnosis::of_group("it has a node already".to_owned()),
                    })
                }),
                Err(diagnosis) => Err(diagnosis),
            };
            placements.push(placement);
        }
        placements
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
                (Ok((node, steps)), _) => self.bind(&pod, node, steps),
                (Err(diagnosis), Some(profile)) => {
                    self.refuse(profile, &pod, diagnosis, now, random.next_u64())
                }
                (Err(_), None) => Outcome::Skipped,
            };
            self.decided.push_back(Attempt { pod, outcome });
        }
    }

    /// Gives back what was found and puts all members back. Those that have no node wait for what may help them, and wake the
    /// others; all back off as long as the one that was refused most often.
    fn turn_down(
        &mut self,
        gang: &Gang,
        found: usize,
        members: Vec<QueuedPod>,
        placements: Vec<Placement>,
        now: Time,
    ) {
        for (pod, placement) in members.iter().zip(&placements).rev() {
            if let Ok((_, steps)) = placement {
                self.cache.forget_objects(steps);
                let _ = self.cache.forget(&pod.info.uid);
            }
        }
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
