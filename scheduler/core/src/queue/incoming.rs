//! Counts what enters which part of the queue, and why: `scheduler_queue_incoming_pods_total`.

use rustc_hash::FxHashMap;

use super::Place;
use crate::framework::{Action, ClusterEvent, Resource};

/// Why a pod enters a part of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It was seen for the first time.
    #[default]
    PodAdd,
    /// It changed.
    PodUpdate,
    /// It was tried, and no node had it, or something went wrong.
    ScheduleAttemptFailure,
    /// Its back-off is over.
    BackoffComplete,
    /// Nothing happened for it for too long.
    UnschedulableTimeout,
    /// Something happened that may help it.
    Event(ClusterEvent),
}

impl Cause {
    /// Upstream's value of the label `event`.
    pub fn label(self) -> String {
        match self {
            Self::PodAdd => "PodAdd".to_owned(),
            Self::PodUpdate => "PodUpdate".to_owned(),
            Self::ScheduleAttemptFailure => "ScheduleAttemptFailure".to_owned(),
            Self::BackoffComplete => "BackoffComplete".to_owned(),
            Self::UnschedulableTimeout => "UnschedulableTimeout".to_owned(),
            Self::Event(ClusterEvent { resource: Resource::WildCard, .. }) => "WildCard".to_owned(),
            Self::Event(ClusterEvent { resource, action }) => {
                let action = match action {
                    Action::ADD => "Add",
                    Action::DELETE => "Delete",
                    _ => "Update",
                };
                format!("{resource:?}{action}")
            }
        }
    }
}

/// The part of the queue, by its name in the label `queue`.
type Part = &'static str;

/// The counters.
#[derive(Clone, Debug, Default)]
pub(super) struct Incoming {
    counts: FxHashMap<(Part, Cause), u64>,
    /// Why what enters now does; nothing if it only goes back to where it was.
    cause: Option<Cause>,
}

impl Incoming {
    /// What enters from here on does so for this reason.
    pub(super) fn because(&mut self, cause: impl Into<Option<Cause>>) {
        self.cause = cause.into();
    }

    pub(super) fn count(&mut self, place: Place) {
        let part = match place {
            Place::Active => "active",
            Place::Backoff(_) | Place::ErrorBackoff(_) => "backoff",
            Place::Unschedulable => "unschedulable",
        };
        if let Some(cause) = self.cause {
            *self.counts.entry((part, cause)).or_default() += 1;
        }
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (Part, Cause, u64)> {
        self.counts.iter().map(|(&(part, cause), &count)| (part, cause, count))
    }
}
