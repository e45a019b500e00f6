//! The queue as one list of pods, each with its state, looked through from end to end.

use std::cmp::Reverse;
use std::sync::Arc;

use super::Counts;
use crate::pod::{PodInfo, PodUid};

/// The two events that the model knows.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A node with so many cores.
    NodeAdded(u32),
    /// A bound pod is gone.
    PodDeleted,
    /// The pod itself asks for less.
    ShrankItself,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Active,
    Backoff { until: u64, error: bool },
    Unschedulable,
    InFlight { removed: bool },
}

#[derive(Clone, Debug)]
struct Pod {
    info: Arc<PodInfo>,
    state: State,
    queued_at: u64,
    sequence: u64,
    refusals: u32,
    errors: u32,
    /// Whether NodeResourcesFit refused it last.
    by_fit: bool,
    missed: Vec<Event>,
}

impl Pod {
    fn is_gated(&self) -> bool {
        self.info.scheduling_gates().next().is_some()
    }

    fn is_helped_by(&self, event: &Event) -> bool {
        self.by_fit
            && match event {
                Event::NodeAdded(cpu) => self.info.requests.milli_cpu <= i64::from(*cpu) * 1000,
                Event::PodDeleted | Event::ShrankItself => true,
            }
    }

    /// Seconds of back-off, then up to the end of the second it ends in.
    fn backoff_end(&self) -> u64 {
        let count = if self.errors > 0 { self.errors } else { self.refusals };
        if count == 0 {
            return 0;
        }
        let millis = (1000 * (1 << (count - 1).min(10))).min(10_000);
        ((self.queued_at + millis) / 1000 + 1) * 1000
    }

    fn requeue(&mut self, now: u64) {
        let until = self.backoff_end();
        self.state = if self.is_gated() {
            State::Unschedulable
        } else if until > now {
            State::Backoff { until, error: !self.by_fit }
        } else {
            State::Active
        };
    }
}

#[derive(Default)]
pub(super) struct Model {
    pods: Vec<Pod>,
    sequence: u64,
    checked_at: u64,
}

impl Model {
    pub(super) fn is_gated(&self, uid: &PodUid) -> Option<bool> {
        self.pods.iter().find(|pod| pod.info.uid == *uid).map(Pod::is_gated)
    }

    pub(super) fn add(&mut self, info: &Arc<PodInfo>, now: u64) {
        if let Some(pod) = self.pods.iter_mut().find(|pod| pod.info.uid == info.uid) {
            return Self::update(pod, info, now);
        }
        self.sequence += 1;
        let mut pod = Pod {
            info: Arc::clone(info),
            state: State::Active,
            queued_at: now,
            sequence: self.sequence,
            refusals: 0,
            errors: 0,
            by_fit: false,
            missed: Vec::new(),
        };
        pod.requeue(now);
        self.pods.push(pod);
    }

    fn update(pod: &mut Pod, info: &Arc<PodInfo>, now: u64) {
        let was_gated = pod.is_gated();
        let shrank = info.requests.milli_cpu < pod.info.requests.milli_cpu;
        pod.info = Arc::clone(info);
        match pod.state {
            State::InFlight { .. } if shrank => pod.missed.push(Event::ShrankItself),
            State::Unschedulable if was_gated && !pod.is_gated() => pod.requeue(now),
            State::Unschedulable if !was_gated && shrank && pod.by_fit => pod.requeue(now),
            _ => {}
        }
    }

    pub(super) fn remove(&mut self, uid: &PodUid) {
        self.pods.retain_mut(|pod| {
            if pod.info.uid != *uid {
                return true;
            }
            if let State::InFlight { removed } = &mut pod.state {
                *removed = true;
                return true;
            }
            false
        });
    }

    pub(super) fn pop(&mut self, now: u64) -> Option<PodUid> {
        self.flush(now);
        let key = |pod: &&mut Pod| (Reverse(pod.info.priority), pod.queued_at, pod.sequence);
        let active = self.pods.iter_mut().filter(|pod| pod.state == State::Active).min_by_key(key);
        let next = match active {
            Some(pod) => pod,
            None => self
                .pods
                .iter_mut()
                .filter_map(|pod| match pod.state {
                    State::Backoff { until, error: false } => Some((until, pod)),
                    _ => None,
                })
                .min_by_key(|(until, pod)| (*until, key(pod)))
                .map(|(_, pod)| pod)?,
        };
        next.state = State::InFlight { removed: false };
        next.missed.clear();
        Some(next.info.uid.clone())
    }

    pub(super) fn done(&mut self, uid: &PodUid) {
        self.pods.retain(|pod| pod.info.uid != *uid);
    }

    pub(super) fn refuse(&mut self, uid: &PodUid, by_fit: bool, now: u64) {
        let Some(at) = self.pods.iter().position(|pod| pod.info.uid == *uid) else { return };
        if self.pods[at].state == (State::InFlight { removed: true }) {
            self.pods.remove(at);
            return;
        }
        self.sequence += 1;
        let pod = &mut self.pods[at];
        pod.sequence = self.sequence;
        pod.queued_at = now;
        pod.by_fit = by_fit;
        if by_fit {
            pod.refusals += 1;
            pod.errors = 0;
        } else {
            pod.errors += 1;
        }
        pod.state = State::Unschedulable;
        let missed = std::mem::take(&mut pod.missed);
        if !by_fit || missed.iter().any(|event| pod.is_helped_by(event)) {
            pod.requeue(now);
        }
    }

    pub(super) fn wake(&mut self, event: &Event, now: u64) {
        for pod in &mut self.pods {
            match pod.state {
                State::InFlight { .. } => pod.missed.push(event.clone()),
                State::Unschedulable if !pod.is_gated() && pod.is_helped_by(event) => {
                    pod.requeue(now);
                }
                _ => {}
            }
        }
    }

    pub(super) fn flush(&mut self, now: u64) {
        let check = now - self.checked_at >= 30_000;
        if check {
            self.checked_at = now;
        }
        for pod in &mut self.pods {
            match pod.state {
                State::Backoff { until, .. } if until <= now => pod.requeue(now),
                State::Unschedulable if check && now - pod.queued_at > 300_000 => pod.requeue(now),
                _ => {}
            }
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let count = |test: &dyn Fn(&Pod) -> bool| self.pods.iter().filter(|pod| test(pod)).count();
        Counts {
            active: count(&|pod| pod.state == State::Active),
            backoff: count(&|pod| matches!(pod.state, State::Backoff { .. })),
            unschedulable: count(&|pod| pod.state == State::Unschedulable && !pod.is_gated()),
            gated: count(&|pod| pod.state == State::Unschedulable && pod.is_gated()),
        }
    }
}
