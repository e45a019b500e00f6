//! One scheduler: cache, queue and engine, and the life of a pod through them.
//!
//! Mirrors `pkg/scheduler/{schedule_one,eventhandlers}.go` without their writes: the caller feeds in
//! what it watches, asks for the next attempt, writes the binding, and says how that went.

mod gang;
mod node_change;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use rand::Rng;
use rustc_hash::FxHashMap;

use crate::cache::{Cache, Object, Snapshot};
use crate::diagnosis::Diagnosis;
use crate::engine::Engine;
use crate::framework::{
    Action, ClusterEvent, Occurrence, PluginSet, PostFilter, PostFilterContext, Preemption,
    Profile, Profiles, Rejection, Resource, Step, Subject,
};
use crate::pod::{PodInfo, PodUid, Templates};
use crate::queue::{Counts, Options, Queue, QueuedPod, scheduling_change};
use crate::time::Time;

/// Cache, queue and engine.
pub struct Scheduler {
    cache: Cache,
    queue: Queue,
    profiles: Arc<Profiles>,
    templates: Templates,
    engine: Box<dyn Engine + Send>,
    /// Assumed pods whose binding is being written.
    binding: FxHashMap<PodUid, Binding>,
    /// Pods that were decided together with one before and are yet to be handed out.
    decided: VecDeque<Attempt>,
}

