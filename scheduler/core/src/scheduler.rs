//! One scheduler: cache, queue and engine, and the life of a pod through them.
//!
//! Mirrors `pkg/scheduler/{schedule_one,eventhandlers}.go` without their writes: the caller feeds in
//! what it watches, asks for the next attempt, writes the binding, and says how that went.

mod node_change;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use rand::Rng;
use rustc_hash::FxHashMap;

use crate::cache::{Cache, Snapshot};
use crate::diagnosis::Diagnosis;
use crate::engine::Engine;
use crate::framework::{Action, ClusterEvent, Occurrence, PluginSet, Profiles, Resource, Subject};
use crate::pod::{PodInfo, PodUid};
use crate::queue::{Counts, Options, Queue, QueuedPod, scheduling_change};
use crate::time::Time;

/// Cache, queue and engine.
pub struct Scheduler {
    cache: Cache,
    queue: Queue,
    profiles: Arc<Profiles>,
    engine: Box<dyn Engine + Send>,
    /// Assumed pods whose binding is being written.
    binding: FxHashMap<PodUid, QueuedPod>,
}

/// What became of one pod's turn.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The pod, as it was popped.
    pub pod: QueuedPod,
    /// What to do about it.
    pub outcome: Outcome,
}

/// What to do about a pod.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Write its binding to this node, then call [`Scheduler::bound`] or
    /// [`Scheduler::binding_failed`]. Its place is taken meanwhile.
    Bind(Arc<str>),
    /// Say why not; it is back in the queue.
    Unschedulable(Box<Diagnosis>),
    /// Nothing: it is being deleted, and no longer in the queue.
    Skipped,
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("nodes", &self.cache.snapshot().nodes().len())
            .field("pods", &self.cache.pod_count())
            .field("queue", &self.queue.counts())
            .field("binding", &self.binding.len())
            .finish_non_exhaustive()
    }
}

impl Scheduler {
    /// A scheduler that knows of nothing yet.
    pub fn new(
        profiles: Arc<Profiles>,
        options: Options,
        engine: impl Engine + Send + 'static,
    ) -> Self {
        Self {
            cache: Cache::default(),
            queue: Queue::new(options, Arc::clone(&profiles)),
            profiles,
            engine: Box::new(engine),
            binding: FxHashMap::default(),
        }
    }

    /// The nodes as decisions read them.
    pub fn snapshot(&self) -> &Snapshot {
        self.cache.snapshot()
    }

    /// How many pods wait, and where.
    pub fn counts(&self) -> Counts {
        self.queue.counts()
    }

    /// How many bindings are being written.
    pub fn binding_count(&self) -> usize {
        self.binding.len()
    }

    /// When to ask for the next attempt even if nothing happens; `None` if only an event can help.
    pub fn next_flush(&self) -> Option<Time> {
        self.queue.next_flush()
    }

    /// A pod was added (`old` is missing), changed, or deleted (`new` is missing).
    pub fn pod_changed(&mut self, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>, now: Time) {
        let uid = |pod: &Arc<Pod>| pod.metadata.uid.clone();
        if let (Some(before), Some(after)) = (old, new)
            && uid(before) != uid(after)
        {
            // Deleted and created again under its name, unseen.
            self.pod_gone(before, now);
            return self.pod_changed(None, new, now);
        }
        match (old, new) {
            (_, Some(pod)) if !is_finished(pod) => self.pod_seen(old, pod, now),
            (_, Some(pod)) | (Some(pod), None) => self.pod_gone(pod, now),
            (None, None) => {}
        }
    }

    /// A node was added (`old` is missing), changed, or deleted (`new` is missing).
    pub fn node_changed(&mut self, old: Option<&Arc<Node>>, new: Option<&Arc<Node>>, now: Time) {
        let action = match (old, new) {
            (None, Some(_)) => Action::ADD,
            (Some(old), Some(new)) => node_change::scheduling_change(old, new),
            (Some(_), None) => Action::DELETE,
            (None, None) => return,
        };
        match (old, new) {
            (_, Some(node)) => self.cache.set_node(Arc::clone(node)),
            (Some(node), None) => {
                self.cache.remove_node(node.metadata.name.as_deref().unwrap_or_default());
            }
            (None, None) => {}
        }
        if !action.is_empty() {
            let event = ClusterEvent::new(Resource::Node, action);
            let subject = Subject::Node(old.cloned(), new.cloned());
            self.queue.wake(&Occurrence { event, subject }, now);
        }
    }

