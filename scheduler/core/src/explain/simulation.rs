//! Pending pods, scheduled one after the other as production would, and each decision explained.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::{Cluster, Explanation, Pending, explain, name_of};
use crate::cache::Snapshot;
use crate::engine::{Draw, Engine as _, Scan};
use crate::framework::{Help, PostFilterContext, Profile, Profiles};
use crate::pod::{PodInfo, PodUid};
use crate::preemption::DryRun;
use crate::queue::Options;
use crate::scheduler::{Attempt, Outcome, Scheduler};
use crate::time::Time;

/// A scheduler over the objects of files. One seed, one outcome.
#[derive(Debug)]
pub struct Simulation {
    scheduler: Scheduler,
    profiles: Arc<Profiles>,
    random: SmallRng,
    /// Pods without a node, oldest first; those created at the same time as they were read.
    pending: Vec<Pending>,
}

impl Simulation {
    /// The cluster as it stands, its pending pods in the queue.
    pub fn new(profiles: Arc<Profiles>, cluster: &Cluster, seed: u64) -> Self {
        let mut scheduler =
            Scheduler::new(Arc::clone(&profiles), Options::default(), Scan::default());
        for node in cluster.nodes() {
            scheduler.node_changed(None, Some(node), START);
        }
        for object in cluster.others() {
            scheduler.object_changed(object.clone(), START);
        }
        let (bound, mut waiting): (Vec<_>, Vec<_>) =
            cluster.pods().iter().partition(|pod| is_bound(pod));
        waiting.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
        for pod in bound.into_iter().chain(waiting.iter().copied()) {
            scheduler.pod_changed(None, Some(pod), START);
        }
        let pending = waiting.into_iter().filter(|pod| !is_finished(pod));
        let pending = pending.map(|pod| Arc::new(PodInfo::new(Arc::clone(pod)))).collect();
        Self { scheduler, profiles, random: SmallRng::seed_from_u64(seed), pending }
    }

    /// Gives every pending pod its turn, in queue order, each placed before the next one's. Pods
    /// that get no turn (gated, being deleted, another scheduler's) come last.
    pub fn run(mut self) -> Vec<Explanation> {
        let mut explanations = Vec::new();
        let mut seen: BTreeSet<PodUid> = BTreeSet::new();
        loop {
            let before = self.scheduler.before_next();
            let Some(attempt) = self.scheduler.schedule_next(START, &mut self.random) else {
                break;
            };
            if !seen.insert(attempt.pod.info.uid.clone()) {
                // Nothing has happened since its first turn but placements.
                break;
            }
            explanations.push(self.told(&before, attempt));
        }
        let left = self.pending.iter().filter(|pod| !seen.contains(&pod.uid));
        explanations.extend(left.map(|pod| self.without_turn(pod)));
        explanations
    }

    /// One pod against the cluster as it stands, before any other gets its turn. It need not be
    /// pending; if it has a node, take it from there first.
    pub fn explain(&mut self, pod: &Arc<PodInfo>) -> Explanation {
        let profiles = Arc::clone(&self.profiles);
        let Some(profile) = profiles.of(pod) else { return self.without_turn(pod) };
        let snapshot = self.scheduler.snapshot();
        let gate = self.gated_by(profile, pod);
        let explanation = explain(profile, snapshot, pod);
        if !gate.is_empty() {
            return Explanation { message: gate, ..explanation };
        }
        match Scan::default().decide(profile, snapshot, pod, Draw::new(&mut self.random)) {
            Ok(node) => {
                let node = Some(snapshot.nodes()[node].name().to_string());
                Explanation { node, ..explanation }
            }
            Err(diagnosis) => {
                let random = self.random.next_u64();
                let diagnosis = &diagnosis;
                let context = PostFilterContext { profile, snapshot, pod, diagnosis, random };
                helped(explanation, &context)
            }
        }
    }

    fn told(&self, before: &Snapshot, attempt: Attempt) -> Explanation {
        let pod = &attempt.pod.info;
        let Some(profile) = self.profiles.of(pod) else { return self.without_turn(pod) };
        let explanation = explain(profile, before, pod);
        match attempt.outcome {
            Outcome::Bind { node, .. } => {
                Explanation { node: Some(node.to_string()), ..explanation }
            }
            Outcome::Unschedulable { diagnosis, preemption, .. } => {
                let victims = preemption.iter().flat_map(|preemption| &preemption.victims);
                let nominated = preemption.as_ref().map(|preemption| preemption.node.to_string());
                Explanation {
                    message: diagnosis.to_string(),
                    victims: victims.map(|victim| name_of(victim)).collect(),
                    nominated,
                    ..explanation
                }
            }
            Outcome::Error(message) => Explanation { message, ..explanation },
            Outcome::Skipped => self.without_turn(pod),
        }
    }

    /// A pod that the queue does not give out.
    fn without_turn(&self, pod: &PodInfo) -> Explanation {
        let message = match self.profiles.of(pod) {
            None => format!("profile not found for scheduler name {:?}", pod.scheduler_name()),
            Some(_) if pod.is_terminating() => {
                format!("skip schedule deleting pod: {}", name_of(pod))
            }
            Some(profile) => self.gated_by(profile, pod),
        };
        Explanation { message, ..Explanation::of(pod) }
    }

    fn gated_by(&self, profile: &Profile, pod: &PodInfo) -> String {
        let snapshot = self.scheduler.snapshot();
        let plugins = profile.pre_enqueue.iter();
        let gates = plugins.filter_map(|plugin| plugin.pre_enqueue(pod, snapshot).err());
        gates.map(|rejection| rejection.message()).next().unwrap_or_default()
    }
}

/// Asks PostFilter plugins for help, as the scheduler does for a pod that no node will have.
fn helped(explanation: Explanation, context: &PostFilterContext<'_>) -> Explanation {
    let is_hopeless = context.diagnosis.error.is_some() || context.diagnosis.node_count == 0;
    let help = if is_hopeless { Help::default() } else { context.ask(&mut DryRun) };
    let victims = help.preemption.iter().flat_map(|found| &found.victims);
    let mut diagnosis = context.diagnosis.clone();
    diagnosis.post_filter_message = help.message;
    Explanation {
        message: diagnosis.to_string(),
        victims: victims.map(|victim| name_of(victim)).collect(),
        nominated: help.preemption.map(|found| found.node.to_string()),
        ..explanation
    }
}

fn is_bound(pod: &Pod) -> bool {
    let name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    name.is_some_and(|name| !name.is_empty())
}

fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// A simulation's clock stands still.
const START: Time = Time::from_millis(0);
