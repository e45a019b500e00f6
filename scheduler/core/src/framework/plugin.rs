//! The extension points of a plugin, and the names of Kubernetes' default plugins.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::{
    ClusterEvent, Hint, Occurrence, PostFilter, PostFilterContext, Rejection, Step, Verdict,
};
use crate::cache::{NodeInfo, Snapshot};
use crate::pod::PodInfo;
use crate::preemption::CandidateSearch;

/// The highest normalised score of a node.
pub const MAX_NODE_SCORE: i64 = 100;

/// The points at which upstream's framework calls plugins, in the order of a pod's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExtensionPoint {
    /// May keep a pod out of the active queue.
    PreEnqueue,
    /// Orders the active queue.
    QueueSort,
    /// Looks at the pod once, before any node.
    PreFilter,
    /// Refuses nodes.
    Filter,
    /// Tries to make room when no node is left.
    PostFilter,
    /// Looks at the pod once, before nodes are scored.
    PreScore,
    /// Scores nodes.
    Score,
    /// Keeps what the pod will use.
    Reserve,
    /// Delays or denies the binding.
    Permit,
    /// Works before the binding.
    PreBind,
    /// Binds.
    Bind,
    /// Hears of the binding.
    PostBind,
}

/// A scheduling plugin. Every point has a default that does nothing.
pub trait Plugin: fmt::Debug + Send + Sync {
    /// Which plugin this is.
    fn name(&self) -> PluginName;

    /// The plugin itself, if an engine may compute what it does in another way from its arguments.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }

    /// Whether the pod may enter the active queue.
    fn pre_enqueue(&self, _pod: &PodInfo, _snapshot: &Snapshot) -> Verdict {
        Ok(())
    }

    /// Looks at the pod before any node: the filter for this pod, or why there is none.
    fn pre_filter<'a>(&'a self, _pod: &'a PodInfo, _snapshot: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::Skip
    }

    /// Looks at the pod before its feasible nodes (indices into the snapshot) are scored.
    fn pre_score<'a>(
        &'a self,
        _pod: &'a PodInfo,
        _snapshot: &'a Snapshot,
        _feasible: &[usize],
    ) -> PreScore<'a> {
        PreScore::Skip
    }

    /// Looks for help for a pod that no node will have; `None` if the plugin never helps.
    fn post_filter(
        &self,
        _context: &PostFilterContext<'_>,
        _search: &mut dyn CandidateSearch,
    ) -> Option<PostFilter> {
        None
    }

    /// Takes for the pod what it needs of other objects on this node: what is to be written before
    /// the pod is bound. It is assumed from here on. A refusal puts the pod back.
    fn reserve(
        &self,
        _pod: &PodInfo,
        _snapshot: &Snapshot,
        _node: &NodeInfo,
    ) -> Result<Vec<Step>, Rejection> {
        Ok(Vec::new())
    }

    /// The events that could lift a refusal of this plugin (`EventsToRegister`).
    fn events(&self) -> &'static [ClusterEvent] {
        &[]
    }

    /// Whether a registered event could lift the refusal of this pod (`QueueingHintFn`).
    fn hint(&self, _pod: &PodInfo, _occurrence: &Occurrence, _snapshot: &Snapshot) -> Hint {
        Hint::Queue
    }
}

/// What PreFilter answers.
pub enum PreFilter<'a> {
    /// No node will be refused by this plugin.
    Skip,
    /// No node will do.
    Reject(Rejection),
    /// Ask the filter for each node.
    Filter {
        /// If given, only these nodes come into question.
        nodes: Option<BTreeSet<&'a str>>,
        /// Refuses nodes for this pod.
        filter: Box<dyn NodeFilter + 'a>,
    },
}

impl<'a> PreFilter<'a> {
    /// A filter that every node is put before.
    pub fn every_node(filter: impl NodeFilter + 'a) -> Self {
        Self::Filter { nodes: None, filter: Box::new(filter) }
    }
}