    /// Decides about the next pod; `None` if none is ready.
    pub fn schedule_next(&mut self, now: Time, random: &mut dyn Rng) -> Option<Attempt> {
        let pod = self.queue.pop(now)?;
        let uid = &pod.info.uid;
        let profile = self.profiles.of(&pod.info);
        let Some(profile) = profile.filter(|_| !pod.info.is_terminating()) else {
            self.queue.done(uid);
            return Some(Attempt { pod, outcome: Outcome::Skipped });
        };
        let snapshot = self.cache.snapshot();
        let outcome = match self.engine.decide(profile, snapshot, &pod.info, random) {
            Ok(node) => self.assume(&pod, node),
            Err(diagnosis) => {
                self.queue.refuse(pod.clone(), diagnosis.plugins, now);
                Outcome::Unschedulable(diagnosis)
            }
        };
        Some(Attempt { pod, outcome })
    }

    fn assume(&mut self, pod: &QueuedPod, node: usize) -> Outcome {
        let name = Arc::clone(self.cache.snapshot().nodes()[node].name());
        self.queue.done(&pod.info.uid);
        // A pod that is in the cache already was bound or assumed before: its turn is void.
        if self.cache.assume(&pod.info, &name).is_err() {
            return Outcome::Skipped;
        }
        self.binding.insert(pod.info.uid.clone(), pod.clone());
        Outcome::Bind(name)
    }

    /// The binding is written.
    pub fn bound(&mut self, uid: &PodUid) {
        self.binding.remove(uid);
        self.cache.finish_binding(uid, None);
    }

    /// The binding was refused or could not be written: the pod's place is free again, and it waits
    /// for its next turn unless it is gone or bound.
    pub fn binding_failed(&mut self, uid: &PodUid, now: Time) {
        let Some(pod) = self.binding.remove(uid) else { return };
        if self.cache.forget(uid).is_ok() {
            self.wake_by_removed(&pod.info, now);
            self.queue.refuse(pod, PluginSet::default(), now);
        }
    }

    fn pod_seen(&mut self, old: Option<&Arc<Pod>>, pod: &Arc<Pod>, now: Time) {
        let info = Arc::new(PodInfo::new(Arc::clone(pod)));
        if info.node_name().is_none() {
            return self.pending_pod_seen(info, now);
        }
        self.queue.remove(&info.uid);
        self.binding.remove(&info.uid);
        let was_bound = |old: &&Arc<Pod>| is_bound(old) && !is_finished(old);
        let old = old.filter(was_bound).map(|old| Arc::new(PodInfo::new(Arc::clone(old))));
        let action = match &old {
            Some(old) => scheduling_change(old, &info),
            None => Action::ADD,
        };
        self.cache.set_pod(Arc::clone(&info));
        let event = ClusterEvent::new(Resource::AssignedPod, action);
        self.queue.wake(&Occurrence { event, subject: Subject::Pod(old, Some(info)) }, now);
    }

    fn pending_pod_seen(&mut self, info: Arc<PodInfo>, now: Time) {
        if let Some(pod) = self.binding.get_mut(&info.uid) {
            pod.info = info;
        } else if self.cache.is_assumed(&info.uid) {
            // The binding is written; its event is on its way.
        } else if self.profiles.of(&info).is_some() {
            self.queue.add(info, now);
        } else {
            self.queue.remove(&info.uid);
        }
    }

    fn pod_gone(&mut self, pod: &Arc<Pod>, now: Time) {
        let info = Arc::new(PodInfo::new(Arc::clone(pod)));
        self.queue.remove(&info.uid);
        self.binding.remove(&info.uid);
        if self.cache.remove_pod(&info.uid) {
            self.wake_by_removed(&info, now);
        }
    }

    fn wake_by_removed(&mut self, info: &Arc<PodInfo>, now: Time) {
        let event = ClusterEvent::new(Resource::AssignedPod, Action::DELETE);
        let subject = Subject::Pod(Some(Arc::clone(info)), None);
        self.queue.wake(&Occurrence { event, subject }, now);
    }
}

fn is_bound(pod: &Pod) -> bool {
    let name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    name.is_some_and(|name| !name.is_empty())
}

/// Whether the pod has ended and takes nothing of its node any more.
fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
