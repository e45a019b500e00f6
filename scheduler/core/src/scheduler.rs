//! One scheduler: cache, queue and engine, and the life of a pod through them.
//!
//! Mirrors `pkg/scheduler/{schedule_one,eventhandlers}.go` without their writes: the caller feeds in
//! what it watches, asks for the next attempt, writes the binding, and says how that went.

mod batch;
mod bindings;
mod gang;
mod node_change;
mod statistics;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use rand::Rng;

use crate::cache::{Cache, Object, Snapshot};
use crate::diagnosis::Diagnosis;
use crate::engine::{Draw, Engine};
use crate::framework::{
    Action, ClusterEvent, Code, Help, Nomination, Occurrence, PluginName, PluginSet,
    PostFilterContext, Preemption, Profile, Profiles, Rejection, Resource, Step, Subject,
};
use crate::pod::{PodInfo, PodUid, Templates};
use crate::queue::{Counts, Options, Queue, QueuedPod, scheduling_change};
use crate::time::Time;

use batch::Batches;
pub use batch::{ATTEMPTS_OF_ONE, BatchCounts};
use bindings::{Binding, Bindings};
pub use statistics::Statistics;

/// Cache, queue and engine.
pub struct Scheduler {
    cache: Cache,
    queue: Queue,
    profiles: Arc<Profiles>,
    templates: Templates,
    engine: Box<dyn Engine + Send>,
    /// Assumed pods whose binding is being written.
    binding: Bindings,
    /// Pods that were decided together with one before and are yet to be handed out.
    decided: VecDeque<Attempt>,
    batches: Batches,
}

/// The name of the node that a pod is assumed on, and what comes before its binding.
type Reserved = (Arc<str>, Vec<Step>);

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
        /// Evict these pods, then call [`Scheduler::preempted`].
        preemption: Option<Box<Preemption>>,
        /// Whether preemption was tried at all.
        tried_preemption: bool,
        /// What to write to `status.nominatedNodeName`.
        nomination: Nomination,
        /// Carry these out; what they change will wake the pod.
        steps: Vec<Step>,
    },
    /// Something went wrong; say so, and remove `status.nominatedNodeName`. It is back in the
    /// queue, and backs off.
    Error(String),
    /// Nothing: it is being deleted, and no longer in the queue.
    Skipped,
}