/// A plugin's filter for one pod.
pub trait NodeFilter {
    /// Whether the pod may run on the node.
    fn filter(&self, node: &NodeInfo) -> Verdict;

    /// As [`NodeFilter::filter`], for who knows the node's index in the snapshot.
    fn filter_at(&self, _row: usize, node: &NodeInfo) -> Verdict {
        self.filter(node)
    }

    /// Leaves out the rows of nodes that the pod may not run on.
    fn retain_rows(&self, rows: &mut Vec<usize>, nodes: &[Arc<NodeInfo>]) {
        rows.retain(|&row| self.filter_at(row, &nodes[row]).is_ok());
    }
}

/// What PreScore answers.
pub enum PreScore<'a> {
    /// The plugin adds nothing to any node.
    Skip,
    /// Ask the score for each node.
    Score(Box<dyn NodeScore + 'a>),
}

impl<'a> PreScore<'a> {
    /// A score for each feasible node.
    pub fn each(score: impl NodeScore + 'a) -> Self {
        Self::Score(Box::new(score))
    }
}

/// A plugin's score for one pod.
pub trait NodeScore {
    /// The raw score of the pod on the node.
    fn score(&self, node: &NodeInfo) -> i64;

    /// As [`NodeScore::score`], for who knows the node's index in the snapshot.
    fn score_at(&self, _row: usize, node: &NodeInfo) -> i64 {
        self.score(node)
    }

    /// Appends the raw scores of the nodes in these rows.
    fn score_rows(&self, rows: &[usize], nodes: &[Arc<NodeInfo>], scores: &mut Vec<i64>) {
        scores.extend(rows.iter().map(|&row| self.score_at(row, &nodes[row])));
    }

    /// Brings the raw scores of all feasible nodes to 0..=100; by default they are there already.
    fn normalize(&self, _scores: &mut [i64]) {}
}

macro_rules! plugin_names {
    ($($name:ident),* $(,)?) => {
        /// The default plugins by Kubernetes' names, in the order in which they run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the names are Kubernetes' and say all")]
        pub enum PluginName { $($name),* }

        impl PluginName {
            /// Every plugin.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name as configuration and messages have it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }
    };
}

plugin_names!(
    SchedulingGates,
    PrioritySort,
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    VolumeRestrictions,
    NodeVolumeLimits,
    VolumeBinding,
    VolumeZone,
    PodTopologySpread,
    InterPodAffinity,
    DynamicResources,
    DefaultPreemption,
    NodeResourcesBalancedAllocation,
    ImageLocality,
    DefaultBinder,
    NodeDeclaredFeatures,
    GangScheduling,
);

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of plugins.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct PluginSet(u32);

impl PluginSet {
    /// Adds a plugin.
    pub fn insert(&mut self, plugin: PluginName) {
        self.0 |= 1 << plugin as u32;
    }

    /// Whether the plugin is in the set.
    pub fn contains(self, plugin: PluginName) -> bool {
        self.0 & (1 << plugin as u32) != 0
    }

    /// Adds the extenders: a pod that they refused may be helped by any event.
    pub fn insert_extenders(&mut self) {
        self.0 |= EXTENDERS;
    }

    /// Whether the extenders are in the set.
    pub fn contains_extenders(self) -> bool {
        self.0 & EXTENDERS != 0
    }

    /// The plugins of either set.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether no plugin is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The plugins of both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The plugins, in the order in which they run.
    pub fn iter(self) -> impl Iterator<Item = PluginName> {
        PluginName::ALL.iter().copied().filter(move |plugin| self.contains(*plugin))
    }
}

/// No plugin has this bit.
const EXTENDERS: u32 = 1 << 31;

impl FromIterator<PluginName> for PluginSet {
    fn from_iter<I: IntoIterator<Item = PluginName>>(plugins: I) -> Self {
        let mut set = Self::default();
        plugins.into_iter().for_each(|plugin| set.insert(plugin));
        set
    }
}

impl fmt::Debug for PluginSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
