//! What happened while pods were being scheduled.
//!
//! One log of events; each pod in flight remembers where in it it started. The log is cut behind the
//! pod that started first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::pod_change::scheduling_change;
use crate::framework::{ClusterEvent, Occurrence, Resource, Subject};
use crate::pod::{PodInfo, PodUid};

/// More events than this are not kept: every pod in flight is then tried again when it is refused.
/// At a thousand events a second this is far longer than a pod is in flight.
const EVENTS_MAX: usize = 10_000;

/// The pods in flight and the events since the first of them started.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// The one that started last: most are decided about before anything else happens.
    last: Option<Flight>,
    /// The others.
    pods: FxHashMap<PodUid, Flight>,
    /// How many of them started at each position.
    starts: BTreeMap<u64, usize>,
    events: VecDeque<Occurrence>,
    /// The position of the first of `events`.
    first: u64,
}

#[derive(Debug)]
struct Flight {
    start: u64,
    latest: Arc<PodInfo>,
    /// The changes of the pod itself.
    own: Vec<Occurrence>,
    removed: bool,
}

/// What a pod missed.
pub(super) struct Finished {
    /// The pod as last seen.
    pub(super) latest: Arc<PodInfo>,
    /// Whether it is gone.
    pub(super) removed: bool,
    /// The events since it started.
    pub(super) events: Events,
}

/// Events since a pod started.
pub(super) enum Events {
    /// All of them.
    Known(Vec<Occurrence>),
    /// There were too many to keep.
    Lost,
}

impl InFlight {
    pub(super) fn contains(&self, uid: &PodUid) -> bool {
        self.is_last(uid) || self.pods.contains_key(uid)
    }

    fn is_last(&self, uid: &PodUid) -> bool {
        self.last.as_ref().is_some_and(|flight| flight.latest.uid == *uid)
    }

    fn get_mut(&mut self, uid: &PodUid) -> Option<&mut Flight> {
        if self.is_last(uid) { self.last.as_mut() } else { self.pods.get_mut(uid) }
    }

    pub(super) fn start(&mut self, info: &Arc<PodInfo>) {
        let start = self.first + self.events.len() as u64;
        let latest = Arc::clone(info);
        let flight = Flight { start, latest, own: Vec::new(), removed: false };
        if let Some(before) = self.last.replace(flight) {
            *self.starts.entry(before.start).or_default() += 1;
            self.pods.insert(before.latest.uid.clone(), before);
        }
    }

    /// Keeps the event if a pod is in flight.
    pub(super) fn record(&mut self, occurrence: &Occurrence) {
        if self.pods.is_empty() && self.last.is_none() {
            return;
        }
        self.events.push_back(occurrence.clone());
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
            self.first += 1;
        }
    }

    /// The pod itself changed; returns whether it is in flight.
    pub(super) fn update(&mut self, info: &Arc<PodInfo>) -> bool {
        let Some(flight) = self.get_mut(&info.uid) else { return false };
        let old = std::mem::replace(&mut flight.latest, Arc::clone(info));
        let event = ClusterEvent::new(Resource::TargetPod, scheduling_change(&old, info));
        let subject = Subject::Pod(Some(old), Some(Arc::clone(info)));
        if flight.own.len() < EVENTS_MAX {
            flight.own.push(Occurrence { event, subject });
        }
        true
    }

    pub(super) fn remove(&mut self, uid: &PodUid) {
        if let Some(flight) = self.get_mut(uid) {
            flight.removed = true;
        }
    }

    /// The pod is no longer in flight; `None` if it was not.
    pub(super) fn finish(&mut self, uid: &PodUid) -> Option<Finished> {
        let was_last = self.is_last(uid);
        let flight = if was_last { self.last.take()? } else { self.pods.remove(uid)? };
        let Flight { start, latest, mut own, removed } = flight;
        let events = match start.checked_sub(self.first) {
            Some(skip) => {
                let skip = usize::try_from(skip).unwrap_or(usize::MAX);
                own.extend(self.events.iter().skip(skip).cloned());
                Events::Known(own)
            }
            None => Events::Lost,
        };
        self.release((!was_last).then_some(start));
        Some(Finished { latest, removed, events })
    }

    fn release(&mut self, start: Option<u64>) {
        if let Some(start) = start
            && let Some(count) = self.starts.get_mut(&start)
        {
            *count -= 1;
            if *count == 0 {
                self.starts.remove(&start);
            }
        }
        let end = self.first + self.events.len() as u64;
        let first = self.starts.first_key_value().map(|(start, _)| *start);
        let last = self.last.as_ref().map(|flight| flight.start);
        let keep = first.or(last).unwrap_or(end);
        while self.first < keep && self.events.pop_front().is_some() {
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::Action;

    fn pod(name: &str) -> Arc<PodInfo> {
        let object = serde_json::json!({"metadata": {"name": name, "uid": name}});
        Arc::new(PodInfo::new(Arc::new(serde_json::from_value(object).unwrap())))
    }

    fn event() -> Occurrence {
        let event = ClusterEvent::new(Resource::Node, Action::ADD);
        Occurrence { event, subject: Subject::None }
    }

    fn seen(in_flight: &mut InFlight, pod: &PodInfo) -> Option<usize> {
        match in_flight.finish(&pod.uid)?.events {
            Events::Known(events) => Some(events.len()),
            Events::Lost => None,
        }
    }

    #[test]
    fn each_pod_sees_what_came_after_it_started() {
        let (a, b) = (pod("a"), pod("b"));
        let mut in_flight = InFlight::default();
        in_flight.record(&event());
        in_flight.start(&a);
        in_flight.record(&event());
        in_flight.start(&b);
        in_flight.record(&event());
        assert_eq!(seen(&mut in_flight, &a), Some(2));
        assert_eq!(in_flight.events.len(), 1);
        assert_eq!(seen(&mut in_flight, &b), Some(1));
        assert!(in_flight.events.is_empty() && in_flight.starts.is_empty());
    }

    #[test]
    fn the_log_is_bounded() {
        let a = pod("a");
        let mut in_flight = InFlight::default();
        in_flight.start(&a);
        for _ in 0..=EVENTS_MAX {
            in_flight.record(&event());
        }
        assert_eq!(in_flight.events.len(), EVENTS_MAX);
        assert_eq!(seen(&mut in_flight, &a), None);
    }
}
