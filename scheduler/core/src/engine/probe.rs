//! Some plugins' filters and scores for one pod, asked of one node after the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::tournament::NONE;
use crate::cache::{NodeInfo, Snapshot};
use crate::framework::{NodeFilter, NodeScore, Plugin, PreFilter, PreScore, Weighted};
use crate::pod::PodInfo;

/// Filters and scores that need no normalisation, made ready for one pod.
pub(super) struct Probe<'a> {
    filters: Vec<Box<dyn NodeFilter + 'a>>,
    scores: Vec<(Box<dyn NodeScore + 'a>, i64)>,
    /// The nodes to which PreFilter narrows the choice.
    allowed: Option<BTreeSet<&'a str>>,
    /// PreFilter refused the pod.
    refuses_all: bool,
}

/// The plugins do something that the index does not hold: they score beyond bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unusual;

/// Scores are 0..=100 times weights below 2^16, of fewer than 200 plugins.
const TOTAL_MAX: i64 = 1 << 30;

impl<'a> Probe<'a> {
    pub(super) fn new(
        filters: &'a [Arc<dyn Plugin>],
        scores: &'a [Weighted],
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
    ) -> Result<Self, Unusual> {
        let mut probe =
            Self { filters: Vec::new(), scores: Vec::new(), allowed: None, refuses_all: false };
        for plugin in filters {
            match plugin.pre_filter(pod, snapshot) {
                PreFilter::Skip => {}
                PreFilter::Reject(_) => probe.refuses_all = true,
                PreFilter::Filter { nodes, filter } => {
                    probe.filters.push(filter);
                    probe.narrow(nodes);
                }
            }
        }
        for Weighted { plugin, weight } in scores {
            if let PreScore::Score(score) = plugin.pre_score(pod, snapshot, &[]) {
                probe.scores.push((score, *weight));
            }
        }
        Ok(probe)
    }

    fn narrow(&mut self, nodes: Option<BTreeSet<&'a str>>) {
        let Some(mut nodes) = nodes else { return };
        if let Some(before) = &self.allowed {
            nodes.retain(|name| before.contains(name));
        }
        self.allowed = Some(nodes);
    }

    /// The weighted sum of the node's scores; [`NONE`] if it is refused.
    pub(super) fn ask(&self, node: &NodeInfo) -> Result<i32, Unusual> {
        let is_left_out = |names: &BTreeSet<&str>| !names.contains(&**node.name());
        if self.refuses_all || self.allowed.as_ref().is_some_and(is_left_out) {
            return Ok(NONE);
        }
        if self.filters.iter().any(|filter| filter.filter(node).is_err()) {
            return Ok(NONE);
        }
        let scores = self.scores.iter().map(|(score, weight)| score.score(node) * weight);
        bounded(scores.sum())
    }
}

/// A total or a raw score that the index can hold.
pub(super) fn bounded(score: i64) -> Result<i32, Unusual> {
    if !(0..TOTAL_MAX).contains(&score) {
        return Err(Unusual);
    }
    i32::try_from(score).map_err(|_| Unusual)
}
