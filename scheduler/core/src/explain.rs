//! Decisions told to people: why a pod goes to a node, or why to none.
//!
//! [`Cluster`] reads Kubernetes objects as `kubectl get -o yaml` prints them, [`Simulation`]
//! schedules its pending pods with the scheduler that runs in production, and an [`Explanation`]
//! lays one decision open: every node with the plugin that refuses it, or with every score. What
//! is said of nodes is the reference's ([`crate::reference`]); what is chosen is the engine's.

mod cluster;
mod manifest;
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::cache::Snapshot;
use crate::framework::{PluginName, Profile};
use crate::pod::PodInfo;
use crate::reference::{self, NodeVerdict, PluginScore};

pub use cluster::{Cluster, KINDS, Read, ReadKind};
pub use manifest::{Document, ManifestError, documents, to_yaml};
pub use simulation::Simulation;

/// One pod and all nodes. Serialises as the machine-readable output of `pintle simulate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `namespace/name`.
    pub pod: String,
    /// The node it goes to, or is on.
    pub node: Option<String>,
    /// What FailedScheduling says, or why the pod was not looked at; empty if it has a node.
    pub message: String,
    /// The feasible nodes with the highest total, by name.
    pub best: Vec<String>,
    /// The nodes that no plugin refuses, by name.
    pub feasible: Vec<String>,
    /// Every node: feasible ones first, highest total first, then by name.
    pub nodes: Vec<NodeExplanation>,
    /// The node on which preemption makes room.
    pub nominated: Option<String>,
    /// The pods that preemption evicts there, as `namespace/name`.
    pub victims: Vec<String>,
}

/// What there is to say of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum NodeExplanation {
    /// No plugin refuses it.
    #[serde(rename_all = "camelCase")]
    Feasible {
        /// The node.
        name: String,
        /// The sum of normalised scores times weights.
        total: i64,
        /// By plugin, in the order in which they run; plugins that skip the pod are left out.
        #[serde(serialize_with = "by_plugin")]
        scores: Vec<PluginScore>,
    },
    /// A plugin refuses it.
    #[serde(rename_all = "camelCase")]
    Rejected {
        /// The node.
        name: String,
        /// The first plugin that does; joined by a space if PreFilter plugins did together.
        rejected_by: String,
        /// `Unschedulable` or `UnschedulableAndUnresolvable`.
        code: &'static str,
        /// Why, in Kubernetes' wording.
        reason: String,
    },
}

impl NodeExplanation {
    /// The node's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Feasible { name, .. } | Self::Rejected { name, .. } => name,
        }
    }

    fn rank(&self) -> (bool, i64, &str) {
        match self {
            Self::Feasible { name, total, .. } => (false, total.saturating_neg(), name),
            Self::Rejected { name, .. } => (true, 0, name),
        }
    }
}

fn by_plugin<S: Serializer>(scores: &[PluginScore], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Score {
        raw: i64,
        normalized: i64,
        weight: i64,
    }
    let mut map = serializer.serialize_map(Some(scores.len()))?;
    for PluginScore { plugin, raw, normalized, weight } in scores {
        let score = Score { raw: *raw, normalized: *normalized, weight: *weight };
        map.serialize_entry(plugin.as_str(), &score)?;
    }
    map.end()
}

/// The pod against every node of the snapshot as it stands. `node` is left empty: choosing among
/// the best is another's.
pub fn explain(profile: &Profile, snapshot: &Snapshot, pod: &PodInfo) -> Explanation {
    let evaluation = reference::evaluate(profile, snapshot, pod);
    let name = |node: usize| snapshot.nodes()[node].name().to_string();
    let pre_filters: Vec<&str> =
        evaluation.diagnosis.plugins.iter().map(PluginName::as_str).collect();
    let verdicts = evaluation.nodes.into_iter().enumerate();
    let mut nodes: Vec<NodeExplanation> =
        verdicts.map(|(node, verdict)| one_node(name(node), verdict, &pre_filters)).collect();
    nodes.sort_by(|a, b| a.rank().cmp(&b.rank()));
    let feasible: BTreeSet<String> = nodes
        .iter()
        .filter(|node| matches!(node, NodeExplanation::Feasible { .. }))
        .map(|node| node.name().to_owned())
        .collect();
    let mut best: Vec<String> = evaluation.best.into_iter().map(name).collect();
    best.sort_unstable();
    let message = if best.is_empty() { evaluation.diagnosis.to_string() } else { String::new() };
    let feasible = feasible.into_iter().collect();
    Explanation { message, best, feasible, nodes, ..Explanation::of(pod) }
}

fn one_node(name: String, verdict: NodeVerdict, pre_filters: &[&str]) -> NodeExplanation {
    match verdict {
        NodeVerdict::Feasible { scores, total } => {
            NodeExplanation::Feasible { name, total, scores }
        }
        NodeVerdict::Rejected { plugin, rejection } => NodeExplanation::Rejected {
            name,
            rejected_by: match plugin {
                Some(plugin) => plugin.as_str().to_owned(),
                None => pre_filters.join(" "),
            },
            code: rejection.code().as_str(),
            reason: rejection.message(),
        },
    }
}

impl Explanation {
    /// Nothing said yet of this pod.
    fn of(pod: &PodInfo) -> Self {
        Self {
            pod: name_of(pod),
            node: None,
            message: String::new(),
            best: Vec::new(),
            feasible: Vec::new(),
            nodes: Vec::new(),
            nominated: None,
            victims: Vec::new(),
        }
    }
}

/// `namespace/name`.
fn name_of(pod: &PodInfo) -> String {
    format!("{}/{}", pod.namespace(), pod.name())
}

/// A pod that its file left without a node, worked out.
type Pending = Arc<PodInfo>;
