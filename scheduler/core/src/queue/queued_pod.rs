//! A waiting pod with its history.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::framework::{PluginName, PluginSet};
use crate::pod::PodInfo;
use crate::time::Time;

/// A pod with its history in the queue (`framework.QueuedPodInfo`).
#[derive(Clone, Debug)]
pub struct QueuedPod {
    /// The pod.
    pub info: Arc<PodInfo>,
    /// When it last entered the queue.
    pub queued_at: Time,
    /// When it first became active: from here to its binding counts as its scheduling latency.
    pub first_active_at: Option<Time>,
    /// How often it was popped.
    pub attempts: u32,
    /// How often plugins refused it.
    pub unschedulable_count: u32,
    /// How often in a row something went wrong, such as its binding.
    pub consecutive_errors: u32,
    /// Who refused it last; empty after an error.
    pub refused_by: PluginSet,
    /// The PreEnqueue plugin that holds it back.
    pub(super) gated_by: Option<PluginName>,
    /// Orders pods that were queued at the same time.
    pub(super) sequence: u64,
}

/// Smaller goes first.
pub(super) type ActiveKey = (Reverse<i32>, Time, u64);

impl QueuedPod {
    /// One that nobody has tried yet.
    pub(crate) fn new(info: Arc<PodInfo>, queued_at: Time, sequence: u64) -> Self {
        Self {
            info,
            queued_at,
            first_active_at: None,
            attempts: 0,
            unschedulable_count: 0,
            consecutive_errors: 0,
            refused_by: PluginSet::default(),
            gated_by: None,
            sequence,
        }
    }

    /// The plugins whose objection keeps the pod waiting.
    pub(super) fn held_by(&self) -> PluginSet {
        self.refused_by.or(self.gated_by.into_iter().collect())
    }

    pub(super) fn active_key(&self) -> ActiveKey {
        let (priority, queued_at) = crate::plugins::sort_key(self.info.priority, self.queued_at);
        (priority, queued_at, self.sequence)
    }
}
