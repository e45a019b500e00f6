//! What a scheduler holds, counted when somebody asks: the gauges of `pkg/scheduler/metrics`.

use std::collections::BTreeMap;

use super::Scheduler;
use crate::framework::PluginName;
use crate::queue::{Cause, Counts};

/// Numbers of one moment.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Waiting pods.
    pub pending: Counts,
    /// Nodes in the cache.
    pub nodes: usize,
    /// Pods in the cache, assumed ones included.
    pub pods: usize,
    /// Assumed pods.
    pub assumed_pods: usize,
    /// Waiting pods by a plugin that refused them and by the name of their profile.
    pub unschedulable: BTreeMap<(PluginName, String), usize>,
    /// Since the start: how many pods entered which part of the queue, and why.
    pub incoming: Vec<(&'static str, Cause, u64)>,
}

impl Scheduler {
    /// Counts. It looks at every waiting pod that was refused.
    pub fn statistics(&self) -> Statistics {
        let mut unschedulable = BTreeMap::new();
        for pod in self.queue.refused() {
            for plugin in pod.refused_by.iter() {
                let name = pod.info.scheduler_name().to_owned();
                *unschedulable.entry((plugin, name)).or_default() += 1;
            }
        }
        Statistics {
            pending: self.queue.counts(),
            nodes: self.cache.snapshot().nodes().len(),
            pods: self.cache.pod_count(),
            assumed_pods: self.binding.len(),
            unschedulable,
            incoming: self.queue.incoming().collect(),
        }
    }
}