/// An assumed pod and what is to be written before its binding.
struct Binding {
    pod: QueuedPod,
    steps: Vec<Step>,
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
    /// Carry out the steps, write its binding to this node, then call [`Scheduler::bound`] or
    /// [`Scheduler::binding_failed`]. Its place is taken meanwhile, and the steps are assumed.
    Bind {
        /// The node.
        node: Arc<str>,
        /// What comes before the binding, in order.
        steps: Vec<Step>,
    },
    /// Say why not; it is back in the queue.
    Unschedulable {
        /// Why not.
        diagnosis: Box<Diagnosis>,
        /// Evict these pods, then call [`Scheduler::preempted`]; write the nomination.
        preemption: Option<Box<Preemption>>,
        /// Carry these out; what they change will wake the pod.
        steps: Vec<Step>,
    },
    /// Something went wrong; say so. It is back in the queue, and backs off.
    Error(String),
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
            templates: Templates::default(),
            engine: Box::new(engine),
            binding: FxHashMap::default(),
            decided: VecDeque::new(),
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
            self.wake(event, subject, now);
        }
    }

    /// An object other than a node or a pod was added, changed or deleted.
    pub fn object_changed(&mut self, object: Object, now: Time) {
        let action = match object.sides() {
            (false, true) => Action::ADD,
            (true, true) => Action::UPDATE_OTHER,
            (true, false) => Action::DELETE,
            (false, false) => return,
        };
        self.cache.apply(&object);
        let event = ClusterEvent::new(object.resource(), action);
        self.wake(event, Subject::Object(object), now);
    }

    /// Decides about the next pod; `None` if none is ready.
    pub fn schedule_next(&mut self, now: Time, random: &mut dyn Rng) -> Option<Attempt> {
        if let Some(attempt) = self.decided.pop_front() {
            return Some(attempt);
        }
        let pod = self.queue.pop(self.cache.snapshot(), now)?;
        let profiles = Arc::clone(&self.profiles);
        let profile = profiles.of(&pod.info);
        let Some(profile) = profile.filter(|_| !pod.info.is_terminating()) else {
            self.queue.done(&pod.info.uid);
            return Some(Attempt { pod, outcome: Outcome::Skipped });
        };
        if let Some(attempt) = self.schedule_gang(profile, &pod, now, random) {
            return Some(attempt);
        }
        let snapshot = self.cache.snapshot();
        let outcome = match self.engine.decide(profile, snapshot, &pod.info, random) {
            Ok(node) => self.assume(profile, &pod, node, now),
            Err(diagnosis) => self.refuse(profile, &pod, diagnosis, now, random.next_u64()),
        };
        Some(Attempt { pod, outcome })
    }

    /// Takes the pod's place on the node, and what its volumes and claims need.
    fn assume(&mut self, profile: &Profile, pod: &QueuedPod, node: usize, now: Time) -> Outcome {
        let uid = &pod.info.uid;
        // A pod that is in the cache already was bound or assumed before: its turn is void.
        let Ok(name) = self.cache.assume_at(&pod.info, node) else {
            self.queue.done(uid);
            return Outcome::Skipped;
        };
        let mut steps = Vec::new();
        for plugin in &profile.reserve {
            let snapshot = self.cache.snapshot();
            match plugin.reserve(&pod.info, snapshot, &snapshot.nodes()[node]) {
                Ok(more) => {
                    self.cache.assume_objects(&more);
                    steps.extend(more);
                }
                Err(rejection) => {
                    self.cache.forget_objects(&steps);
                    let _ = self.cache.forget(uid);
                    let plugin = [plugin.name()].into_iter().collect();
                    return self.refuse_reservation(pod, plugin, rejection, now);
                }
            }
        }
        self.queue.done(uid);
        let binding = Binding { pod: pod.clone(), steps: steps.clone() };
        self.binding.insert(uid.clone(), binding);
        Outcome::Bind { node: name, steps }
    }

    fn refuse_reservation(
        &mut self,
        pod: &QueuedPod,
        plugins: PluginSet,
        rejection: Rejection,
        now: Time,
    ) -> Outcome {
        let diagnosis = Diagnosis::of_reservation(plugins, rejection);
        self.queue.refuse(pod.clone(), plugins, self.cache.snapshot(), now);
        let diagnosis = Box::new(diagnosis);
        Outcome::Unschedulable { diagnosis, preemption: None, steps: Vec::new() }
    }

    /// No node will have the pod: asks the PostFilter plugins for help, and puts it back.
    fn refuse(
        &mut self,
        profile: &Profile,
        pod: &QueuedPod,
        mut diagnosis: Box<Diagnosis>,
        now: Time,
        random: u64,
    ) -> Outcome {
        let snapshot = self.cache.snapshot();
        let context =
            PostFilterContext { profile, snapshot, pod: &pod.info, diagnosis: &diagnosis, random };
        let (mut messages, mut preemption, mut steps) = (Vec::new(), None, Vec::new());
        for answer in profile.post_filter.iter().filter_map(|p| p.post_filter(&context)) {
            match answer {
                PostFilter::Unhelped(message) => messages.push(message),
                PostFilter::Preempt(found) => {
                    preemption = Some(Box::new(found));
                    break;
                }
                PostFilter::Write(message, more) => {
                    messages.push(message);
                    steps = more;
                    break;
                }
            }
        }
        messages.retain(|message| !message.is_empty());
        diagnosis.post_filter_message = messages.join(", ");
        self.queue.refuse(pod.clone(), diagnosis.plugins, self.cache.snapshot(), now);
        Outcome::Unschedulable { diagnosis, preemption, steps }
    }

    /// The victims of the pod's preemption are gone or going, or could not be evicted.
    pub fn preempted(&mut self, _uid: &PodUid, _now: Time) {}

    /// The binding is written.
    pub fn bound(&mut self, uid: &PodUid) {
        self.binding.remove(uid);
        self.cache.finish_binding(uid, None);
    }

    /// The binding was refused or could not be written: the pod's place is free again, and it waits
    /// for its next turn unless it is gone or bound.
    pub fn binding_failed(&mut self, uid: &PodUid, now: Time) {
        let Some(Binding { pod, steps }) = self.binding.remove(uid) else { return };
        self.cache.forget_objects(&steps);
        if self.cache.forget(uid).is_ok() {
            self.wake_by_removed(&pod.info, now);
            self.queue.refuse(pod, PluginSet::default(), self.cache.snapshot(), now);
        }
    }

    /// The pod is bound or gone before its binding was answered. What its steps assume holds until
    /// then: they may still be written.
    fn end_binding(&mut self, uid: &PodUid) {
        if self.binding.get(uid).is_some_and(|binding| binding.steps.is_empty()) {
            self.binding.remove(uid);
        }
    }

    fn pod_seen(&mut self, old: Option<&Arc<Pod>>, pod: &Arc<Pod>, now: Time) {
        let info = Arc::new(PodInfo::shared(Arc::clone(pod), &mut self.templates));
        let is_new_member = self.cache.join_group(&info);
        if info.node_name().is_none() {
            self.pending_pod_seen(Arc::clone(&info), now);
            if is_new_member {
                let event = ClusterEvent::new(Resource::UnscheduledPod, Action::ADD);
                self.wake(event, Subject::Pod(None, Some(info)), now);
            }
            return;
        }
        self.queue.remove(&info.uid);
        self.end_binding(&info.uid);
        let was_bound = |old: &&Arc<Pod>| is_bound(old) && !is_finished(old);
        let old = old.filter(was_bound);
        let old = old.map(|old| Arc::new(PodInfo::shared(Arc::clone(old), &mut self.templates)));
        let action = match &old {
            Some(old) => scheduling_change(old, &info),
            None => Action::ADD,
        };
        self.cache.set_pod(Arc::clone(&info));
        let event = ClusterEvent::new(Resource::AssignedPod, action);
        self.wake(event, Subject::Pod(old, Some(info)), now);
    }

    fn pending_pod_seen(&mut self, info: Arc<PodInfo>, now: Time) {
        if let Some(binding) = self.binding.get_mut(&info.uid) {
            binding.pod.info = info;
        } else if self.cache.is_assumed(&info.uid) {
            // The binding is written; its event is on its way.
        } else if self.profiles.of(&info).is_some() {
            self.queue.add(info, self.cache.snapshot(), now);
        } else {
            self.queue.remove(&info.uid);
        }
    }

    fn pod_gone(&mut self, pod: &Arc<Pod>, now: Time) {
        let info = Arc::new(PodInfo::shared(Arc::clone(pod), &mut self.templates));
        self.queue.remove(&info.uid);
        self.end_binding(&info.uid);
        self.cache.leave_group(&info);
        if self.cache.remove_pod(&info.uid) {
            self.wake_by_removed(&info, now);
        }
    }

    fn wake(&mut self, event: ClusterEvent, subject: Subject, now: Time) {
        self.queue.wake(&Occurrence { event, subject }, self.cache.snapshot(), now);
    }

    fn wake_by_removed(&mut self, info: &Arc<PodInfo>, now: Time) {
        let event = ClusterEvent::new(Resource::AssignedPod, Action::DELETE);
        let subject = Subject::Pod(Some(Arc::clone(info)), None);
        self.wake(event, subject, now);
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
