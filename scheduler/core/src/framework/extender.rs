//! Extenders: processes that filter, score and preempt beside the plugins.
//!
//! Mirrors `fwk.Extender`; the calls are whoever implements the trait's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Reason;
use crate::cache::NodeInfo;
use crate::pod::PodInfo;

/// An extender. Calls block the scheduling loop, as upstream's.
pub trait Extender: fmt::Debug + Send + Sync {
    /// What messages call it: its `urlPrefix`.
    fn name(&self) -> &str;

    /// Whether it has a say in this pod (`managedResources`).
    fn is_interested(&self, pod: &PodInfo) -> bool;

    /// Whether it filters.
    fn is_filter(&self) -> bool;

    /// Whether it scores.
    fn is_prioritizer(&self) -> bool;

    /// Whether it has a say in preemption.
    fn supports_preemption(&self) -> bool;

    /// Whether the others go on without it when it fails.
    fn is_ignorable(&self) -> bool;

    /// Which of the nodes will do.
    fn filter(
        &self,
        pod: &PodInfo,
        nodes: &[Arc<NodeInfo>],
    ) -> Result<ExtenderFilter, ExtenderError>;

    /// Scores by node, 0..=10, and what they count.
    fn prioritize(
        &self,
        pod: &PodInfo,
        nodes: &[Arc<NodeInfo>],
    ) -> Result<(BTreeMap<Box<str>, i64>, i64), ExtenderError>;

    /// Which candidates for preemption remain, with which victims.
    fn process_preemption(
        &self,
        pod: &PodInfo,
        candidates: Vec<PreemptionCandidate>,
    ) -> Result<Vec<PreemptionCandidate>, ExtenderError>;
}

/// What an extender's filter answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtenderFilter {
    /// The nodes that will do, by name.
    pub feasible: Vec<Box<str>>,
    /// The others, with reasons; preemption may help.
    pub failed: BTreeMap<Box<str>, Reason>,
    /// The others, with reasons; preemption will not help.
    pub failed_and_unresolvable: BTreeMap<Box<str>, Reason>,
}

/// A node and who would have to leave it.
#[derive(Clone, Debug)]
pub struct PreemptionCandidate {
    /// The node.
    pub node: Arc<NodeInfo>,
    /// Who would have to go.
    pub victims: Vec<Arc<PodInfo>>,
    /// How many of them a PodDisruptionBudget would keep.
    pub pdb_violations: usize,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExtenderError(pub String);