impl Outcome {
    /// No node, and no help: the pod loses its nomination.
    fn unschedulable(diagnosis: Box<Diagnosis>) -> Self {
        Self::Unschedulable {
            diagnosis,
            preemption: None,
            tried_preemption: false,
            nomination: Nomination::Clear,
            steps: Vec::new(),
        }
    }
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
            binding: Bindings::default(),
            decided: VecDeque::new(),
            batches: Batches::default(),
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
            self.pod_changed(old, None, now);
            return self.pod_changed(None, new, now);
        }
        match (old, new) {
            (_, Some(pod)) if !is_finished(pod) => {
                // Of another one nothing is asked for.
                let old = old.filter(|it| is_bound(it) || nominated_node(it).is_some());
                let old = old.filter(|it| !is_finished(it)).map(|it| self.info(it));
                let new = PodInfo::shared(Arc::clone(pod), &mut self.templates);
                self.pod_seen(old.map(Arc::new).as_ref(), new, now);
            }
            (_, Some(pod)) | (Some(pod), None) => {
                let info = match self.cache.pod(&PodUid::of(pod)) {
                    Some(known) => Arc::clone(known),
                    None => Arc::new(self.info(pod)),
                };
                self.pod_gone(&info, now);
            }
            (None, None) => {}
        }
    }

    /// The same of pods that have been read already, none of them finished.
    pub fn pod_info_changed(
        &mut self,
        old: Option<&Arc<PodInfo>>,
        new: Option<&Arc<PodInfo>>,
        now: Time,
    ) {
        match (old, new) {
            (Some(before), Some(after)) if before.uid != after.uid => {
                self.pod_gone(before, now);
                self.pod_seen(None, PodInfo::clone(after), now);
            }
            (_, Some(pod)) => self.pod_seen(old, PodInfo::clone(pod), now),
            (Some(pod), None) => self.pod_gone(pod, now),
            (None, None) => {}
        }
    }

    fn info(&mut self, pod: &Arc<Pod>) -> PodInfo {
        PodInfo::shared(Arc::clone(pod), &mut self.templates)
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
        let outcome = match self.engine.decide(profile, snapshot, &pod.info, Draw::new(random)) {
            Ok(node) => self.assume(profile, &pod, node, now),
            Err(diagnosis) => self.refuse(profile, &pod, diagnosis, now, random.next_u64()),
        };
        Some(Attempt { pod, outcome })
    }

    /// Takes the pod's place on the node, and what its volumes and claims need.
    fn assume(&mut self, profile: &Profile, pod: &QueuedPod, node: usize, now: Time) -> Outcome {
        match self.reserve(profile, &pod.info, node) {
            Ok((node, steps)) => self.bind(pod, node, steps),
            Err(Some((plugin, rejection))) => self.refuse_reservation(pod, plugin, rejection, now),
            Err(None) => {
                self.queue.done(&pod.info.uid);
                Outcome::Skipped
            }
        }
    }

    /// Assumes the pod on the node in this row, and what its volumes and claims need there. Says which
    /// plugin refuses; none does if the pod is on a node already, bound or assumed before: then its turn
    /// is void.
    fn reserve(
        &mut self,
        profile: &Profile,
        info: &Arc<PodInfo>,
        row: usize,
    ) -> Result<Reserved, Option<(PluginName, Rejection)>> {
        let Ok(name) = self.cache.assume_at(info, row) else { return Err(None) };
        let mut steps = Vec::new();
        for plugin in &profile.reserve {
            let snapshot = self.cache.snapshot();
            match plugin.reserve(info, snapshot, &snapshot.nodes()[row]) {
                Ok(more) => {
                    self.cache.assume_objects(&more);
                    steps.extend(more);
                }
                Err(rejection) => {
                    self.cache.forget_objects(&steps);
                    let _ = self.cache.forget(&info.uid);
                    return Err(Some((plugin.name(), rejection)));
                }
            }
        }
        Ok((name, steps))
    }

    /// The assumed pod is to be bound.
    fn bind(&mut self, pod: &QueuedPod, node: Arc<str>, steps: Vec<Step>) -> Outcome {
        let uid = &pod.info.uid;
        self.queue.done(uid);
        self.cache.end_nomination(uid);
        let binding = Binding { pod: pod.clone(), steps: steps.clone() };
        self.binding.insert(binding);
        Outcome::Bind { node, steps }
    }

    fn refuse_reservation(
        &mut self,
        pod: &QueuedPod,
        plugin: PluginName,
        rejection: Rejection,
        now: Time,
    ) -> Outcome {
        if rejection.code() == Code::Error {
            self.put_back(pod, PluginSet::default(), &Nomination::Clear, now);
            let message = rejection.message();
            return Outcome::Error(format!("running Reserve plugin \"{plugin}\": {message}"));
        }
        let plugins = [plugin].into_iter().collect();
        let diagnosis = Diagnosis::of_reservation(plugins, rejection);
        self.put_back(pod, plugins, &Nomination::Clear, now);
        Outcome::unschedulable(Box::new(diagnosis))
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
        if let Some(error) = diagnosis.error.take() {
            self.put_back(pod, PluginSet::default(), &Nomination::Clear, now);
            return Outcome::Error(error);
        }
        let help = if diagnosis.node_count == 0 || profile.post_filter.is_empty() {
            Help { nomination: Nomination::Clear, ..Help::default() }
        } else {
            let (snapshot, diagnosis) = (self.cache.snapshot(), &*diagnosis);
            let context =
                PostFilterContext { profile, snapshot, pod: &pod.info, diagnosis, random };
            context.ask(&mut *self.engine)
        };
        diagnosis.post_filter_message = help.message;
        if let Some(preemption) = &help.preemption {
            self.cache.set_preempting(&pod.info.uid, true);
            for outranked in &preemption.outranked {
                self.cache.end_nomination(&outranked.uid);
            }
        }
        self.put_back(pod, diagnosis.plugins, &help.nomination, now);
        Outcome::Unschedulable {
            diagnosis,
            preemption: help.preemption,
            tried_preemption: help.tried_preemption,
            nomination: help.nomination,
            steps: help.steps,
        }
    }

    /// Puts a popped pod back into the queue, nominated as told.
    fn put_back(
        &mut self,
        pod: &QueuedPod,
        plugins: PluginSet,
        nomination: &Nomination,
        now: Time,
    ) {
        let uid = &pod.info.uid;
        self.queue.refuse(pod.clone(), plugins, self.cache.snapshot(), now);
        let Some(waiting) = self.queue.get(uid) else { return };
        match nomination {
            Nomination::Keep => {}
            Nomination::Clear => {
                self.cache.end_nomination(uid);
            }
            Nomination::Set(node) => self.cache.nominate(&waiting.info, node),
        }
    }

    /// The pod's victims are being deleted, or (`succeeded` is false) some could not be: then it is
    /// tried again at once. Until this call it is kept out of the active queue.
    pub fn preempted(&mut self, uid: &PodUid, succeeded: bool, now: Time) {
        self.cache.set_preempting(uid, false);
        let snapshot = self.cache.snapshot();
        if succeeded {
            self.queue.ungate(uid, PluginName::DefaultPreemption, snapshot, now);
        } else {
            self.queue.activate(uid, snapshot, now);
        }
    }

    /// The binding is written. The pod stays assumed until it is seen bound, however long that takes.
    pub fn bound(&mut self, uid: &PodUid) {
        self.binding.remove(uid);
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

    fn pod_seen(&mut self, old: Option<&Arc<PodInfo>>, info: PodInfo, now: Time) {
        let is_new_member = self.cache.join_group(&info);
        if info.node_name().is_none() {
            let info = self.pending_pod_seen(old, info, now);
            if is_new_member {
                let event = ClusterEvent::new(Resource::UnscheduledPod, Action::ADD);
                self.wake(event, Subject::Pod(None, Some(info)), now);
            }
            return;
        }
        let info = Arc::new(info);
        self.queue.remove(&info.uid);
        self.end_binding(&info.uid);
        self.cache.end_nomination(&info.uid);
        self.cache.set_preempting(&info.uid, false);
        let old = old.filter(|old| old.node_name().is_some()).cloned();
        let action = match &old {
            Some(old) => scheduling_change(old, &info),
            None => Action::ADD,
        };
        self.cache.set_pod(Arc::clone(&info));
        let event = ClusterEvent::new(Resource::AssignedPod, action);
        self.wake(event, Subject::Pod(old, Some(info)), now);
    }

    fn pending_pod_seen(
        &mut self,
        old: Option<&Arc<PodInfo>>,
        info: PodInfo,
        now: Time,
    ) -> Arc<PodInfo> {
        if self.profiles.of(&info).is_none() {
            self.cache.end_nomination(&info.uid);
            self.queue.remove(&info.uid);
            return Arc::new(info);
        }
        let info = self.cache.admit(info);
        if let Some(binding) = self.binding.get_mut(&info.uid) {
            binding.pod.info = Arc::clone(&info);
        } else if self.cache.is_assumed(&info.uid) {
            // The binding is written; its event is on its way.
        } else {
            self.follow_nomination(old, &info, now);
            self.queue.add(Arc::clone(&info), self.cache.snapshot(), now);
        }
        info
    }

    /// Takes over what the pod's status tells of its nomination. Where it tells nothing new, what
    /// was decided here and is not written yet stays.
    fn follow_nomination(&mut self, old: Option<&Arc<PodInfo>>, info: &Arc<PodInfo>, now: Time) {
        let before = old.and_then(|old| old.nominated_node());
        let after = info.nominated_node();
        let known = self.cache.snapshot().nomination_of(&info.uid).cloned();
        let node = if before == after { known.as_deref() } else { after };
        match node {
            Some(node) => self.cache.nominate(info, node),
            None => {
                self.cache.end_nomination(&info.uid);
            }
        }
        if let Some(old) = old
            && before.is_some()
            && before != after
        {
            self.wake_by_nomination_lost(old, now);
        }
    }

    /// Pods that had to yield to the pod may now have its place.
    fn wake_by_nomination_lost(&mut self, info: &Arc<PodInfo>, now: Time) {
        let event = ClusterEvent::new(Resource::AssignedPod, Action::DELETE);
        let priority_max = info.priority;
        let occurrence = Occurrence { event, subject: Subject::Pod(Some(Arc::clone(info)), None) };
        self.queue.wake_up_to(priority_max, &occurrence, self.cache.snapshot(), now);
    }

    fn pod_gone(&mut self, pod: &Arc<PodInfo>, now: Time) {
        // What is there is what goes.
        let info = Arc::clone(self.cache.pod(&pod.uid).unwrap_or(pod));
        self.queue.remove(&info.uid);
        self.end_binding(&info.uid);
        self.cache.leave_group(&info);
        self.cache.set_preempting(&info.uid, false);
        let was_nominated = self.cache.end_nomination(&info.uid).is_some();
        if self.cache.remove_pod(&info.uid) {
            self.wake_by_removed(&info, now);
        } else if was_nominated {
            self.wake_by_nomination_lost(pod, now);
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

/// `status.nominatedNodeName`.
fn nominated_node(pod: &Pod) -> Option<&str> {
    let name = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
    name.filter(|name| !name.is_empty())
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
